import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.errors import PermanentError
from triggers.request import (
    Origin,
    RunRequest,
    fill_run_key,
    fingerprint,
    from_document,
    job_id,
    key,
    parse,
)
from triggers.strict_json import MAX_BYTES, MAX_DEPTH

ORIGIN = Origin("//pubsub.googleapis.com/projects/p/topics/t", "7", "2026-01-31T05:06:07.123456789Z")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def request(**fields):
    return from_document({"version": 1, "pipeline": "basic", **fields})


def test_the_whole_request_is_read():
    document = {
        "version": 1,
        "pipeline": "basic",
        "parameters": {"first": "ä"},
        "machine": ["l4-1", "t4-1"],
        "run_key": "daily-{date}",
        "enable_caching": False,
        "labels": {"team": "nlp"},
    }
    read = parse(json.dumps(document, ensure_ascii=False).encode())
    assert read.model_dump() == document
    assert read.machines == ["l4-1", "t4-1"]


def test_what_is_optional_has_a_default():
    read = parse(b'{"version": 1, "pipeline": "basic"}')
    assert (read.parameters, read.machines, read.run_key, read.enable_caching, read.labels) == ({}, [], None, None, {})


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[1]", "not a JSON object"),
        (b'{"version": 1, "pipeline": "a", "pipeline": "b"}', "'pipeline' stands twice"),
        (b'{"version": 1, "pipeline": "a", "parameters": {"x": NaN}}', "NaN"),
        (b'{"version": 1, "pipeline": "a", "parameters": {"x": 1e999}}', "not finite"),
        (b'{"version": 1, "pipeline": "a", "parameters": {"x": "\\ud800"}}', "surrogate"),
        (b'{"version": 1, "pipeline": "a", "parameters": {"x": ' + b"9" * 5000 + b"}}", "a number has 5000 digits"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"x":' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}", "nested too deeply"),
        (b'"' + b"x" * MAX_BYTES + b'"', "bytes long"),
    ],
)
def test_what_is_no_document_is_refused(data, problem):
    with pytest.raises(PermanentError, match=problem):
        parse(data)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"version": 2}, "version is 2"),
        ({"version": True}, "version"),
        ({"version": 1.0}, "version"),
        ({"version": "1"}, "version"),
        ({"enable_cache": True}, "no field 'enable_cache'"),
        ({"pipeline": ""}, "pipeline"),
        ({"parameters": []}, "parameters"),
        ({"machine": []}, "machine"),
        ({"machine": 4}, "machine"),
        ({"run_key": ""}, "run_key"),
        ({"run_key": "a\nb"}, "run_key has a line break"),
        ({"run_key": "x" * 257}, "run_key"),
        # Left as they are, these would be the same run for ever.
        ({"run_key": "daily-{dates}"}, "run_key has '{dates}'"),
        ({"run_key": "{period:4w}"}, "run_key has '{period:4w}'"),
        ({"run_key": "{period:0d}-{date}"}, "the placeholders are {date}, {hour} and {period:28d}"),
        ({"enable_caching": 0}, "enable_caching"),
        ({"enable_caching": "false"}, "enable_caching"),
        ({"labels": {"a": 1}}, "labels"),
    ],
)
def test_a_wrong_field_is_named(fields, problem):
    with pytest.raises(PermanentError, match=problem):
        request(**fields)


def test_every_missing_field_is_named_and_no_value_is_quoted():
    with pytest.raises(PermanentError, match="the field version is missing; the field pipeline is missing") as caught:
        from_document({"parameters": "a secret"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("daily-{date}", "daily-2026-01-31"),
        ("hourly-{hour}", "hourly-2026-01-31-05"),
        ("{period:1d}", "2026-01-31"),
        ("{period:28d}", "2026-01-15"),
        ("{date}{date}", "2026-01-312026-01-31"),
        ("{minute} {period:0d} {period:d} {period:7h} {} {{date}} $date %d", None),
    ],
)
def test_a_run_key_is_filled_from_the_publish_time(template, filled):
    if filled is None:
        filled = template.replace("{date}", "2026-01-31")
    assert fill_run_key(template, ORIGIN.time) == filled


def test_the_publish_time_is_taken_in_utc():
    assert key(request(run_key="{hour}"), Origin("s", "1", "2026-01-31T23:30:00-02:00")) == "2026-02-01-01"


@pytest.mark.parametrize(
    "published",
    [
        "",
        "yesterday",
        "2026-01-31T05:06:07",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-10:00",
        "1969-12-31T23:59:59Z",
    ],
)
def test_a_run_key_needs_a_publish_time(published):
    with pytest.raises(PermanentError, match="publish time"):
        key(request(run_key="{date}"), Origin("s", "1", published))


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)), st.integers(1, 9999))
def test_a_period_has_the_same_key_on_each_of_its_days(published, length):
    published = published.replace(tzinfo=UTC)
    start = datetime.fromisoformat(fill_run_key(f"{{period:{length}d}}", published)).replace(tzinfo=UTC)
    assert timedelta(0) <= published - start < timedelta(days=length)
    assert fill_run_key(f"{{period:{length}d}}", start) == f"{start:%Y-%m-%d}"


def test_without_a_run_key_each_message_is_a_run_and_a_redelivery_is_the_same():
    origins = [ORIGIN, Origin(ORIGIN.source, "8", ORIGIN.published), Origin(ORIGIN.source, "7", "2026-01-31T05:06:08Z")]
    assert len({key(request(), origin) for origin in origins}) == 3
    assert key(request(), Origin(ORIGIN.source, "7", ORIGIN.published)) == key(request(), ORIGIN)


@given(
    st.from_regex(r"\A[a-z][a-z0-9_]{0,62}\Z"), st.text(st.characters(exclude_categories=["Cs"])), st.text(max_size=3)
)
def test_a_job_id_is_valid_and_follows_from_the_key(pipeline, name, more):
    made = job_id(pipeline, name)
    assert re.fullmatch(r"[a-z][-a-z0-9]{0,126}", made)
    assert made == job_id(pipeline, name)
    if more.isascii() and more:
        assert made != job_id(pipeline, name + more)


def test_pipelines_do_not_share_keys():
    assert job_id("a_b", "k")[-20:] != job_id("a", "k")[-20:]


def test_the_fingerprint_is_of_what_is_asked_and_not_of_the_key():
    base = request(parameters={"n": 1}, machine="l4-1")
    same = request(parameters={"n": 1}, machine=["l4-1"], run_key="k", enable_caching=None)
    assert fingerprint(base, base.parameters) == fingerprint(same, same.parameters)
    for other in (
        request(parameters={"n": 2}, machine="l4-1"),
        request(parameters={"n": 1}),
        request(parameters={"n": 1}, machine="l4-1", enable_caching=False),
        request(parameters={"n": 1}, machine="l4-1", labels={"a": "b"}),
    ):
        assert fingerprint(other, other.parameters) != fingerprint(base, base.parameters)
    assert re.fullmatch(r"[0-9a-f]{40}", fingerprint(base, {}))


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), JSON, max_size=4))
def test_a_request_survives_the_message(parameters):
    made = RunRequest(version=1, pipeline="basic", parameters=parameters)
    assert parse(json.dumps(made.model_dump(exclude_unset=True)).encode()) == made
