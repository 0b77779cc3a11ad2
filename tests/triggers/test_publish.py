import json
import subprocess
import sys

import pytest
import typer
from google.cloud import pubsub_v1
from typer.testing import CliRunner

from triggers.publish import main

TOPIC = "projects/my-project/topics/runs"


@pytest.fixture
def publish(compiled, monkeypatch):
    monkeypatch.setenv("COMPILED_FOLDER", str(compiled))
    app = typer.Typer()
    app.command()(main)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_a_dry_run_prints_the_message_and_the_job(publish):
    done = publish(
        *("two_steps", "--param", "count=3", "--param", "items=[1, 2]", "--param", "text=a=b", "--param", "flag=true"),
        *("--machine", "a100-40-1", "--run-key", "k", "--label", "team=nlp", "--no-cache", "--topic", TOPIC),
        "--dry-run",
    )
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["topic"] == TOPIC
    assert printed["message"] == {
        "version": 1,
        "pipeline": "two_steps",
        "parameters": {"count": 3, "items": [1, 2], "text": "a=b", "flag": True},
        "machine": "a100-40-1",
        "run_key": "k",
        "enable_caching": False,
        "labels": {"team": "nlp"},
    }
    assert printed["job_id"].startswith("two-steps-")
    job = printed["pipeline_job"]
    assert job["runtimeConfig"]["parameterValues"]["count"] == 3
    gpu = job["pipelineSpec"]["deploymentSpec"]["executors"]["exec-on-gpu"]["container"]
    assert gpu["resources"]["accelerator"]["type"] == "NVIDIA_TESLA_A100"
    assert "PIPELINE_ROOT" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["two_step"], "Did you mean 'two_steps'"),
        (["two_steps"], "count must be given"),
        (["two_steps", "--param", "count"], "not of the form k=v"),
        (["two_steps", "--param", "count=1", "--param", "count=2"], "given twice"),
        (["two_steps", "--param", "count=many"], "count is not an integer"),
        (["two_steps", "--param", "count=1", "--param", "rate=inf"], "not JSON"),
        (["two_steps", "--param", "count=1", "--machine", "l4"], "no machine 'l4'"),
        (["two_steps", "--param", "count=1", "--label", "A=b"], "label"),
        (["two_steps", "--param", "count=1", "--run-key", ""], "run_key"),
        (["two_steps", "--param", "count=1"], "give --topic"),
        (["two_steps", "--param", "count=1", "--topic", "runs"], "GOOGLE_CLOUD_PROJECT is not set"),
    ],
)
def test_what_the_trigger_would_refuse_is_not_published(publish, arguments, problem):
    done = publish(*arguments)
    assert done.exit_code == 2
    assert problem in done.stderr
    assert "Traceback" not in done.output


def test_a_message_is_published(publish, pubsub, monkeypatch):
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    publisher.create_topic(name=TOPIC)
    publisher.stop()
    reader = "projects/my-project/subscriptions/reader"
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    monkeypatch.setenv("PIPELINE_TOPIC", "runs")
    with subscriber:
        subscriber.create_subscription(name=reader, topic=TOPIC)
        done = publish("two_steps", "--param", "count=3", "--machine", "l4-1", "--machine", "t4-1", "--run-key", "k")
        assert done.exit_code == 0, done.output
        [received] = subscriber.pull(subscription=reader, max_messages=2).received_messages
    assert f"Published message {received.message.message_id} to {TOPIC}." in done.stdout
    assert "It becomes the job two-steps-" in done.stdout
    assert json.loads(received.message.data) == {
        "version": 1,
        "pipeline": "two_steps",
        "parameters": {"count": 3},
        "machine": ["l4-1", "t4-1"],
        "run_key": "k",
    }


def test_a_missing_topic_is_one_sentence(publish, pubsub):
    done = publish("two_steps", "--param", "count=3", "--topic", TOPIC)
    assert done.exit_code == 2
    assert "Pub/Sub did not take the message" in done.stderr


def test_the_help_has_an_example():
    done = subprocess.run([sys.executable, "-m", "triggers.publish", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "Example: python -m triggers.publish" in done.stdout


def test_the_trigger_imports_neither_kfp_nor_torch_nor_its_siblings():
    code = (
        "import sys, triggers.main, triggers.publish, triggers.bundle\n"
        "print({'kfp', 'torch', 'transformers', 'components', 'pipelines', 'emulator'} & sys.modules.keys() or 'none')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "none"
