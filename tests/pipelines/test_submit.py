"""A run that is submitted by hand is the request that a message would carry."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.submit import console_address, make_run
from tests.emulator.conftest import Service
from triggers.errors import PermanentError
from triggers.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = Settings("my-project", "europe-west4", "gs://bucket/root")
NEEDED = {"input_uri": "gs://b/in", "model": "gs://b/model", "output_uri": "gs://b/out"}


def test_the_run_is_compiled_now_and_checked_as_a_message():
    run = make_run("batch_classification", NEEDED | {"num_shards": "3"}, settings=SETTINGS, machines=["l4-1-spot"])
    assert run.parameters["num_shards"] == 3
    assert run.labels["machine"] == "l4-1-spot"
    container = run.spec["deploymentSpec"]["executors"]["exec-classify-text"]["container"]
    assert json.loads(container["args"][3])["job_spec"]["scheduling"]["strategy"] == "SPOT"


def test_each_call_is_a_run_of_its_own_unless_it_has_a_key():
    runs = [make_run("basic", {"first": "a"}, settings=SETTINGS) for _ in range(2)]
    assert runs[0].job_id != runs[1].job_id
    same = [make_run("basic", {"first": "a"}, settings=SETTINGS, run_key="k") for _ in range(2)]
    assert same[0].job_id == same[1].job_id


@pytest.mark.parametrize(
    ("texts", "options", "problem"),
    [
        ({}, {}, "first must be given"),
        ({"first": "a"}, {"machines": ["l4-3"]}, "no machine 'l4-3'. The nearest are: l4-"),
        ({"first": "a"}, {"labels": {"Team": "x"}}, "label"),
    ],
)
def test_a_wrong_request_is_refused(texts, options, problem):
    with pytest.raises(PermanentError, match=problem):
        make_run("basic", texts, settings=SETTINGS, **options)


def test_where_a_person_sees_it():
    assert console_address("projects/p/locations/europe-west4/pipelineJobs/j") == (
        "https://console.cloud.google.com/vertex-ai/pipelines/locations/europe-west4/runs/j?project=p"
    )


def command(environment, *arguments):
    run = [sys.executable, "-m", "pipelines.run", *arguments, "--backend", "vertex"]
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_EMULATOR_HOST")} | environment
    return subprocess.run(run, cwd=ROOT, capture_output=True, text=True, env=environment)


def test_it_is_submitted_to_the_service_once(tmp_path):
    with Service(tmp_path / "jobs") as service:
        environment = {
            "AIPLATFORM_EMULATOR_HOST": service.url.removeprefix("http://"),
            "GOOGLE_CLOUD_PROJECT": "demo",
            "VERTEX_LOCATION": "europe-west4",
            "PIPELINE_ROOT": "gs://bucket/root",
        }
        arguments = ["basic", "--param", "first=trans", "--run-key", "k", "--machine", "t4-1", "--label", "team=nlp"]
        first = command(environment, *arguments)
        assert first.returncode == 0, first.stderr
        assert "No step of basic asks for a GPU, so the machine t4-1 changes nothing." in first.stdout
        name = first.stdout.split()[2]
        assert service.wait(name).state.name == "PIPELINE_STATE_SUCCEEDED"
        labels = service.client.get_pipeline_job(name=name).labels
        assert dict(labels).items() >= {"machine": "t4-1", "team": "nlp", "run-key": "k"}.items()
        assert "was already submitted" in command(environment, *arguments).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["basics"], "There is no pipeline 'basics'"),
        (["basic", "--param", "first=a"], "GOOGLE_CLOUD_PROJECT is not set"),
        (["basic", "--param", "first=a", "--label", "x"], "--label x has no ="),
    ],
)
def test_what_is_missing_is_said(arguments, words):
    environment = {"PIPELINE_ROOT": "gs://bucket/root", "GOOGLE_CLOUD_PROJECT": "", "VERTEX_LOCATION": "europe-west4"}
    done = command(environment, *arguments)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


def test_a_service_that_is_not_there_is_said():
    environment = {
        "AIPLATFORM_EMULATOR_HOST": "127.0.0.1:1",
        "GOOGLE_CLOUD_PROJECT": "demo",
        "VERTEX_LOCATION": "europe-west4",
        "PIPELINE_ROOT": "gs://bucket/root",
    }
    done = command(environment, "basic", "--param", "first=a")
    assert done.returncode == 2, done.stderr
    assert "The service did not take the job." in done.stderr and "Traceback" not in done.stderr
