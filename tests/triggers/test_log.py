"""Structured entries in one piece, and the trace that an event belongs to."""

import json
from concurrent.futures import ThreadPoolExecutor

import flask
import pytest

from triggers.log import MAX_LOGGED, log, trace_fields, trace_id

TRACE, SPAN = "0123456789abcdef0123456789abcdef", "0123456789abcdef"
OTHER = "f" * 32


def parent(trace=TRACE, span=SPAN, flags="01", version="00"):
    return f"{version}-{trace}-{span}-{flags}"


@pytest.mark.parametrize(
    ("attributes", "event", "headers", "expected"),
    [
        ({}, {}, {}, ""),
        ({"googclient_traceparent": parent()}, {"traceparent": parent(OTHER)}, {"traceparent": parent(OTHER)}, TRACE),
        ({"traceparent": parent()}, {}, {}, TRACE),
        ({}, {"traceparent": parent()}, {"traceparent": parent(OTHER)}, TRACE),
        ({}, {}, {"traceparent": parent()}, TRACE),
        ({}, {}, {"X-Cloud-Trace-Context": f"{TRACE.upper()}/7;o=1"}, TRACE),
        ({}, {}, {"X-Cloud-Trace-Context": TRACE}, TRACE),
        ({}, {}, {"traceparent": parent(OTHER), "X-Cloud-Trace-Context": TRACE}, OTHER),
        ({"googclient_traceparent": parent("0" * 32)}, {}, {}, ""),
        ({"googclient_traceparent": parent(span="0" * 16)}, {}, {}, ""),
        ({"googclient_traceparent": parent(version="ff")}, {}, {}, ""),
        ({"googclient_traceparent": parent() + "\n"}, {}, {}, ""),
        ({"googclient_traceparent": 5}, {}, {"X-Cloud-Trace-Context": "x" * 40}, ""),
    ],
)
def test_the_trace_that_is_nearest_to_the_publisher_wins(attributes, event, headers, expected):
    with flask.Flask("test").test_request_context(headers=headers):
        assert trace_id(attributes, event) == expected
        assert bool(trace_fields(attributes, event)) == bool(expected)


def test_a_trace_is_written_as_cloud_logging_reads_it(monkeypatch):
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    assert trace_fields({"googclient_traceparent": parent(flags="00")}) == {
        "logging.googleapis.com/trace": f"projects/p/traces/{TRACE}",
        "logging.googleapis.com/spanId": SPAN,
        "logging.googleapis.com/trace_sampled": False,
    }
    with flask.Flask("test").test_request_context(headers={"X-Cloud-Trace-Context": f"{TRACE}/255;o=1"}):
        fields = trace_fields()
    assert fields["logging.googleapis.com/spanId"] == "00000000000000ff"
    assert fields["logging.googleapis.com/trace_sampled"] is True


def test_entries_of_several_threads_are_lines(capfd):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: log("INFO", "x" * 3000, {"messageId": number, "reason": "y" * 5000}), range(400)))
    entries = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert {entry["messageId"] for entry in entries} == set(range(400))
    assert {len(entry["message"]) for entry in entries} == {len(entry["reason"]) for entry in entries} == {MAX_LOGGED}
