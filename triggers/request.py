"""The run request: what a message says, and the key and the job id that follow from it."""

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from triggers.errors import PermanentError
from triggers.strict_json import read_object, shown

VERSION = 1
MAX_KEY = 256
MAX_FIELDS = 100
# How many problems an error names.
MAX_PROBLEMS = 10
# Characters of a digest that stand in a job id: 80 bits, so that two keys never share one by chance.
DIGEST = 20

Name = Annotated[str, StringConstraints(min_length=1, max_length=63)]


class RunRequest(BaseModel):
    """One run of one pipeline: the JSON document in the message's data.

    JSON types are taken as they are: `true` is not 1, and `"5"` is not 5.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    version: int = Field(description="The version of this document: 1.")
    pipeline: Name = Field(description="The name of a compiled pipeline that the trigger serves.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="The pipeline's parameters, by name.")
    machine: Name | Annotated[list[Name], Field(min_length=1, max_length=16)] | None = Field(
        default=None,
        description="A GPU profile, or several in order of preference, for the steps that ask for an accelerator.",
    )
    run_key: Annotated[str, StringConstraints(min_length=1, max_length=MAX_KEY)] | None = Field(
        default=None,
        description="The same key is the same run. {date}, {hour} and {period:28d} become the date, the hour and the "
        "first day of the 28-day period in which the message was published, in UTC.",
    )
    enable_caching: bool | None = Field(
        default=None, description="false switches caching off for this run; true and null leave it as compiled."
    )
    labels: dict[str, str] = Field(default_factory=dict, description="Labels of the PipelineJob.")

    @field_validator("version")
    @classmethod
    def _check_version(cls, version: int) -> int:
        if version != VERSION:
            raise ValueError(f"is {str(version)[:20]}, and this trigger reads version {VERSION}")
        return version

    @field_validator("run_key")
    @classmethod
    def _check_run_key(cls, run_key: str | None) -> str | None:
        if run_key is not None and not run_key.isprintable():
            raise ValueError("has a line break or another character that cannot be printed")
        # Left as it is, a misspelt placeholder would make every message of a schedule the same run.
        for found in _IN_BRACES.findall(run_key or ""):
            if not _PLACEHOLDER.fullmatch(found):
                raise ValueError(f"has {found[:64]!r}: the placeholders are {{date}}, {{hour}} and {{period:28d}}")
        return run_key

    @property
    def machines(self) -> list[str]:
        """The profiles in order of preference; empty when the steps run on what they were compiled for."""
        return [self.machine] if isinstance(self.machine, str) else list(self.machine or [])


@dataclass(frozen=True)
class Origin:
    """Where a request came from; a redelivery has the same values.

    Attributes:
        source: The event's source, which names the topic.
        id: The message's id; "" for a request that is no message.
        published: When it was published, as RFC 3339 text.
        key: What makes two events the same run where the request has no run key; "" for what identifies the message.
        trace: The trace that it belongs to, 32 hexadecimal digits; "" for none.
    """

    source: str
    id: str
    published: str
    key: str = ""
    trace: str = ""

    @property
    def time(self) -> datetime:
        """When the message was published, in UTC.

        Raises:
            PermanentError: The text is no time with a time zone.
        """
        with suppress(ValueError, OverflowError):
            time = datetime.fromisoformat(self.published)
            # Before the first period, which no message can be.
            if time.tzinfo is not None and time.astimezone(UTC).year >= 1970:
                return time.astimezone(UTC)
        raise PermanentError("The message's publish time cannot be read.", "Publish it through Pub/Sub.")


def parse(data: bytes) -> RunRequest:
    """Reads a request from the data of a message.

    Args:
        data: JSON, as `strict_json.read_object` takes it.

    Returns:
        The request; its parameters are not yet checked against the pipeline.

    Raises:
        PermanentError: The data is no request of this version.
    """
    return from_document(read_object(data))


def from_document(document: dict[str, Any]) -> RunRequest:
    """Makes a request of a parsed document.

    Raises:
        PermanentError: A field is unknown, missing or of another type; every such field is named.
    """
    fields = f"Its fields are {', '.join(RunRequest.model_fields)}."
    if len(document) > MAX_FIELDS:
        raise PermanentError(f"The run request has {len(document)} fields.", fields)
    try:
        return RunRequest.model_validate(document)
    except ValidationError as error:
        # Without the input: a parameter may be a secret, and the error is logged.
        found = dict.fromkeys(_describe(problem) for problem in error.errors(include_input=False, include_url=False))
        problems = [*found][:MAX_PROBLEMS] + ["and more"] * (len(found) > MAX_PROBLEMS)
        raise PermanentError(f"The run request is wrong: {'; '.join(problems)}.", fields) from None


def _describe(problem: Any) -> str:
    field = problem["loc"][0] if problem["loc"] else "the document"
    if problem["type"] == "extra_forbidden":
        return f"there is no field {shown(field)}"
    if problem["type"] == "missing":
        return f"the field {field} is missing"
    if problem["type"] == "value_error":
        return f"{field} {problem['ctx']['error']}"
    message = problem["msg"]
    return f"{field}: {message[:1].lower()}{message[1:]}"


_IN_BRACES = re.compile(r"\{[^{}]*\}")
_PLACEHOLDER = re.compile(r"\{(?:(date)|(hour)|period:([1-9][0-9]{0,3})d)\}")


def fill_run_key(run_key: str, published: datetime) -> str:
    """Replaces `{date}`, `{hour}` and `{period:28d}` in a run key; everything else stays as it is.

    A request with anything else in braces is refused when it is read; the key of an object may have it.

    Args:
        run_key: The key as the request gives it.
        published: When the message was published, in UTC.

    Returns:
        The key with `{date}` as `2026-01-31`, `{hour}` as `2026-01-31-05` (with its date, else a key made of the hour
        would be the same again on the next day), and `{period:28d}` as the first day of the 28-day period; periods
        are counted from 1970-01-01.
    """

    def replace(match: re.Match[str]) -> str:
        if match[1]:
            return f"{published:%Y-%m-%d}"
        if match[2]:
            return f"{published:%Y-%m-%d-%H}"
        epoch, length = date(1970, 1, 1), int(match[3])
        days = (published.date() - epoch).days
        return (epoch + timedelta(days=days - days % length)).isoformat()

    return _PLACEHOLDER.sub(replace, run_key)


def key(request: RunRequest, origin: Origin) -> str:
    """Returns what makes two messages the same run: the run key, else what identifies the message.

    The message id alone is not enough: the Pub/Sub emulator counts from 1 after each start.
    """
    if request.run_key is not None:
        return fill_run_key(request.run_key, origin.time)
    return origin.key or f"{origin.source}/{origin.id}@{origin.published}"


def job_id(pipeline: str, key: str) -> str:
    """Returns the id of the PipelineJob: the same for the same pipeline and key, and within Vertex AI's rules.

    Args:
        pipeline: The pipeline's name, as in a request.
        key: What `key` returned.

    Returns:
        An id that matches `[a-z][-a-z0-9]{0,126}`.
    """
    digest = hashlib.sha256(f"{pipeline}\n{key}".encode()).hexdigest()
    return f"{pipeline.replace('_', '-')}-{digest[:DIGEST]}"


def fingerprint(request: RunRequest, parameters: dict[str, Any]) -> str:
    """Returns a digest of what a request asks for, so that one key with two meanings is noticed.

    Args:
        request: The request; its run key is left out, since it only says which run this is.
        parameters: Its parameters after the check, so that 1 and 1.0 are the same where a number is expected.

    Returns:
        40 hexadecimal digits, which fit in a label.
    """
    canonical = {
        "version": request.version,
        "pipeline": request.pipeline,
        "parameters": parameters,
        "machine": request.machines,
        "enable_caching": request.enable_caching,
        "labels": request.labels,
    }
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:40]
