"""Structured log entries, and the trace that an event belongs to."""

import json
import os
import re
import sys
import threading
from collections.abc import Mapping
from typing import Any

import flask

MAX_LOGGED = 2000
# Cloud Logging can be searched by these.
_LABELS = ("messageId", "pipeline")
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_CLOUD_TRACE = re.compile(r"([0-9a-f]{32})(?:/([0-9]{1,20}))?(?:;o=([01]))?", re.IGNORECASE)

_lock = threading.Lock()


def log(severity: str, message: str, about: Mapping[str, Any]) -> None:
    """Prints one line that Cloud Logging reads as a structured entry.

    Args:
        severity: INFO, WARNING or ERROR.
        message: What happened.
        about: More fields of the entry, such as `messageId` and `runKey`. Every text is cut after `MAX_LOGGED`
            characters: Cloud Logging drops an entry of more than 256 kB.
    """
    labels = {name: str(about[name])[:MAX_LOGGED] for name in _LABELS if name in about}
    entry = {"severity": severity, "message": message, **about}
    entry = {name: value[:MAX_LOGGED] if isinstance(value, str) else value for name, value in entry.items()}
    entry["logging.googleapis.com/labels"] = labels
    # In one piece: several messages are handled at once, and an entry is a line.
    with _lock:
        sys.stdout.write(json.dumps(entry) + "\n")
        sys.stdout.flush()


def trace_id(*carriers: Mapping[str, Any]) -> str:
    """Returns the trace that an event belongs to: 32 hexadecimal digits; "" for none.

    The carrier that comes first wins: what the publisher wrote says more than what the delivery added.

    Args:
        carriers: A message's attributes (Google's Pub/Sub client writes `googclient_traceparent`) and an event's own
            (`traceparent`). The headers of the present request, `traceparent` or `X-Cloud-Trace-Context`, come last.
    """
    return _trace(*carriers).get("id", "")


def trace_fields(*carriers: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields by which Cloud Logging joins an entry to a trace; none without a trace. See `trace_id`."""
    found = _trace(*carriers)
    if not found:
        return {}
    project = os.environ.get("GOOGLE_CLOUD_PROJECT", "")
    fields: dict[str, Any] = {
        "logging.googleapis.com/trace": f"projects/{project}/traces/{found['id']}" if project else found["id"],
        "logging.googleapis.com/trace_sampled": found["sampled"] == "1",
    }
    return fields | ({"logging.googleapis.com/spanId": found["span"]} if found["span"] else {})


def _trace(*carriers: Mapping[str, Any]) -> dict[str, str]:
    headers: Any = flask.request.headers if flask.has_request_context() else {}
    for carrier in (*carriers, headers):
        for name in ("googclient_traceparent", "traceparent"):
            match = _TRACEPARENT.fullmatch(str(carrier.get(name, "")))
            if match and match[1] != "ff" and int(match[2], 16) and int(match[3], 16):
                return {"id": match[2], "span": match[3], "sampled": str(int(match[4], 16) & 1)}
    match = _CLOUD_TRACE.fullmatch(str(headers.get("X-Cloud-Trace-Context", "")))
    if match and int(match[1], 16):
        span = int(match[2] or 0)
        return {"id": match[1].lower(), "span": f"{span:016x}" if 0 < span < 2**64 else "", "sampled": match[3] or "0"}
    return {}
