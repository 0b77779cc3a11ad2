"""Message to predictions: Google's Pub/Sub emulator, functions-framework, the local Vertex AI service and kfp.local."""

import csv
import json
import re
import time

import pyarrow.parquet as pq
import pytest

from emulator.stack import DEAD_LETTER_TOPIC, OUTCOME_TOPIC, TOPIC, Stack, find_pubsub_jar
from tests.conftest import require_tool
from tests.tiny_model import build_tiny_model
from tests.training_rows import TRAINING, write_rows
from triggers.pubsub import publish

TEXTS = ["my card was charged twice", "I cannot log in", "the parcel never came", "please cancel my plan"]
LABELS = ["billing", "access", "delivery", "cancellation"]


@pytest.fixture(scope="module")
def running_stack(tmp_path_factory):
    require_tool(find_pubsub_jar)
    with Stack(tmp_path_factory.mktemp("stack"), min_backoff=1, max_backoff=2) as stack:
        yield stack


@pytest.fixture
def stack(running_stack, monkeypatch):
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", running_stack.pubsub.address)
    return running_stack


def request(pipeline="basic", **fields):
    parameters = fields.pop("parameters", {"first": "trans", "second": "former"})
    return json.dumps({"version": 1, "pipeline": pipeline, "parameters": parameters, **fields}).encode()


def log_lines(stack, since):
    """What the function has logged as structured entries since a position in its log."""
    lines = stack.function.log.read_text()[since:].splitlines()
    return [json.loads(line) for line in lines if line.startswith('{"severity"')]


def log_position(stack):
    return len(stack.function.log.read_text())


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
    return result


def names(stack):
    return {job["name"] for job in stack.jobs()}


def wait_for_new_job(stack, known):
    (name,) = wait_until(lambda: names(stack) - known)
    return wait_until(lambda: (job := stack.get(name))["state"].endswith(("SUCCEEDED", "FAILED")) and job, 240)


def count_submissions(stack, since):
    return len([line for line in log_lines(stack, since) if line["severity"] == "INFO"])


def test_a_message_becomes_predictions(stack, tmp_path):
    source, output = tmp_path / "tickets.csv", tmp_path / "predictions"
    rows = [(f"t{n}", f"{TEXTS[n % 4]} {n}", LABELS[n % 4]) for n in range(103)]
    with source.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text", "label"), *rows])
    model = build_tiny_model(tmp_path / "model", LABELS, TEXTS)
    known = names(stack)
    parameters = {
        "input_uri": str(source),
        "model": str(model),
        "output_uri": str(output),
        "id_column": "id",
        "label_column": "label",
        "num_shards": 3,
        "batch_size": 8,
        "outcome_topic": OUTCOME_TOPIC,
    }

    publish(TOPIC, request("batch_classification", parameters=parameters, machine="t4-1", run_key="whole path"))

    job = wait_for_new_job(stack, known)
    assert job["state"] == "PIPELINE_STATE_SUCCEEDED", job.get("error")
    written = pq.read_table(output).to_pylist()
    assert [(row["id"], row["text"], row["label"]) for row in written] == rows
    assert {row["prediction"] for row in written} <= set(LABELS)
    for row in written:
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert row["score"] == max(row["probabilities"])
        assert row["prediction"] == LABELS[row["probabilities"].index(row["score"])]

    executors = job["pipelineSpec"]["deploymentSpec"]["executors"]
    cards = {name: e["container"].get("resources", {}).get("accelerator", {}) for name, e in executors.items()}
    assert {name: card.get("type") for name, card in cards.items() if card} == {"exec-classify-text": "NVIDIA_TESLA_T4"}

    tasks = job["jobDetail"]["taskDetails"]
    steps = {t["taskName"]: t["state"] for t in tasks if "execution" in t}
    assert steps["evaluate-predictions"] == "SUCCEEDED" and set(steps.values()) == {"SUCCEEDED"}
    (metrics,) = [
        a["metadata"]
        for t in tasks
        for o in t.get("outputs", {}).values()
        for a in o.get("artifacts", [])
        if a["schemaTitle"] == "system.Metrics"
    ]
    right = sum(row["label"] == row["prediction"] for row in written) / len(written)
    assert metrics["accuracy"] == pytest.approx(right)

    (outcome,) = stack.pull(OUTCOME_TOPIC, timeout=20)
    said = json.loads(outcome["data"])
    assert (said["state"], said["job"], said["output_uri"]) == ("SUCCEEDED", job["name"], str(output))
    assert said["run_key"] == "whole path"


def test_a_message_trains_a_champion_and_the_next_message_uses_it(stack, tmp_path):
    write_rows(tmp_path / "rows.csv")
    known = names(stack)
    where = {"input_uri": str(tmp_path / "rows.csv"), "label_column": "label"}
    training = TRAINING | where | {"store_uri": str(tmp_path / "models"), "model_name": "tickets"}

    publish(TOPIC, request("train_classifier", parameters=training, machine="t4-1"))

    job = wait_for_new_job(stack, known)
    assert job["state"] == "PIPELINE_STATE_SUCCEEDED", job.get("error")
    executors = job["pipelineSpec"]["deploymentSpec"]["executors"]
    cards = {name: e["container"].get("resources", {}).get("accelerator", {}) for name, e in executors.items()}
    assert {card["type"] for card in cards.values() if card} == {"NVIDIA_TESLA_T4"}
    assert sum(bool(card) for card in cards.values()) == 4  # tune, fine-tune, and two evaluations

    known = names(stack)
    champion = {"model": f"{tmp_path / 'models'}/tickets@champion", "output_uri": str(tmp_path / "out")}
    publish(TOPIC, request("batch_classification", parameters=where | champion))
    job = wait_for_new_job(stack, known)
    assert job["state"] == "PIPELINE_STATE_SUCCEEDED", job.get("error")
    written = pq.read_table(tmp_path / "out").to_pylist()
    assert sum(row["prediction"] == row["label"] for row in written) > 0.9 * len(written)


