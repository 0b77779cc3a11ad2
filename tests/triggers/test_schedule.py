"""Cloud Scheduler through Pub/Sub: the payload never changes, the run key does, and an outage makes no run twice."""

import json
import random
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.triggers.conftest import ROOT
from triggers import job
from triggers.request import Origin, fill_run_key, parse

REQUEST = {"version": 1, "pipeline": "two_steps", "parameters": {"count": 3}}
# A 28-day period begins on that day.
START = datetime(2026, 11, 19, 5, tzinfo=UTC)
EXAMPLE = ROOT / "examples" / "retrain_every_four_weeks.json"


def at(moment):
    return moment.isoformat().replace("+00:00", "Z")


def daily(run_key, days, start=START):
    """What a daily schedule publishes: a message's id, its time and its payload, which is always the same."""
    return [(str(number), at(start + timedelta(days=number)), REQUEST | {"run_key": run_key}) for number in range(days)]


def test_a_daily_message_makes_one_run_in_four_weeks(push, vertex):
    for message_id, published, document in daily("weekly-{period:28d}", 56):
        assert push(document, message_id=message_id, published=published) == 200
    names = [each["displayName"] for each in vertex.jobs.values()]
    assert names == ["two_steps weekly-2026-11-19", "two_steps weekly-2026-12-17"]


def test_catching_up_after_an_outage_makes_one_run(push, vertex):
    """Ten days of messages that could not be delivered come at once, in any order, some twice, some failing again."""
    messages = daily("weekly-{period:28d}", 10)
    vertex.failures = [(503, False)] * 20
    for message_id, published, document in [*messages, *messages]:
        assert push(document, message_id=message_id, published=published) == 500
    vertex.failures = [(503, True), (429, False)]
    again = [*messages, *messages[:5]]
    random.Random(7).shuffle(again)
    answers = [push(document, message_id=name, published=published) for name, published, document in again]
    assert answers[:2] == [500, 500] and set(answers[2:]) == {200}
    assert [each["displayName"] for each in vertex.jobs.values()] == ["two_steps weekly-2026-11-19"]


def test_a_message_keeps_the_key_of_its_own_day(push, vertex):
    [(message_id, published, document)] = daily("day-{date}-{hour}", 1)
    vertex.failures = [(503, False)]
    assert push(document, message_id=message_id, published=published) == 500
    assert push(document, message_id=message_id, published=published) == 200
    assert [each["displayName"] for each in vertex.jobs.values()] == ["two_steps day-2026-11-19-2026-11-19-05"]


def test_a_schedule_that_fires_twice_is_one_run(push, vertex):
    for message_id in ("1", "2"):
        assert push(REQUEST | {"run_key": "hour-{hour}"}, message_id=message_id, published=at(START)) == 200
    assert len(vertex.jobs) == 1


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)), st.integers(1, 9999))
def test_every_day_is_in_one_period_of_its_length(moment, days):
    first = fill_run_key(f"{{period:{days}d}}", moment)
    begin = datetime.fromisoformat(first)
    assert timedelta(0) <= moment - begin < timedelta(days=days)
    assert (begin - datetime(1970, 1, 1)).days % days == 0
    assert fill_run_key(f"{{period:{days}d}}", begin + timedelta(days=days)) != first
    assert fill_run_key(f"{{period:{days}d}}", begin) == first


def test_the_example_is_a_request():
    request = parse(EXAMPLE.read_bytes())
    assert request.pipeline == "train_classifier"
    assert request.run_key == "tickets-{period:28d}"
    run = job.check(request, Origin("s", "1", at(START)), ROOT / "compiled")
    assert (run.key, run.labels["run-key"]) == ("tickets-2026-11-19", "tickets-2026-11-19")
    assert json.loads(EXAMPLE.read_text())["parameters"].items() <= run.parameters.items()
