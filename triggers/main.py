"""The Cloud Run function's entry points: a message, an object or an HTTP request becomes a PipelineJob, once."""

import gc
import sys
from pathlib import Path

import flask
import functions_framework
from cloudevents.http import CloudEvent

if __name__ != "triggers.main":
    # The framework loads this file by its path, from a checkout in which nothing needs to be installed.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# Google's client makes many objects that stay. Collecting among them costs a sixth of the start; frozen, they are left
# alone, so that the server's processes, which fork from this one, share them.
gc.disable()

from google.cloud import aiplatform_v1 as _  # noqa: E402, F401

from triggers import events  # noqa: E402
from triggers.envelope import guard  # noqa: E402

gc.freeze()
gc.enable()

# The framework loads this module within its app's context, before the first request.
if flask.has_app_context():
    guard(flask.current_app)


@functions_framework.cloud_event
def on_message(event: CloudEvent) -> None:
    """Submits the run that a Pub/Sub message asks for.

    Args:
        event: A CloudEvent of a Pub/Sub message, as Eventarc or a push subscription delivers it.

    Raises:
        Exception: Something that is not the message's fault; Pub/Sub delivers the message again.
    """
    events.take_message(event)


@functions_framework.cloud_event
def on_object_finalized(event: CloudEvent) -> None:
    """Submits the run that a rule makes of a new object in a bucket.

    Args:
        event: A CloudEvent of a finalized object, as Eventarc delivers it.

    Raises:
        Exception: Something that is not the object's fault; Eventarc delivers the event again.
    """
    events.take_object(event)


@functions_framework.http
def on_request(request: flask.Request) -> flask.Response:
    """Submits, shows, lists and cancels runs over HTTP, with JSON.

    Args:
        request: The request; who may send one is for IAM to say.
    """
    from triggers import api

    return api.answer(request)