def test_a_run_that_fails_announces_why(stack, tmp_path):
    known = names(stack)
    model = build_tiny_model(tmp_path / "model", LABELS, TEXTS)
    parameters = {"input_uri": str(tmp_path / "absent.csv"), "model": str(model), "output_uri": str(tmp_path / "out")}
    publish(
        TOPIC, request("batch_classification", parameters={**parameters, "outcome_topic": OUTCOME_TOPIC}, run_key="bad")
    )
    job = wait_for_new_job(stack, known)
    assert job["state"] == "PIPELINE_STATE_FAILED" and "absent.csv" in job["error"]["message"]
    said = json.loads(stack.pull(OUTCOME_TOPIC, timeout=20)[0]["data"])
    assert said["state"] == "FAILED" and said["job"] == job["name"] and said["error"]
    assert not (tmp_path / "out").exists()


def test_a_message_delivered_again_after_a_failure_is_one_run(stack):
    known, since = names(stack), log_position(stack)
    stack.vertex.stop()
    publish(TOPIC, request())
    wait_until(lambda: [line for line in log_lines(stack, since) if line["severity"] == "WARNING"])
    stack.vertex.start()
    job = wait_for_new_job(stack, known)
    assert job["state"] == "PIPELINE_STATE_SUCCEEDED"
    wait_until(lambda: count_submissions(stack, since) == 1)
    assert names(stack) - known == {job["name"]}


def test_the_same_run_key_is_one_run(stack):
    known, since = names(stack), log_position(stack)
    for _ in range(3):
        publish(TOPIC, request(run_key="only-once"))
    wait_until(lambda: count_submissions(stack, since) == 3)
    assert len(names(stack) - known) == 1


def test_the_same_run_key_for_another_run_is_refused_by_name(stack):
    known, since = names(stack), log_position(stack)
    publish(TOPIC, request(run_key="taken"))
    job = wait_for_new_job(stack, known)
    publish(TOPIC, request(run_key="taken", parameters={"first": "another"}))
    (error,) = wait_until(lambda: [line for line in log_lines(stack, since) if line["severity"] == "ERROR"])
    assert job["name"].rsplit("/", 1)[1] in error["message"]
    assert names(stack) - known == {job["name"]}
    assert len(stack.pull(DEAD_LETTER_TOPIC, timeout=20)) == 1


def test_a_restarted_pubsub_that_counts_from_one_again_makes_two_runs(tmp_path, monkeypatch):
    require_tool(find_pubsub_jar)
    with Stack(tmp_path, min_backoff=1, max_backoff=2) as stack:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", stack.pubsub.address)
        first = publish(TOPIC, request())
        wait_until(lambda: len(names(stack)) == 1)
        stack.pubsub.stop()
        stack.pubsub.start()
        stack.create_topics()
        second = publish(TOPIC, request())
        assert first == second
        wait_until(lambda: len(names(stack)) == 2)


def test_no_pubsub_emulator_delivers_by_push(tmp_path):
    with Stack(tmp_path, with_pubsub=False) as stack:
        assert stack.deliver(request(), "1") < 300
        job = wait_for_new_job(stack, set())
        assert job["state"] == "PIPELINE_STATE_SUCCEEDED"
        assert stack.deliver(b"nonsense", "2") < 300
        assert len(stack.jobs()) == 1


BAD_MESSAGES = {
    "not JSON": (b"{", "not JSON"),
    "not UTF-8": (b"\xff\xfe", "UTF-8"),
    "a list": (b"[]", "object"),
    "another version": (b'{"version": 2, "pipeline": "basic", "parameters": {"first": "a"}}', "version"),
    "an unknown field": (request(enable_pipeline_caching=True), "enable_pipeline_caching"),
    "an unknown pipeline": (request("../../etc/passwd"), "pipeline"),
    "an unknown machine": (request(machine="l4-3"), "l4-3"),
    "an unknown parameter": (request(parameters={"first": "a", "third": "b"}), "third"),
    "a missing parameter": (request(parameters={"second": "b"}), "first"),
    "a wrong type": (request(parameters={"first": 1}), "first"),
    "a label that Vertex refuses": (request(labels={"Team": "A B"}), "label"),
}


def test_bad_messages_make_no_run_and_one_error_each(stack):
    known, since = names(stack), log_position(stack)
    for data, _ in BAD_MESSAGES.values():
        publish(TOPIC, data)
    errors = wait_until(
        lambda: (
            len(lines := [e for e in log_lines(stack, since) if e["severity"] == "ERROR"]) >= len(BAD_MESSAGES)
            and lines
        )
    )
    rejected = []
    wait_until(lambda: rejected.extend(stack.pull(DEAD_LETTER_TOPIC)) or len(rejected) >= len(BAD_MESSAGES))
    # Long enough for a message that was not acknowledged to come again.
    time.sleep(3)
    errors = [e for e in log_lines(stack, since) if e["severity"] == "ERROR"]
    assert len(errors) == len(rejected) == len(BAD_MESSAGES)
    assert names(stack) == known
    reasons = {message["data"]: message["attributes"]["reason"] for message in rejected}
    for name, (data, word) in BAD_MESSAGES.items():
        assert word in reasons[data], f"{name}: {reasons[data]}"
        assert any(word in error["message"] for error in errors), name


def test_a_run_key_names_the_day(stack):
    known = names(stack)
    publish(TOPIC, request(run_key="daily-{date}"))
    job = wait_for_new_job(stack, known)
    assert re.search(r"daily-\d{4}-\d\d-\d\d$", job["displayName"])
