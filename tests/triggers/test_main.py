"""The function behind functions-framework, with Google's client and its REST transport."""

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.cloud import pubsub_v1

REQUEST = {"version": 1, "pipeline": "two_steps", "parameters": {"count": 3}}
DEAD_LETTERS = "projects/my-project/topics/rejected"


def lines(capsys):
    """Returns what the function logged, by severity."""
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    return [(entry["severity"], entry) for entry in printed]


def test_a_message_becomes_a_job(push, vertex, capsys):
    document = REQUEST | {"machine": ["t4-1", "l4-1"], "run_key": "daily-{date}", "labels": {"team": "nlp"}}
    assert push(document) == 200
    [(job_id, job)] = vertex.jobs.items()
    assert job_id.startswith("two-steps-")
    assert job["displayName"] == "two_steps daily-2026-01-31"
    assert job["runtimeConfig"]["gcsOutputDirectory"] == "gs://bucket/root"
    assert job["runtimeConfig"]["parameterValues"] == {"count": 3, "run_key": "daily-2026-01-31"}
    assert job["labels"].pop("request-fingerprint")
    labels = {"team": "nlp", "pipeline": "two_steps", "run-key": "daily-2026-01-31", "machine": "t4-1"} | {
        "message-id": "7"
    }
    assert job["labels"] == labels
    gpu = job["pipelineSpec"]["deploymentSpec"]["executors"]["exec-on-gpu"]["container"]
    assert gpu["resources"]["accelerator"]["type"] == "NVIDIA_TESLA_T4"
    [(severity, entry)] = lines(capsys)
    assert severity == "INFO"
    assert entry["job"] == job["name"]
    assert (entry["runKey"], entry["messageId"], entry["machine"]) == ("daily-2026-01-31", "7", "t4-1")
    assert entry["logging.googleapis.com/labels"] == {"messageId": "7", "pipeline": "two_steps"}


def test_a_machine_that_the_region_has_not_is_passed_over_and_that_is_said(push, vertex, capsys, monkeypatch):
    monkeypatch.setenv("VERTEX_LOCATION", "us-east1")
    vertex.parent = "projects/my-project/locations/us-east1"
    assert push(REQUEST | {"machine": ["h100-8-spot", "l4-1-spot"]}) == 200
    [job] = vertex.jobs.values()
    assert job["labels"].items() >= {"machine": "l4-1-spot", "machines-passed-over": "h100-8-spot"}.items()
    [(_, entry)] = lines(capsys)
    assert entry["machine"] == "l4-1-spot, because us-east1 offers no h100-8-spot"


def test_a_binary_cloud_event_is_the_same_message(push, vertex):
    assert push(REQUEST) == 200
    message = {"data": base64.b64encode(json.dumps(REQUEST).encode()).decode(), "messageId": "7"}
    headers = {
        "ce-id": "7",
        "ce-source": "//pubsub.googleapis.com/projects/my-project/topics/runs",
        "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
        "ce-time": "2026-01-31T05:06:07.123456789Z",
        "ce-specversion": "1.0",
    }
    body = {"message": message, "subscription": "s", "deliveryAttempt": 2}
    assert push.client.post("/", json=body, headers=headers).status_code == 200
    assert len(vertex.creates) == 2
    assert len(vertex.jobs) == 1


BAD = [
    (b"hello", "is not JSON"),
    (b"[]", "is not a JSON object"),
    ("%%%", "is not base64"),
    ("", "has no data"),
    ({"version": 2, "pipeline": "two_steps"}, "version is 2"),
    (REQUEST | {"enable_cache": False}, "no field 'enable_cache'"),
    (REQUEST | {"pipeline": "two_step"}, "Did you mean 'two_steps'"),
    (REQUEST | {"pipeline": "gs://bucket/two_steps"}, "no pipeline 'gs://bucket/two_steps'"),
    (REQUEST | {"parameters": {}}, "count must be given"),
    (REQUEST | {"parameters": {"count": "3"}}, "count is text"),
    (REQUEST | {"parameters": {"count": 3, "cuont": 3}}, "Did you mean 'count'"),
    (REQUEST | {"machine": "l4-3"}, "The nearest are: l4-"),
    (REQUEST | {"labels": {"Team": "nlp"}}, "'Team' cannot be the name of a label"),
    (REQUEST | {"run_key": ""}, "run_key"),
]


