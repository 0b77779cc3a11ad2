"""Runs over HTTP, and found by their messages, with the local Vertex AI service."""

import json
import os
import subprocess
import sys

import functions_framework
import pytest

from tests.emulator.conftest import Service
from tests.triggers.conftest import ROOT, push_body
from triggers.find import find as find_runs
from triggers.jobs import console_link
from triggers.settings import Settings, read_settings

REQUEST = {"version": 1, "pipeline": "basic", "parameters": {"first": "a"}}
SOURCE = str(ROOT / "triggers" / "main.py")
TRACE = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with Service(tmp_path_factory.mktemp("api") / "jobs", "--max-running", "0") as running:
        yield running


@pytest.fixture
def surroundings(service, monkeypatch):
    settings = {
        "GOOGLE_CLOUD_PROJECT": "demo",
        "VERTEX_LOCATION": "europe-west4",
        "PIPELINE_ROOT": "gs://bucket/root",
        "AIPLATFORM_EMULATOR_HOST": service.url.removeprefix("http://"),
        "COMPILED_FOLDER": str(ROOT / "compiled"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return settings


@pytest.fixture
def client(surroundings):
    return functions_framework.create_app("on_request", SOURCE, "http").test_client()


@pytest.fixture
def message(surroundings):
    push = functions_framework.create_app("on_message", SOURCE, "cloudevent").test_client()

    def deliver(document, **fields):
        body = push_body(json.dumps(document).encode(), **fields)
        return push.post("/projects/demo/topics/runs", json=body).status_code

    return deliver


def test_a_run_is_submitted_once_shown_listed_and_cancelled(client):
    document = REQUEST | {"run_key": "first-run", "labels": {"team": "nlp"}}
    made = client.post("/runs", json=document, headers={"traceparent": f"00-{TRACE}-0123456789abcdef-01"})
    assert made.status_code == 201
    assert (made.json["run_key"], made.json["existed"]) == ("first-run", False)
    assert made.json["job"].endswith(f"/pipelineJobs/{made.json['id']}")
    again = client.post("/runs", json=document)
    assert (again.status_code, again.json["existed"], again.json["id"]) == (200, True, made.json["id"])

    shown = client.get(f"/runs/{made.json['id']}").json
    assert (shown["pipeline"], shown["state"], shown["title"]) == ("basic", "PENDING", "basic first-run")
    assert shown["labels"]["team"] == "nlp"
    assert shown["labels"]["trace"] == TRACE

    second = client.post("/runs", json=REQUEST | {"run_key": "second-run"}).json["id"]
    listed = client.get("/runs?pipeline=basic&page_size=1").json
    assert [run["id"] for run in listed["runs"]] == [second]
    rest = client.get("/runs", query_string={"page_size": 1, "page_token": listed["next_page_token"]}).json
    assert [run["id"] for run in rest["runs"]] == [made.json["id"]]
    assert [run["id"] for run in client.get("/runs?run_key=first-run").json["runs"]] == [made.json["id"]]
    assert client.get("/runs?pipeline=other").json == {"runs": [], "next_page_token": ""}

    cancelled = client.post(f"/runs/{second}:cancel", json={})
    assert (cancelled.status_code, cancelled.json["state"]) == (200, "CANCELLED")


def test_jobs_of_others_are_neither_shown_nor_cancelled(client, service):
    from tests.emulator.samples import one_step

    service.create(one_step, "not-ours")
    assert client.get("/runs/not-ours").status_code == 404
    assert client.post("/runs/not-ours:cancel", json={}).status_code == 404
    assert "not-ours" not in client.get("/runs").text


WRONG = [
    ("POST", "/runs", b"hello", 400, "is not JSON"),
    ("POST", "/runs", REQUEST, 400, "has no run_key"),
    ("POST", "/runs", REQUEST | {"run_key": "k", "pipeline": "basik"}, 400, "There is no pipeline 'basik'"),
    ("POST", "/runs", REQUEST | {"run_key": "k", "parameters": {"fist": "a"}}, 400, "Did you mean 'first'"),
    ("POST", "/runs", REQUEST | {"run_key": "k", "machine": "l4-3"}, 400, "no machine 'l4-3'"),
    ("POST", "/runs", REQUEST | {"run_key": "taken", "parameters": {"first": "b"}}, 409, "belongs to another run"),
    ("POST", "/runs/a:stop", {}, 404, "GET /openapi.json"),
    ("PUT", "/runs", {}, 405, "no such method"),
    ("GET", "/runs/none", None, 404, "has made no such run"),
    ("GET", "/runs?page_size=1000", None, 400, "page_size"),
    ("GET", "/runs?page_token=x", None, 400, "List again from the first page"),
    ("GET", "/runs?run_key=A%20B", None, 400, "cannot be searched for"),
    ("GET", "/runs?state=FAILED", None, 400, "no parameter 'state'"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "problem"), WRONG)
def test_a_wrong_request_is_refused_in_a_sentence(client, method, path, body, status, problem):
    client.post("/runs", json=REQUEST | {"run_key": "taken"})
    data = body if isinstance(body, bytes) else json.dumps(body)
    answer = client.open(path, method=method, data=data, content_type="application/json")
    assert answer.status_code == answer.json["error"]["code"] == status
    assert problem in f"{answer.json['error']['headline']} {answer.json['error']['remedy']}"


def test_only_this_machine_and_no_web_page_is_let_in(client, monkeypatch):
    elsewhere = {"REMOTE_ADDR": "10.0.0.7"}
    assert client.get("/runs", environ_base=elsewhere).status_code == 403
    assert client.get("/runs", headers={"Host": "evil.example"}).status_code == 403
    assert client.post("/runs", data=json.dumps(REQUEST), content_type="text/plain").status_code == 415
    # On Cloud Run, IAM stands before the function.
    monkeypatch.setenv("K_SERVICE", "runs")
    assert client.get("/runs", environ_base=elsewhere, headers={"Host": "runs.a.run.app"}).status_code == 200


def test_a_service_that_does_not_answer_is_503(client, monkeypatch, capsys):
    monkeypatch.setenv("AIPLATFORM_EMULATOR_HOST", "127.0.0.1:9")
    for answer in (client.get("/runs"), client.post("/runs", json=REQUEST | {"run_key": "k"})):
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "10"
        assert "127.0.0.1:9" not in answer.text
    assert capsys.readouterr().out.count('"severity": "WARNING"') == 2


def test_what_vertex_does_not_allow_is_for_the_log_only(configured, vertex, capsys):
    vertex.failures = [(403, False)]
    client = functions_framework.create_app("on_request", SOURCE, "http").test_client()
    document = {"version": 1, "pipeline": "two_steps", "parameters": {"count": 1}, "run_key": "k"}
    answer = client.post("/runs", json=document)
    assert (answer.status_code, answer.json["error"]["headline"]) == (500, "The function is not set up.")
    assert "because of this" in capsys.readouterr().out


def test_missing_configuration_is_for_the_log_only(client, monkeypatch, capsys):
    monkeypatch.delenv("PIPELINE_ROOT")
    answer = client.post("/runs", json=REQUEST | {"run_key": "k"})
    assert answer.status_code == 500
    assert "PIPELINE_ROOT" not in answer.text
    assert "PIPELINE_ROOT is not set" in capsys.readouterr().out


def test_the_interface_describes_itself(client):
    described = client.get("/openapi.json").json
    assert described["openapi"] == "3.1.0"
    operations = {
        operation["operationId"]: operation
        for path in described["paths"].values()
        for operation in path.values()
        if isinstance(operation, dict)
    }
    assert set(operations) == {"submit", "list", "show", "cancel"}
    submitted = operations["submit"]["requestBody"]["content"]["application/json"]["schema"]
    assert submitted["allOf"][1]["required"] == ["run_key"]
    model = described["components"]["schemas"]["RunRequest"]
    assert {"version", "pipeline", "run_key"} <= model["properties"].keys()
    references = set()

    def walk(node):
        if isinstance(node, dict):
            references.update([node["$ref"]] if "$ref" in node else [])
            list(map(walk, node.values()))
        elif isinstance(node, list):
            list(map(walk, node))

    walk(described)
    for reference in references:
        target = described
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def find(environment, *arguments):
    command = [sys.executable, "-m", "triggers.find", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=os.environ | environment, timeout=60, check=False
    )


def test_a_run_is_found_from_its_message_and_back(message, surroundings, capsys):
    attributes = {"googclient_traceparent": f"00-{TRACE}-0123456789abcdef-01"}
    assert message(REQUEST | {"run_key": "Found: by key"}, message_id="4711", attributes=attributes) == 200
    entry = json.loads(capsys.readouterr().out)
    assert entry["logging.googleapis.com/trace"] == f"projects/demo/traces/{TRACE}"
    for arguments in (["--run-key", "Found: by key"], ["--message-id", "4711"]):
        found = find(surroundings, *arguments)
        assert found.returncode == 0, found.stderr
        said = dict(line.split(": ", 1) for line in found.stdout.splitlines())
        assert said["job"].strip() == entry["job"]
        assert (said["state"].strip(), said["message"].strip()) == ("PENDING", "4711")
        assert said["console"].strip().endswith(f"/v1/{entry['job']}")


def test_a_message_without_a_run_key_is_found_by_the_key_in_the_log(message, surroundings, capsys):
    assert message(REQUEST, message_id="4712") == 200
    entry = json.loads(capsys.readouterr().out)
    assert entry["job"] in find(surroundings, "--run-key", entry["runKey"], "--pipeline", "basic").stdout


def test_a_key_is_found_with_and_without_its_placeholders(client, surroundings):
    made = client.post("/runs", json=REQUEST | {"run_key": "period-{period:9999d}"}).json
    settings = read_settings()
    for key in ("period-{period:9999d}", made["run_key"]):
        assert [job["id"] for job in find_runs(settings, run_key=key)] == [made["id"]]
    assert find_runs(settings, run_key=made["run_key"], pipeline="batch_classification") == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "Give either --run-key or --message-id."),
        (["--run-key", "a", "--message-id", "1"], 2, "Give either"),
        (["--message-id", 'a" OR "'], 2, "is no message's id"),
        (["--run-key", "a", "--pipeline", "basik"], 2, "Did you mean 'basic'"),
        (["--run-key", "never"], 1, "There is no such run"),
    ],
)
def test_what_is_not_found_is_a_sentence(surroundings, arguments, code, said):
    found = find(surroundings, *arguments)
    assert found.returncode == code
    assert said in found.stderr
    assert "Traceback" not in found.stderr


def test_the_console_link_names_the_project_and_the_region():
    settings = Settings("my-project", "europe-west4", "gs://b/r")
    name = "projects/123/locations/europe-west4/pipelineJobs/basic-1"
    expected = (
        "https://console.cloud.google.com/vertex-ai/pipelines/locations/europe-west4/runs/basic-1?project=my-project"
    )
    assert console_link(name, settings) == expected
