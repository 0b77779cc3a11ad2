import json

import pytest
from google.cloud import pubsub_v1
from kfp import dsl

from components import concat, publish_outcome
from components.errors import InputError
from components.messaging.publish_outcome.publish import make_outcome, publish
from tests.local_run import run_pipeline

TOPIC = "projects/local-project/topics/outcomes"
READER = "projects/local-project/subscriptions/reader"
JOB = "projects/p/locations/l/pipelineJobs/j"


@pytest.fixture
def topic(pubsub):
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    publisher.create_topic(name=TOPIC)
    subscriber.create_subscription(name=READER, topic=TOPIC)
    publisher.stop()
    with subscriber:
        yield lambda: [
            m.message for m in subscriber.pull(subscription=READER, max_messages=10, timeout=20).received_messages
        ]


def test_outcome_reaches_the_topic(topic):
    outcome = make_outcome("p", JOB, "daily", "FAILED", "Task classify failed.", "gs://b/out")
    assert publish(outcome, TOPIC)
    (message,) = topic()
    assert json.loads(message.data) == {
        "version": 1,
        "pipeline": "p",
        "job": JOB,
        "run_key": "daily",
        "state": "FAILED",
        "error": "Task classify failed.",
        "output_uri": "gs://b/out",
        "time": outcome.time,
    }
    assert dict(message.attributes) == {"pipeline": "p", "state": "FAILED", "run_key": "daily"}


def test_no_topic_publishes_nothing():
    assert publish(make_outcome("p", JOB, "", "SUCCEEDED", None, ""), "") == ""


@pytest.mark.parametrize(
    "topic", ["outcomes", "projects/p/topics/", "projects/p/subscriptions/s", "projects/p/topics/t/x"]
)
def test_malformed_topic_is_one_sentence(topic):
    with pytest.raises(InputError, match="projects/PROJECT/topics/TOPIC"):
        publish(make_outcome("p", JOB, "", "SUCCEEDED", None, ""), topic)


def test_missing_topic_is_an_input_error(pubsub):
    with pytest.raises(InputError, match="Create the topic"):
        publish(make_outcome("p", JOB, "", "SUCCEEDED", None, ""), "projects/local-project/topics/absent")


@dsl.pipeline
def announced(topic: str):
    with dsl.ExitHandler(publish_outcome(pipeline="announced", topic=topic, run_key="k", output_uri="gs://b/o")):
        concat(first="a", second="b")


def test_component_announces_from_an_exit_handler(topic, tmp_path):
    run_pipeline(announced, tmp_path, topic=TOPIC)
    (message,) = topic()
    outcome = json.loads(message.data)
    assert outcome["state"] == "SUCCEEDED" and outcome["error"] == "" and outcome["run_key"] == "k"
