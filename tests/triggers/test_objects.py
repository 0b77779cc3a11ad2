"""A new object in a bucket becomes a run, once."""

import json

import functions_framework
import pytest

from tests.triggers.conftest import ROOT
from tests.triggers.test_main import lines

RULES = [
    {
        "name": "texts",
        "bucket": "my-bucket",
        "prefix": "in/",
        "pipeline": "two_steps",
        "parameters": {"count": 1, "text": "{uri}"},
    },
]
BROKEN = {"name": "broken", "bucket": "my-bucket", "prefix": "broken/", "pipeline": "two_steps"}


@pytest.fixture
def arrive(configured, tmp_path, monkeypatch):
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"version": 1, "rules": RULES}))
    monkeypatch.setenv("RULES_FILE", str(rules))
    source = str(ROOT / "triggers" / "main.py")
    client = functions_framework.create_app("on_object_finalized", source, "cloudevent").test_client()

    def deliver(name, generation="1", event_id="e1", **headers):
        about = {
            "ce-id": event_id,
            "ce-source": "//storage.googleapis.com/projects/_/buckets/my-bucket",
            "ce-type": "google.cloud.storage.object.v1.finalized",
            "ce-time": "2026-01-31T05:06:07Z",
            "ce-specversion": "1.0",
            "ce-subject": f"objects/{name}",
        } | headers
        data = {"bucket": "my-bucket", "name": name, "generation": generation, "metageneration": "1"}
        return client.post("/", json=data, headers=about).status_code

    return deliver


def test_an_object_becomes_a_job(arrive, vertex, capsys):
    assert arrive("in/{date} ü.csv") == 200
    [(job_id, job)] = vertex.jobs.items()
    key = "gs://my-bucket/in/{date} ü.csv#1"
    given = {"count": 1, "text": "gs://my-bucket/in/{date} ü.csv", "run_key": key}
    assert job["runtimeConfig"]["parameterValues"] == given
    assert job["displayName"] == f"two_steps {key}"
    [(severity, entry)] = lines(capsys)
    assert (severity, entry["jobId"], entry["runKey"], entry["messageId"]) == ("INFO", job_id, key, "e1")


def test_an_object_is_one_run_and_its_next_content_another(arrive, vertex):
    for event_id in ("e1", "e1", "e2"):
        assert arrive("in/a.csv", event_id=event_id) == 200
    assert len(vertex.jobs) == 1
    assert arrive("in/a.csv", generation="2", event_id="e3") == 200
    assert arrive("in/b.csv", event_id="e4") == 200
    assert len(vertex.jobs) == 3


def test_an_object_that_no_rule_matches_starts_nothing(arrive, vertex, capsys):
    assert arrive("out/a.csv") == 200
    assert arrive("in/") == 200
    assert vertex.creates == []
    assert [(severity, entry["message"], entry["object"]) for severity, entry in lines(capsys)] == [
        ("INFO", "No rule matches the object.", "gs://my-bucket/out/a.csv"),
        ("INFO", "No rule matches the object.", "gs://my-bucket/in/"),
    ]


@pytest.mark.parametrize(
    ("name", "changed", "problem"),
    [
        ("in/*.csv", {}, "would read other objects too"),
        ("in/a", {"ce-type": "google.cloud.storage.object.v1.deleted"}, "deleted"),
    ],
)
def test_a_wrong_event_is_set_aside(arrive, vertex, capsys, name, changed, problem):
    assert arrive(name, **changed) == 200
    [(severity, entry)] = lines(capsys)
    assert (severity, vertex.creates) == ("ERROR", [])
    assert problem in entry["message"]


def test_an_event_that_names_no_object_is_set_aside(arrive, vertex, capsys):
    assert arrive("in/a", generation="latest") == 200
    assert "names no object" in lines(capsys)[0][1]["message"]


def test_missing_rules_keep_the_event(arrive, vertex, monkeypatch, capsys):
    monkeypatch.setenv("RULES_FILE", "/nowhere/rules.json")
    assert arrive("in/a") == 500
    [(severity, entry)] = lines(capsys)
    assert severity == "WARNING"
    assert "Deploy the rules with the trigger" in entry["message"]


def test_a_wrong_rule_keeps_the_event(arrive, vertex, tmp_path, capsys):
    """It is not the object that is wrong: the event waits until the rules are mended."""
    path = tmp_path / "rules.json"
    right = path.read_text()
    path.write_text(json.dumps({"version": 1, "rules": [*RULES, BROKEN]}))
    assert arrive("broken/a") == 500
    [(severity, entry)] = lines(capsys)
    assert (severity, vertex.creates) == ("WARNING", [])
    assert "The rule broken is wrong. The pipeline's parameter count must be given." in entry["message"]
    path.write_text(right.replace("in/", "broken/"))
    assert arrive("broken/a") == 200
    assert len(vertex.jobs) == 1


def test_what_passes_is_delivered_again(arrive, vertex):
    vertex.failures = [(503, True)]
    assert arrive("in/a") == 500
    assert arrive("in/a") == 200
    assert len(vertex.jobs) == 1
