"""Filter, order and pages of a list of jobs."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import ApiError
from emulator.filters import page, parse_filter, parse_order
from emulator.jobs import Job
from emulator.records import JobRecord


def make_job(name, state="SUCCEEDED", created="2026-01-01T00:00:00Z", display="", pipeline="p", labels=None, end=""):
    record = JobRecord(f"projects/p/locations/l/pipelineJobs/{name}", state, created, end=end)
    document = {"displayName": display, "pipelineSpec": {"pipelineInfo": {"name": pipeline}}, "labels": labels or {}}
    return Job(Path(name), document, record)


JOBS = [
    make_job("a", display="Daily (EU)", labels={"team": "x"}),
    make_job("b", "FAILED", "2026-02-01T00:00:00.5Z", "Weekly", "q-long", {"team": "y", "my-key": "v"}),
    make_job("c", "RUNNING", "2026-03-01T00:00:00Z", "Daily AND more", "q-short"),
]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "abc"),
        ('state="PIPELINE_STATE_FAILED"', "b"),
        ("state=PIPELINE_STATE_RUNNING", "c"),
        ("state = 4", "a"),
        ('state!="PIPELINE_STATE_FAILED"', "ac"),
        ('display_name="Daily*"', "ac"),
        ('display_name="Daily (EU)"', "a"),
        ('display_name="*AND*"', "c"),
        ('display_name!="Daily*"', "b"),
        ('display_name="Dail?"', ""),
        ("pipeline_name=q-*", "bc"),
        ('create_time>"2026-01-15T00:00:00Z"', "bc"),
        ("create_time>=2026-02-01T00:00:00.500Z", "bc"),
        ('create_time<"2026-02-01T02:00:00+02:00"', "a"),
        ('create_time>"2026-01-15T00:00:00Z" AND create_time<"2026-02-15T00:00:00Z"', "b"),
        ('end_time>"2020-01-01T00:00:00Z"', ""),
        ("labels.team=x", "a"),
        ('labels.team="*"', "ab"),
        ("labels.team:*", "ab"),
        ("labels:team", "ab"),
        ("labels.my-key=v", "b"),
        ("labels.team!=x", "bc"),
        ('labels.team=x OR state="PIPELINE_STATE_RUNNING"', "ac"),
        ('NOT state="PIPELINE_STATE_FAILED" AND (labels.team=x OR labels.team=y)', "a"),
        ("labels.team=y pipeline_name=q-*", "b"),
    ],
)
def test_filter(text, names):
    assert "".join(job.record.id for job in JOBS if parse_filter(text)(job)) == names


@pytest.mark.parametrize(
    "text",
    [
        "state",
        "state=",
        "state=UP",
        "nope=1",
        "state>4",
        "create_time>yesterday",
        "create_time:*",
        "(state=4",
        "state=4)",
        "state=4 AND",
        'display_name="open',
        "= 4",
    ],
)
def test_filter_that_cannot_be_read(text):
    with pytest.raises(ApiError) as refused:
        parse_filter(text)
    assert refused.value.status == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("text", "names"),
    [("", "cba"), ("create_time", "abc"), ("create_time desc", "cba"), ("end_time, create_time desc", "cba")],
)
def test_order(text, names):
    assert "".join(job.record.id for job in parse_order(text)(JOBS)) == names


@pytest.mark.parametrize("text", ["name", "create_time down", "create_time,"])
def test_order_that_cannot_be_read(text):
    with pytest.raises(ApiError, match="order_by"):
        parse_order(text)


@given(st.integers(0, 30), st.integers(1, 12))
def test_pages_hold_every_job_once_in_order(count, size):
    jobs = [make_job(f"j{n}") for n in range(count)]
    seen, token = [], ""
    while True:
        found, token = page(jobs, str(size), token)
        assert len(found) <= size
        seen += found
        if not token:
            break
    assert seen == jobs


@pytest.mark.parametrize(("size", "token"), [("-1", ""), ("x", ""), ("1", "nope"), ("1", "bm9uZQ==")])
def test_bad_page(size, token):
    with pytest.raises(ApiError):
        page(JOBS, size, token)
