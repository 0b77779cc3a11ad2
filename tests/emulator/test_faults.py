"""Faults that the service is told to make, seen by Google's client and by a plain connection."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
import requests
from google.api_core import exceptions
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from components.errors import InputError
from emulator.faults import Fault, FaultInjection, Faults, _Dice, read_faults
from emulator.jobs import JobStore
from emulator.server import create_app
from tests.emulator.conftest import PARENT, Service
from tests.emulator.samples import one_step, spec_of


def jobs(service):
    return {job.name.rsplit("/", 1)[1] for job in service.client.list_pipeline_jobs(parent=PARENT)}


def admin(service, method, document=None):
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(f"{service.url}/faults", body, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


@pytest.fixture(scope="module")
def waiting(tmp_path_factory):
    """A service that keeps every job waiting."""
    with Service(tmp_path_factory.mktemp("faults") / "jobs", "--max-running", "0") as service:
        yield service


CASES = [
    ({"answer": 503}, exceptions.ServiceUnavailable, False),
    ({"answer": 429}, exceptions.TooManyRequests, False),
    ({"answer": 500}, exceptions.InternalServerError, False),
    ({"answer": 503, "when": "after"}, exceptions.ServiceUnavailable, True),
    ({"cut": True}, requests.ConnectionError, False),
    ({"cut": True, "when": "after"}, requests.ConnectionError, True),
]


@pytest.mark.parametrize(("number", "case"), list(enumerate(CASES)))
def test_a_fault_fails_before_or_after_the_job_is_kept(waiting, number, case):
    (fault, error, created), name = case, f"first-{number}"
    admin(waiting, "POST", {"faults": [{**fault, "count": 1}]})
    with pytest.raises(error):
        waiting.create(one_step, name)
    assert (name in jobs(waiting)) == created
    if created:
        with pytest.raises(exceptions.Conflict):
            waiting.create(one_step, name)
    else:
        assert waiting.create(one_step, name).endswith(name)
    assert admin(waiting, "GET")["met"] == [1]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_delay_outlasts_the_clients_patience_and_the_job_is_there(waiting, when):
    admin(waiting, "POST", {"faults": [{"delay_seconds": 1.5, "when": when, "count": 1}]})
    body = {"pipelineSpec": spec_of(one_step), "runtimeConfig": {"gcsOutputDirectory": "gs://bucket/root"}}
    request = urllib.request.Request(
        f"{waiting.url}/v1/{PARENT}/pipelineJobs?pipelineJobId=late-{when}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(request, timeout=0.3)
    deadline = time.monotonic() + 20
    while f"late-{when}" not in jobs(waiting):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_file_of_faults_and_the_admin_calls(tmp_path):
    file = tmp_path / "faults.json"
    file.write_text(json.dumps({"seed": 3, "faults": [{"answer": 503, "method": "list"}]}))
    with Service(tmp_path / "jobs", "--max-running", "0", "--faults", str(file)) as service:
        with pytest.raises(exceptions.ServiceUnavailable):
            service.client.list_pipeline_jobs(parent=PARENT, retry=None)
        service.create(one_step, "a")
        assert admin(service, "GET") == {"seed": 3, "faults": [{"answer": 503, "method": "list"}], "met": [1]}
        assert admin(service, "DELETE") == {"faults": [], "met": []}
        assert jobs(service) == {"a"}
        with pytest.raises(urllib.error.HTTPError) as refused:
            admin(service, "POST", {"faults": [{"answer": 404}]})
        assert refused.value.code == 400
        assert "faults.0.answer" in json.load(refused.value)["error"]["message"]


def test_jobs_that_wait_survive_a_kill(tmp_path):
    with Service(tmp_path / "jobs", "--max-running", "0") as service:
        service.create(one_step, "a")
        service.stop(9)
    with Service(tmp_path / "jobs", "--max-running", "0") as service:
        assert jobs(service) == {"a"}
        assert service.client.get_pipeline_job(name=f"{PARENT}/pipelineJobs/a").state.name == "PIPELINE_STATE_PENDING"


def test_only_this_machine_sets_faults(tmp_path):
    app = FaultInjection(create_app(JobStore(tmp_path)), Faults(faults=[]))
    with TestClient(app, client=("10.0.0.7", 1)) as client:
        answer = client.get("/faults")
        assert answer.status_code == 403
        assert "from the machine" in answer.json()["error"]["message"]
        assert client.get("/healthz").status_code == 200
    with TestClient(
        FaultInjection(create_app(JobStore(tmp_path / "2")), Faults(faults=[])), client=("::1", 1)
    ) as client:
        assert client.get("/faults").json() == {"faults": [], "met": []}
        assert client.put("/faults").status_code == 501


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "the document: Invalid JSON"),
        ('{"faults": [{}]}', "exactly one of answer, cut and delay_seconds"),
        ('{"faults": [{"answer": 503, "cut": true}]}', "exactly one of answer, cut and delay_seconds"),
        ('{"faults": [{"answer": 404}]}', "faults.0.answer"),
        ('{"faults": [{"cut": true, "rate": 2}]}', "faults.0.rate"),
        ('{"faults": [{"cut": true, "rate": 0}]}', "faults.0.rate"),
        ('{"faults": [{"cut": true, "count": 0}]}', "faults.0.count"),
        ('{"faults": [{"cut": true, "often": 1}]}', "faults.0.often"),
        ('{"seed": "a", "faults": []}', "seed"),
        ("{}", "faults: Field required"),
    ],
)
def test_wrong_faults_are_named(content, problem):
    with pytest.raises(InputError, match="The faults are wrong") as error:
        read_faults(content)
    assert problem in str(error.value)


@pytest.mark.parametrize("content", [None, "nonsense"])
def test_a_wrong_file_is_a_headline_and_a_sentence(tmp_path, content):
    file = tmp_path / "faults.json"
    if content:
        file.write_text(content)
    command = [sys.executable, "-m", "emulator", "--port", "0", "--folder", str(tmp_path), "--faults", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.startswith("The faults cannot be used\n")
    assert "Traceback" not in ended.stderr


FAULTS = st.builds(
    Fault,
    cut=st.just(True),
    method=st.sampled_from(["create", "get", "any"]),
    rate=st.floats(0.01, 1),
    count=st.none() | st.integers(1, 5),
)


@given(st.integers(), st.lists(FAULTS, max_size=4), st.lists(st.sampled_from(["create", "get", "list"]), max_size=60))
def test_a_seed_repeats_itself_and_a_count_is_kept(seed, faults, methods):
    dice = [_Dice(Faults(seed=seed, faults=faults)) for _ in range(2)]
    thrown = [[each.throw(method) for method in methods] for each in dice]
    assert thrown[0] == thrown[1]
    for fault, met in zip(faults, dice[0].met, strict=True):
        assert fault.count is None or met <= fault.count
    for method, fault in zip(methods, thrown[0], strict=True):
        assert fault is None or fault.method in (method, "any")


def test_a_rate_is_kept():
    dice = _Dice(Faults(seed=1, faults=[Fault(answer=503, rate=0.2)]))
    assert 150 < sum(dice.throw("create") is not None for _ in range(1000)) < 250