@pytest.mark.parametrize(("document", "problem"), BAD)
def test_a_bad_message_is_acknowledged_and_named(push, vertex, capsys, document, problem):
    assert push(document) == 200
    assert vertex.creates == []
    [(severity, entry)] = lines(capsys)
    assert severity == "ERROR"
    assert problem in entry["message"]
    assert entry["messageId"] == "7"


def test_another_event_is_acknowledged(push, vertex, capsys):
    headers = {"ce-id": "1", "ce-source": "s", "ce-type": "anything.at.all", "ce-specversion": "1.0"}
    assert push.client.post("/", json={"message": {}}, headers=headers).status_code == 200
    [(severity, entry)] = lines(capsys)
    assert (severity, vertex.creates) == ("ERROR", [])
    assert "anything.at.all" in entry["message"]


def test_400_from_the_service_is_permanent(push, vertex, capsys):
    vertex.failures = [(400, False)]
    assert push(REQUEST) == 200
    [(severity, entry)] = lines(capsys)
    assert severity == "ERROR"
    assert "No, because of this" in entry["message"]


def test_a_project_that_is_not_ready_keeps_the_message(push, vertex, capsys):
    """Vertex AI answers 400 also while it sets up its service agents, of which no message can know."""
    vertex.failures, vertex.status = [(400, False)], "FAILED_PRECONDITION"
    assert push(REQUEST) == 500
    assert [severity for severity, _ in lines(capsys)] == ["WARNING"]
    assert push(REQUEST) == 200
    assert len(vertex.jobs) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503, 504])
def test_what_passes_is_raised_and_submitted_once_when_it_comes_again(push, vertex, capsys, status):
    vertex.failures = [(status, False)]
    assert push(REQUEST) == 500
    assert [severity for severity, _ in lines(capsys)] == ["WARNING"]
    assert push(REQUEST) == 200
    assert len(vertex.creates) == 2
    assert len(vertex.jobs) == 1


def test_a_job_that_was_created_before_the_answer_was_lost_is_found_again(push, vertex, capsys):
    vertex.failures = [(503, True)]
    assert push(REQUEST) == 500
    assert push(REQUEST) == 200
    assert len(vertex.jobs) == 1
    assert "was already submitted" in lines(capsys)[-1][1]["message"]


def test_nothing_listens(push, monkeypatch, capsys):
    monkeypatch.setenv("AIPLATFORM_EMULATOR_HOST", "127.0.0.1:9")
    assert push(REQUEST) == 500
    assert [severity for severity, _ in lines(capsys)] == ["WARNING"]


def test_the_same_key_is_the_same_run(push, vertex):
    for message_id in "789":
        assert push(REQUEST | {"run_key": "k"}, message_id=message_id) == 200
    assert len(vertex.jobs) == 1
    for message_id in "789":
        assert push(REQUEST, message_id=message_id) == 200
    assert len(vertex.jobs) == 4


def test_a_restarted_emulator_that_counts_from_1_again_makes_new_runs(push, vertex):
    push(REQUEST, message_id="1", published="2026-01-31T05:00:00Z")
    push(REQUEST, message_id="1", published="2026-01-31T06:00:00Z")
    assert len(vertex.jobs) == 2


def test_one_key_for_two_requests_names_the_job(push, vertex, capsys):
    push(REQUEST | {"run_key": "k"})
    assert push(REQUEST | {"run_key": "k", "parameters": {"count": 4}}, message_id="8") == 200
    [(job_id, _)] = vertex.jobs.items()
    severity, entry = lines(capsys)[-1]
    assert severity == "ERROR"
    assert job_id in entry["message"]


def test_a_conflict_over_a_job_that_is_not_there_is_delivered_again(push, vertex):
    vertex.failures = [(409, False)]
    assert push(REQUEST) == 500


