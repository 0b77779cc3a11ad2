"""One event becomes at most one run, however often it is delivered.

To return acknowledges the event; to raise has it delivered again. The framework knows nothing else.
"""

import base64
import binascii
import json
import os
from collections.abc import Callable
from typing import Any

from cloudevents.http import CloudEvent

from triggers import job, request, strict_json, submit
from triggers.dead_letter import set_aside
from triggers.envelope import MESSAGE_TYPE
from triggers.errors import PermanentError
from triggers.log import log, trace_fields, trace_id
from triggers.request import Origin, RunRequest
from triggers.settings import read_settings
from triggers.submit import Submitted

OBJECT_TYPE = "google.cloud.storage.object.v1.finalized"
# In base64, what is longer cannot be a request.
_MAX_ENCODED = (strict_json.MAX_BYTES + 2) // 3 * 4

Asked = tuple[RunRequest, Origin] | None
Attributes = dict[str, Any]


def take_message(event: CloudEvent) -> None:
    """Submits the run that a Pub/Sub message asks for. See `triggers.main.on_message`."""
    data = event.data if isinstance(event.data, dict) else {}
    message = data["message"] if isinstance(data.get("message"), dict) else {}
    attributes = message["attributes"] if isinstance(message.get("attributes"), dict) else {}
    _take(
        event, attributes, lambda _: _ask_of_message(event, message, attributes), lambda: _content_of_message(message)
    )


def take_object(event: CloudEvent) -> None:
    """Submits the run that a rule makes of a new object. See `triggers.main.on_object_finalized`."""
    data = event.data if isinstance(event.data, dict) else {}
    _take(event, {}, lambda about: _ask_of_object(event, data, about), lambda: _content_of_object(data))


def run(run_request: RunRequest, origin: Origin, about: dict[str, Any]) -> Submitted:
    """Checks a request and submits its run: the one way in for every kind of event.

    Args:
        run_request: The request.
        origin: Where it came from.
        about: Fields of the log's entry, which are completed.

    Raises:
        PermanentError: The request is wrong.
        Exception: Something that is not the request's fault.
    """
    about["pipeline"] = run_request.pipeline
    checked = job.check(run_request, origin, location=os.environ.get("VERTEX_LOCATION", ""))
    about |= {"runKey": checked.key, "jobId": checked.job_id}
    about |= {"machine": str(checked.machine)} if checked.machine.name else {}
    submitted = submit.submit(checked, read_settings())
    about["job"] = submitted.name
    what = "was already submitted" if submitted.existed else "is submitted"
    log("INFO", f"The job {submitted.name} {what}.", about)
    return submitted


def _take(
    event: CloudEvent, attributes: Attributes, ask: Callable[[dict[str, Any]], Asked], content: Callable[[], bytes]
) -> None:
    """Runs what an event asks for; sets it aside when it is wrong, and raises what may pass."""
    carriers = _carriers(event, attributes)
    about: dict[str, Any] = {"messageId": str(event["id"]), **trace_fields(*carriers)}
    try:
        try:
            asked = ask(about)
            if asked:
                run(*asked, about)
            else:
                log("INFO", "No rule matches the object.", about)
        except PermanentError as error:
            set_aside(error, str(event["id"]), content(), attributes)
            why = {"reason": error.headline, "remedy": error.remedy}
            log("ERROR", f"The message is set aside: {error}", about | why)
    except Exception as error:
        log("WARNING", f"The message will be delivered again: {type(error).__name__}: {error}", about)
        raise


def _ask_of_message(event: CloudEvent, message: dict[str, Any], attributes: Attributes) -> Asked:
    _check_type(event, MESSAGE_TYPE)
    encoded = message.get("data")
    if not encoded or not isinstance(encoded, str):
        raise PermanentError("The message has no data.", "Publish a run request as the message's data.")
    if len(encoded) > _MAX_ENCODED:
        raise PermanentError(
            f"The message is {len(encoded) * 3 // 4} bytes long.",
            f"A run request has at most {strict_json.MAX_BYTES}: pass a URI, not the content.",
        )
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise PermanentError("The message's data is not base64.", "Publish it through Pub/Sub.") from None
    # First the message's own: the class of the event gives one that came without a time the present one.
    published = message.get("publishTime") or event.get("time") or ""
    return request.parse(data), _origin(event, str(published), attributes)


def _ask_of_object(event: CloudEvent, data: dict[str, Any], about: dict[str, Any]) -> Asked:
    # Only where objects are waited for.
    from triggers import rule_files, rules

    _check_type(event, OBJECT_TYPE)
    arrived = rules.Arrived.from_event(data)
    about["object"] = arrived.uri
    found = rules.find_rule(rule_files.load_rules(), arrived)
    if not found:
        return None
    return found.request(arrived), _origin(event, str(event.get("time") or ""), {}, arrived.key)


def _origin(event: CloudEvent, published: str, attributes: Attributes, key: str = "") -> Origin:
    source, event_id = str(event["source"]), str(event["id"])
    strict_json.check_json([source, event_id])
    return Origin(source, event_id, published, key, trace_id(*_carriers(event, attributes)))


def _check_type(event: CloudEvent, expected: str) -> None:
    if event["type"] != expected:
        raise PermanentError(f"The event is a {str(event['type'])[:128]}.", f"This function takes {expected}.")


def _carriers(event: CloudEvent, attributes: Attributes) -> list[dict[str, Any]]:
    return [attributes, {"traceparent": event.get("traceparent") or ""}]


def _content_of_message(message: dict[str, Any]) -> bytes:
    """Returns what to keep of a message that is wrong: its data, or the text that is no base64."""
    encoded = message.get("data") or ""
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError, TypeError):
        return str(encoded).encode(errors="replace")


def _content_of_object(data: dict[str, Any]) -> bytes:
    return json.dumps({name: str(data.get(name, ""))[:2000] for name in ("bucket", "name", "generation")}).encode()
