"""The whole system on one machine: Pub/Sub emulator, trigger, Vertex AI service, each a process, each stopped again.

The demo and the end-to-end tests start the same parts in the same way, and every part is the one that production uses
or, where that is Google's service, its emulator.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from emulator.processes import Process, free_port

PROJECT, LOCATION = "local-project", "europe-west4"
TOPIC = f"projects/{PROJECT}/topics/runs"
DEAD_LETTER_TOPIC = f"projects/{PROJECT}/topics/runs-rejected"
OUTCOME_TOPIC = f"projects/{PROJECT}/topics/outcomes"


class MissingToolError(RuntimeError):
    """A tool that is no Python package is not on this machine; the message says which, and how to get it."""


def find_pubsub_jar() -> Path:
    """Finds Google's Pub/Sub emulator in gcloud's own folder.

    Returns:
        The emulator's jar. It is started directly, because gcloud's wrapper leaves Java behind when it is stopped.

    Raises:
        MissingToolError: gcloud, its Pub/Sub emulator or Java is missing.
    """
    gcloud = shutil.which("gcloud")
    if not gcloud:
        raise MissingToolError("gcloud is not installed: https://cloud.google.com/sdk/docs/install.")
    root = subprocess.run(
        [gcloud, "info", "--format=value(installation.sdk_root)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    jars = sorted(Path(root, "platform/pubsub-emulator/lib").glob("cloud-pubsub-emulator-*-all.jar"))
    if not jars:
        raise MissingToolError("gcloud has no Pub/Sub emulator: run `gcloud components install pubsub-emulator`.")
    if not shutil.which("java"):
        raise MissingToolError("Java is not installed, and Google's Pub/Sub emulator needs it.")
    return jars[-1]


def pubsub_emulator(folder: Path, port: int = 0) -> Process:
    """Makes Google's Pub/Sub emulator, not yet started.

    Raises:
        MissingToolError: It is not on this machine.
    """
    port = port or free_port()
    java = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-jar", str(find_pubsub_jar())]
    return Process(
        "The Pub/Sub emulator", [*java, "--host=127.0.0.1", f"--port={port}"], folder / "pubsub.log", {}, port
    )


def vertex_service(folder: Path, env: Mapping[str, str | None], port: int = 0, options: Sequence[str] = ()) -> Process:
    """Makes the local Vertex AI Pipelines service; its jobs are kept in the folder, and outlive it."""
    port = port or free_port()
    command = [sys.executable, "-m", "emulator", "--port", str(port), "--folder", str(folder / "vertex"), *options]
    return Process("The local Vertex AI service", command, folder / "vertex.log", env, port)


def trigger_function(
    folder: Path, env: Mapping[str, str | None], port: int = 0, source: Path | None = None, target: str = "on_message"
) -> Process:
    """Makes the function under functions-framework and gunicorn, as Cloud Run functions runs it."""
    port = port or free_port()
    source = source or Path(__file__).resolve().parent.parent / "triggers" / "main.py"
    arguments = ["--source", str(source), "--target", target, "--signature-type", "cloudevent"]
    command = [sys.executable, "-m", "functions_framework", *arguments, "--host", "127.0.0.1", "--port", str(port)]
    return Process("The trigger", command, folder / "trigger.log", env, port)


class Stack(AbstractContextManager["Stack"]):
    """Pub/Sub, trigger and Vertex AI service, joined by a push subscription.

    Args:
        folder: Where logs, jobs and artifacts are kept.
        with_pubsub: Without Google's emulator, `deliver` hands a message to the function as Pub/Sub's push would.
        min_backoff: Seconds before a message that the function refused comes again (10 in production). 0 sets no retry
            policy, and it comes again after about a second: with a policy, the emulator (0.8.20) forgets most of a
            backlog of more than ten messages that it could not deliver twice.
        max_backoff: The most seconds between two deliveries (600 in production).
        env: Environment variables for the trigger, on top of those that join the parts.
        vertex_options: More options of `python -m emulator`, such as `--faults FILE`.

    Attributes:
        pubsub: The Pub/Sub emulator; None without it.
        vertex: The local Vertex AI service.
        function: The trigger.
    """

    def __init__(
        self,
        folder: Path,
        with_pubsub: bool = True,
        min_backoff: int = 10,
        max_backoff: int = 600,
        env: Mapping[str, str | None] | None = None,
        vertex_options: Sequence[str] = (),
    ):
        self.folder, self._backoff, self._resources = folder, (min_backoff, max_backoff), ExitStack()
        # Nothing here may reach Google: no client finds credentials or a metadata server to wait for.
        shared: dict[str, str | None] = {"NO_GCE_CHECK": "true", "GOOGLE_APPLICATION_CREDENTIALS": None}
        self.pubsub = pubsub_emulator(folder) if with_pubsub else None
        if self.pubsub:
            shared["PUBSUB_EMULATOR_HOST"] = self.pubsub.address
        self.vertex = vertex_service(folder, shared, options=vertex_options)
        settings = {
            "AIPLATFORM_EMULATOR_HOST": self.vertex.address,
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "VERTEX_LOCATION": LOCATION,
            "PIPELINE_ROOT": "gs://local-bucket/runs",
            "DEAD_LETTER_TOPIC": DEAD_LETTER_TOPIC if with_pubsub else None,
        }
        self.function = trigger_function(folder, {**shared, **settings, **(env or {})})

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            for process in filter(None, (self.pubsub, self.vertex, self.function)):
                resources.enter_context(process)
            if self.pubsub:
                os.environ["PUBSUB_EMULATOR_HOST"] = self.pubsub.address
                resources.callback(os.environ.pop, "PUBSUB_EMULATOR_HOST", None)
                self.create_topics()
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def create_topics(self) -> None:
        """Makes the topics, the push subscription to the function, and pull subscriptions to look at."""
        from google.cloud import pubsub_v1

        with pubsub_v1.SubscriberClient() as subscriber:
            publisher = pubsub_v1.PublisherClient()
            for topic in (TOPIC, DEAD_LETTER_TOPIC, OUTCOME_TOPIC):
                publisher.create_topic(name=topic)
            publisher.stop()
            for topic in (DEAD_LETTER_TOPIC, OUTCOME_TOPIC):
                subscriber.create_subscription(name=_reader(topic), topic=topic)
            minimum, maximum = self._backoff
            retry = {"minimum_backoff": {"seconds": minimum}, "maximum_backoff": {"seconds": maximum}}
            subscriber.create_subscription(
                request={
                    "name": TOPIC.replace("/topics/", "/subscriptions/") + "-push",
                    "topic": TOPIC,
                    # functions-framework takes the topic's name, which CloudEvents need as their source, from the path.
                    "push_config": {"push_endpoint": f"http://{self.function.address}/{TOPIC}"},
                    "ack_deadline_seconds": 60,
                    "retry_policy": retry if minimum else None,
                    # A short outage must not send a valid message to the dead letters.
                    "dead_letter_policy": {"dead_letter_topic": DEAD_LETTER_TOPIC, "max_delivery_attempts": 100},
                }
            )

    def deliver(self, data: bytes, message_id: str) -> int:
        """Hands a message to the function as Pub/Sub's push does, without Pub/Sub.

        Returns:
            The function's HTTP status: 2xx acknowledges the message.
        """
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        message = {
            "data": base64.b64encode(data).decode(),
            "messageId": message_id,
            "publishTime": now,
            "attributes": {},
        }
        body = json.dumps({"subscription": f"projects/{PROJECT}/subscriptions/runs-push", "message": message}).encode()
        request = urllib.request.Request(  # noqa: S310 - always http on loopback
            f"http://{self.function.address}/{TOPIC}", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    def jobs(self) -> list[dict[str, Any]]:
        """Returns every job that the local Vertex AI service has, as its REST API gives them."""
        jobs: list[dict[str, Any]] = []
        token = ""
        while True:
            query = f"pageSize=1000&pageToken={token}"
            answer = self.get(f"projects/{PROJECT}/locations/{LOCATION}/pipelineJobs?{query}")
            jobs.extend(answer.get("pipelineJobs", []))
            token = answer.get("nextPageToken", "")
            if not token:
                return jobs

    def get(self, name: str) -> dict[str, Any]:
        """Returns a resource of the local Vertex AI service by its name."""
        with urllib.request.urlopen(f"http://{self.vertex.address}/v1/{name}", timeout=30) as response:  # noqa: S310
            return dict(json.load(response))

    def pull(self, topic: str, timeout: float = 1) -> list[dict[str, Any]]:
        """Takes the messages that wait on a topic's reader, each as `{"data": bytes, "attributes": dict}`.

        Args:
            topic: `DEAD_LETTER_TOPIC` or `OUTCOME_TOPIC`.
            timeout: How many seconds to wait for a first message.
        """
        from google.api_core.exceptions import DeadlineExceeded
        from google.cloud import pubsub_v1

        with pubsub_v1.SubscriberClient() as subscriber:
            try:
                answer = subscriber.pull(subscription=_reader(topic), max_messages=1000, timeout=timeout, retry=None)
            except DeadlineExceeded:
                return []
            if not answer.received_messages:
                return []
            subscriber.acknowledge(subscription=_reader(topic), ack_ids=[m.ack_id for m in answer.received_messages])
            return [
                {"data": received.message.data, "attributes": dict(received.message.attributes)}
                for received in answer.received_messages
            ]


def _reader(topic: str) -> str:
    return topic.replace("/topics/", "/subscriptions/") + "-reader"