@pytest.mark.parametrize(
    "name", ["GOOGLE_CLOUD_PROJECT", "VERTEX_LOCATION", "PIPELINE_ROOT", "COMPILED_FOLDER", "COMPONENT_IMAGE"]
)
def test_missing_configuration_is_named_and_the_message_kept(push, vertex, monkeypatch, capsys, name):
    if name == "COMPILED_FOLDER":
        monkeypatch.setenv(name, "/nowhere")
    else:
        monkeypatch.delenv(name, raising=False)
    if name == "COMPONENT_IMAGE":
        monkeypatch.delenv("AIPLATFORM_EMULATOR_HOST")
    assert push(REQUEST) == 500
    assert vertex.creates == []
    [(severity, entry)] = lines(capsys)
    assert severity == "WARNING"
    assert ("/nowhere" if name == "COMPILED_FOLDER" else f"{name} is not set") in entry["message"]


def test_a_bad_message_is_set_aside_also_where_nothing_is_configured(push, monkeypatch):
    for name in ("GOOGLE_CLOUD_PROJECT", "VERTEX_LOCATION", "PIPELINE_ROOT"):
        monkeypatch.delenv(name)
    assert push(b"hello") == 200


def test_neither_the_body_nor_a_value_is_logged(push, capsys):
    secret = "hunter2"  # noqa: S105
    for document in (
        f'{{"version": 1, "pipeline": "two_steps", {secret}'.encode(),
        REQUEST | {"parameters": {"count": secret}},
        REQUEST | {"parameters": secret},
        REQUEST | {"parameters": {"count": 3, "text": secret}},
    ):
        push(document)
    captured = capsys.readouterr()
    assert secret not in captured.out + captured.err


def test_messages_on_several_threads_are_each_submitted_once(push, vertex):
    ready = threading.Barrier(8)

    def deliver(number: int) -> int:
        ready.wait()
        return push(REQUEST, message_id=str(number // 2))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(deliver, range(8))) == {200}
    assert len(vertex.jobs) == 4


@pytest.fixture
def rejected(pubsub, monkeypatch):
    """The dead-letter topic, as a function that takes what waits there."""
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    publisher.create_topic(name=DEAD_LETTERS)
    reader = "projects/my-project/subscriptions/rejected"
    subscriber.create_subscription(name=reader, topic=DEAD_LETTERS)
    publisher.stop()
    monkeypatch.setenv("DEAD_LETTER_TOPIC", "rejected")
    with subscriber:
        yield lambda: [
            received.message
            for received in subscriber.pull(
                subscription=reader, max_messages=10, return_immediately=True
            ).received_messages
        ]


def test_a_bad_message_goes_to_the_dead_letter_topic(push, rejected, capsys):
    attributes = {"timeout": "5", "reason": "an older one", "googclient_x": "y"}
    assert push(b"hello", attributes=attributes) == 200
    [message] = rejected()
    assert message.data == b"hello"
    assert message.attributes["source_message_id"] == "7"
    assert message.attributes["timeout"] == "5"
    assert "is not JSON" in message.attributes["reason"]
    assert "googclient_x" not in message.attributes
    assert [severity for severity, _ in lines(capsys)] == ["ERROR"]


def test_what_pubsub_limits_is_cut(push, rejected):
    attributes = {f"a{number}": "x" for number in range(100)}
    assert push(REQUEST | {f"ü{number}": 0 for number in range(300)}, attributes=attributes) == 200
    [message] = rejected()
    assert len(message.attributes) == 100
    assert len(message.attributes["reason"].encode()) <= 1024
    assert message.attributes["source_message_id"] == "7"


def test_a_message_that_cannot_be_set_aside_comes_again(push, pubsub, monkeypatch, capsys):
    monkeypatch.setenv("DEAD_LETTER_TOPIC", "projects/my-project/topics/missing")
    assert push(b"hello") == 500
    assert [severity for severity, _ in lines(capsys)] == ["WARNING"]
