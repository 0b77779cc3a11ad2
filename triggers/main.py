"""The Cloud Run function: a Pub/Sub message becomes a PipelineJob, once.

To return acknowledges the message; to raise has Pub/Sub deliver it again. The framework knows nothing else.
"""

import base64
import binascii
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import functions_framework
from cloudevents.http import CloudEvent

if not __package__:
    # The framework loads this file by its path, from a checkout in which nothing needs to be installed.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# Google's client makes many objects that stay. Collecting among them costs a sixth of the start; frozen, they are left
# alone, so that the server's processes, which fork from this one, share them.
gc.disable()

from google.cloud import aiplatform_v1 as _  # noqa: E402, F401

from triggers import job, pubsub, request, submit  # noqa: E402
from triggers.errors import PermanentError  # noqa: E402
from triggers.request import Origin  # noqa: E402
from triggers.settings import read_settings, topic_path  # noqa: E402

gc.freeze()
gc.enable()

EVENT_TYPE = "google.cloud.pubsub.topic.v1.messagePublished"
# Pub/Sub's limits on a message's attributes.
MAX_ATTRIBUTES = 100
MAX_ATTRIBUTE_BYTES = 1024
MAX_LOGGED = 2000


@functions_framework.cloud_event
def on_message(event: CloudEvent) -> None:
    """Submits the run that a Pub/Sub message asks for.

    Args:
        event: A CloudEvent of a Pub/Sub message, as Eventarc or a push subscription delivers it.

    Raises:
        Exception: Something that is not the message's fault; Pub/Sub delivers the message again.
    """
    message = event.data.get("message") if isinstance(event.data, dict) else None
    message = message if isinstance(message, dict) else {}
    about: dict[str, Any] = {"messageId": event["id"]}
    try:
        try:
            _run(event, message, about)
        except PermanentError as error:
            _dead_letter(error, event, message)
            _log(
                "ERROR",
                f"The message is set aside: {error}",
                about | {"reason": error.headline, "remedy": error.remedy},
            )
    except Exception as error:
        _log("WARNING", f"The message will be delivered again: {type(error).__name__}: {error}", about)
        raise


def _run(event: CloudEvent, message: dict[str, Any], about: dict[str, Any]) -> None:
    if event["type"] != EVENT_TYPE:
        raise PermanentError(f"The event is a {event['type'][:128]}.", f"This function takes {EVENT_TYPE}.")
    run_request = request.parse(_data(message))
    about["pipeline"] = run_request.pipeline
    published = event.get("time") or message.get("publishTime") or ""
    run = job.check(run_request, Origin(event["source"], event["id"], str(published)))
    about |= {"runKey": run.key, "jobId": run.job_id}
    submitted = submit.submit(run, read_settings())
    what = "was already submitted" if submitted.existed else "is submitted"
    _log("INFO", f"The job {submitted.name} {what}.", about | {"job": submitted.name})


def _data(message: dict[str, Any]) -> bytes:
    encoded = message.get("data")
    if not encoded or not isinstance(encoded, str):
        raise PermanentError("The message has no data.", "Publish a run request as the message's data.")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise PermanentError("The message's data is not base64.", "Publish it through Pub/Sub.") from None


def _dead_letter(error: PermanentError, event: CloudEvent, message: dict[str, Any]) -> None:
    """Publishes a message that is wrong, with the reason, where a topic for such messages is configured."""
    topic = os.environ.get("DEAD_LETTER_TOPIC")
    if not topic:
        return
    try:
        data = _data(message)
    except PermanentError:
        data = str(message.get("data") or "").encode(errors="replace")
    original = message.get("attributes") or {}
    # Pub/Sub refuses names with goog in front, which it gives itself.
    kept = {str(name): str(value) for name, value in original.items() if not str(name).startswith("goog")}
    own = {
        "reason": str(error).encode(errors="replace")[:MAX_ATTRIBUTE_BYTES].decode(errors="ignore"),
        "source_message_id": str(event["id"]),
    }
    room = MAX_ATTRIBUTES - len(own)
    pubsub.publish(topic_path(topic, "DEAD_LETTER_TOPIC"), data, dict(list(kept.items())[:room]) | own)


def _log(severity: str, message: str, about: dict[str, Any]) -> None:
    """Prints one line that Cloud Logging reads as a structured entry."""
    labels = {name: str(about[name]) for name in ("messageId", "pipeline") if name in about}
    entry = {"severity": severity, "message": message[:MAX_LOGGED], **about, "logging.googleapis.com/labels": labels}
    print(json.dumps(entry), flush=True)
