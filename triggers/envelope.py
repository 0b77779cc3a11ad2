"""What functions-framework is given: refused here where it would crash, and answered without an echo of the request."""

import json
import re
from typing import Any

import flask
from cloudevents.exceptions import GenericException
from werkzeug.exceptions import HTTPException

# The largest Pub/Sub message, 10 MB, in base64, and what is around it.
MAX_BYTES = 16_000_000
MESSAGE_TYPE = "google.cloud.pubsub.topic.v1.messagePublished"
_VERSIONS = ("0.3", "1.0")
_UNREADABLE = "The request is no event that can be read."
_REMEDY = "Send a CloudEvent, or a Pub/Sub push request with data and a message id."


def guard(app: flask.Flask) -> None:
    """Makes an app of functions-framework refuse what it cannot take in one sentence.

    Args:
        app: The app, while the function's module is loaded.
    """
    app.config["MAX_CONTENT_LENGTH"] = MAX_BYTES
    app.before_request(_check)
    app.register_error_handler(HTTPException, _answer)
    app.register_error_handler(GenericException, lambda error: refusal(400, _UNREADABLE, _REMEDY))


def refusal(status: int, headline: str, remedy: str, headers: dict[str, str] | None = None) -> flask.Response:
    """Returns the answer to a request that is refused.

    Args:
        status: The HTTP status.
        headline: What is wrong, in one sentence.
        remedy: What to change, in one sentence.
        headers: More headers.
    """
    response = flask.jsonify(error={"code": status, "headline": headline, "remedy": remedy})
    response.status_code = status
    response.headers.update(headers or {})
    return response


def _check() -> flask.Response | None:
    """Refuses an event that the framework would stumble over: it takes the body's shape for granted."""
    request = flask.request
    # Whatever is sent and where: what is too large is refused by it.
    is_binary, content = "ce-specversion" in request.headers, request.get_data(cache=True)
    if flask.current_app.name == "on_request" or request.method != "POST":
        return None
    names = all(request.headers.get(f"ce-{name}") for name in ("id", "source", "type"))
    if is_binary and not (names and request.headers["ce-specversion"] in _VERSIONS):
        return refusal(400, _UNREADABLE, "Give the headers ce-id, ce-source and ce-type, and ce-specversion: 1.0.")
    if not re.fullmatch(r"application/(cloudevents\+)?json", request.mimetype or ""):
        return refusal(415, "The request is not JSON.", "Send it with Content-Type: application/json.")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return refusal(400, "The request's body is not JSON that can be read.", _REMEDY)
    if not is_binary and not (isinstance(document, dict) and (_is_push(document) or _is_structured(document))):
        return refusal(400, _UNREADABLE, _REMEDY)
    attributes, data = (
        ({name: request.headers.get(f"ce-{name}") for name in ("type", "time")}, document)
        if is_binary
        else (document, document.get("data"))
    )
    if attributes.get("type") == MESSAGE_TYPE and not (attributes.get("time") or _publish_time(data)):
        headline = "The event does not say when the message was published."
        return refusal(400, headline, "Give the message its publishTime, or the event its time.")
    return None


def _publish_time(data: Any) -> Any:
    message = data.get("message") if isinstance(data, dict) else None
    return message.get("publishTime") if isinstance(message, dict) else None


def _is_push(document: dict[str, Any]) -> bool:
    message = document.get("message")
    # As an event without its time: the framework gives it the present one, and a redelivery would be another run.
    needed = {"data", "messageId", "publishTime"}
    is_raw = "subscription" in document and not {"context", "specversion"} & document.keys()
    return is_raw and isinstance(message, dict) and needed <= message.keys()


def _is_structured(document: dict[str, Any]) -> bool:
    texts = all(isinstance(document.get(name), str) and document[name] for name in ("id", "source", "type"))
    return texts and str(document.get("specversion")) in _VERSIONS


def _answer(error: HTTPException) -> flask.Response | tuple[str, int]:
    code = error.code or 500
    if code == 413:
        response = refusal(code, "The request is too large.", f"Send at most {MAX_BYTES} bytes.")
        # Before any other answer than a stream, the framework reads the request again, and fails over its size.
        response.response = iter([response.get_data()])
        return response
    if code in (404, 405):
        return refusal(code, "There is nothing at this address and method.", "Send an event by POST.")
    return refusal(code, _UNREADABLE, _REMEDY)
