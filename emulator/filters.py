"""The filter, order and pages of ListPipelineJobs.

The filter is the part of Google's AIP-160 that Vertex AI documents for pipeline jobs: comparisons of `state`,
`display_name`, `pipeline_name`, `create_time`, `update_time`, `start_time`, `end_time` and `labels.KEY`, joined by AND,
OR (which binds tighter, as AIP-160 has it), NOT and parentheses; `*` stands for any text in the names and labels.
"""

import base64
import fnmatch
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from emulator.errors import invalid
from emulator.jobs import Job
from emulator.views import JOB_STATES, state_of

DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000
Test = Callable[[Job], bool]

# Quoted text, a time (which has colons of its own), a sign, a word.
_TOKEN = re.compile(
    r"""\s*("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\d{4}-\d\d-\d\dT\d\d:[^\s()]*|<=|>=|!=|[=<>:()]|[^\s=<>!:()"']+)"""
)
_TIMES = {"create_time": "created", "update_time": "updated", "start_time": "start", "end_time": "end"}
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def parse_filter(text: str) -> Test:
    """Reads a filter.

    Args:
        text: Such as `state="PIPELINE_STATE_FAILED" AND create_time>"2026-01-01T00:00:00Z" AND labels.team:*`.

    Returns:
        What says whether a job matches.

    Raises:
        ApiError: INVALID_ARGUMENT.
    """
    if not text.strip():
        return lambda job: True
    parser = _Parser(text)
    test = parser.all_of()
    if parser.tokens:
        raise invalid(f"The filter cannot be read at {parser.tokens[0]!r}: {text}")
    return test


def parse_order(text: str) -> Callable[[Sequence[Job]], list[Job]]:
    """Reads an order such as `create_time desc`; without one, the newest job comes first.

    Raises:
        ApiError: INVALID_ARGUMENT.
    """
    keys: list[tuple[str, bool]] = []
    for part in (text or "create_time desc").split(","):
        found = re.fullmatch(r"\s*(\w+)(?:\s+(asc|desc))?\s*", part)
        field = re.sub(r"([A-Z])", lambda m: "_" + m[1].lower(), found[1]) if found else ""
        if not found or field not in _TIMES:
            raise invalid(f"order_by is {text!r}: use one of {', '.join(_TIMES)}, with or without ` desc`.")
        keys.append((field, found[2] == "desc"))

    def order(jobs: Sequence[Job]) -> list[Job]:
        result = sorted(jobs, key=lambda job: job.record.id)
        for field, descending in reversed(keys):
            result.sort(key=lambda job, field=field: getattr(job.record, _TIMES[field]), reverse=descending)  # type: ignore[misc]
        return result

    return order


def page(jobs: list[Job], size: str, token: str) -> tuple[list[Job], str]:
    """Returns one page of an ordered list, and the token of the next; "" after the last.

    A token names the last job of a page, so jobs that are created or deleted meanwhile move nothing.

    Raises:
        ApiError: INVALID_ARGUMENT.
    """
    if size and not re.fullmatch(r"\d{1,9}", size):
        raise invalid(f"page_size is {size!r}: it must be a whole number, not negative.")
    count = min(int(size or 0) or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    start = 0
    if token:
        try:
            last = base64.urlsafe_b64decode(token).decode()
        except ValueError:
            last = ""
        start = next((i + 1 for i, job in enumerate(jobs) if job.record.id == last), 0)
        if not start:
            raise invalid("page_token is not one of this list: list again from the first page.")
    rest = jobs[start : start + count]
    more = start + count < len(jobs)
    return rest, base64.urlsafe_b64encode(rest[-1].record.id.encode()).decode() if more else ""


class _Parser:
    def __init__(self, text: str):
        self.text, self.tokens = text, []  # type: tuple[str, list[str]]
        position = 0
        while text[position:].strip():
            found = _TOKEN.match(text, position)
            if not found:
                raise invalid(f"The filter cannot be read at {text[position:]!r}: {text}")
            self.tokens.append(found[1])
            position = found.end()

    def next(self) -> str:
        if not self.tokens:
            raise invalid(f"The filter ends too early: {self.text}")
        return self.tokens.pop(0)

    def all_of(self) -> Test:
        tests = [self.any_of()]
        while self.tokens and self.tokens[0] != ")":
            # In AIP-160 two terms side by side are joined by AND.
            if self.tokens[0].upper() == "AND":
                self.next()
            tests.append(self.any_of())
        return lambda job: all(test(job) for test in tests)

    def any_of(self) -> Test:
        tests = [self.term()]
        while self.tokens and self.tokens[0].upper() == "OR":
            self.next()
            tests.append(self.term())
        return lambda job: any(test(job) for test in tests)

    def term(self) -> Test:
        first = self.next()
        if first.upper() == "NOT":
            test = self.term()
            return lambda job: not test(job)
        if first == "(":
            inner = self.all_of()
            if self.next() != ")":
                raise invalid(f"The filter lacks a closing parenthesis: {self.text}")
            return inner
        sign, value = self.next(), self.next()
        if sign != ":" and sign not in _SIGNS:
            raise invalid(f"The filter has {sign!r} where a comparison belongs: {self.text}")
        if value[0] in "\"'":
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        return _comparison(first, sign, value)


def _comparison(field: str, sign: str, value: str) -> Test:
    if field in _TIMES:
        return _time_test(_TIMES[field], sign, value)
    if field.startswith("labels."):
        return _label_test(field.removeprefix("labels.").strip("\"'"), sign, value)
    if field == "labels" and sign == ":":
        return _label_test(value, ":", "*")
    getters: dict[str, Callable[[Job], str]] = {
        "state": state_of,
        "display_name": lambda job: str(job.document.get("displayName", "")),
        "pipeline_name": lambda job: str(job.document["pipelineSpec"].get("pipelineInfo", {}).get("name", "")),
    }
    if field not in getters or sign not in ("=", "!=", ":"):
        known = ", ".join([*getters, *_TIMES, "labels.KEY"])
        raise invalid(
            f"The filter compares {field} by {sign}: known fields are {known}; names and states take = and !=."
        )
    if field == "state":
        value = {str(number): name for name, number in JOB_STATES.items()}.get(value, value)
        if value not in JOB_STATES:
            raise invalid(f"The filter names the state {value!r}: use one of {', '.join(JOB_STATES)}.")
    return lambda job: _matches(getters[field](job), sign, value)


def _label_test(key: str, sign: str, value: str) -> Test:
    if sign not in ("=", "!=", ":"):
        raise invalid(f"The filter compares the label {key} by {sign}: use = or !=, or :* for its presence.")

    def test(job: Job) -> bool:
        labels = job.document.get("labels", {})
        if key not in labels:
            return sign == "!="
        return _matches(labels[key], sign, value)

    return test


def _time_test(attribute: str, sign: str, value: str) -> Test:
    moment = _moment(value)
    if moment is None or sign == ":":
        raise invalid(f"The filter compares a time by {sign} with {value!r}: use < <= = >= > and RFC 3339.")

    def test(job: Job) -> bool:
        actual = _moment(getattr(job.record, attribute))
        return actual is not None and _SIGNS[sign](actual, moment)

    return test


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _matches(actual: str, sign: str, value: str) -> bool:
    # Only * is a wildcard: fnmatch's other signs stand for themselves.
    pattern = re.sub(r"[\[?]", lambda match: f"[{match[0]}]", value)
    return fnmatch.fnmatchcase(actual, pattern) == (sign != "!=")
