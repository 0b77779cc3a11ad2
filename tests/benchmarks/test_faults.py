"""The benchmark's own code, in a short form: no failure loses or doubles a run."""

import dataclasses
import json

import pytest
from rich.console import Console

from benchmarks.fault_table import Result, show
from benchmarks.faults import Log, run
from benchmarks.messages import MALFORMED, make_messages
from emulator.stack import find_pubsub_jar
from tests.conftest import require_tool


@pytest.mark.timeout(200)
def test_no_failure_loses_or_doubles_a_run(tmp_path):
    require_tool(find_pubsub_jar)
    console = Console(quiet=True)
    result, course = run(tmp_path, 30, 3, console)
    assert result == Result(30, 17, 17, doubled=0, lost=0, malformed=3, dead_lettered_with_reason=3, seed=3)
    assert result.holds
    assert course.kills_of_service == course.kills_of_trigger == 2
    assert course.refused_by_framework == course.sent_to_framework == 5
    assert course.redeliveries > 0
    assert show(result, course).row_count == 13


def test_the_messages_are_what_the_benchmark_says():
    messages = make_messages(1000, 7)
    assert messages == make_messages(1000, 7) != make_messages(1000, 8)
    valid = [message for message in messages if not message.reason]
    assert (len(messages), len(valid), len({message.token for message in valid})) == (1000, 900, 567)
    malformed = [message for message in messages if message.reason]
    assert len({message.token for message in malformed}) == 100
    assert {message.reason for message in malformed} == {reason for _, reason in MALFORMED.values()}
    for message in valid:
        assert json.loads(message.data)["parameters"] == {"first": message.token}


@pytest.mark.parametrize(
    "changed", [{"jobs": 16}, {"jobs": 18, "doubled": 1}, {"lost": 1}, {"dead_lettered_with_reason": 2}]
)
def test_what_does_not_hold_is_said(changed):
    right = Result(30, 17, 17, doubled=0, lost=0, malformed=3, dead_lettered_with_reason=3, seed=3)
    assert right.holds
    assert not dataclasses.replace(right, **changed).holds


def test_a_log_with_half_a_line_is_read(tmp_path):
    path = tmp_path / "log"
    path.write_text('{"severity": "INFO", "mess{"severity": "INFO", "messageId": "1"}\nnoise\n{"severity": "WARN')
    log = Log(path)
    log.update()
    assert (log.settled, log.raised) == ({"1"}, 0)
    with path.open("a") as file:
        file.write('ING", "messageId": "2"}\n')
    log.update()
    assert (log.settled, log.raised) == ({"1"}, 1)
