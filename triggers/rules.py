"""Which pipeline runs for which new object; `python -m triggers.check_rules FILE` checks them.

    version: 1
    rules:
      - name: reviews
        bucket: my-bucket
        prefix: reviews/in/
        suffix: .csv                  # or marker: _SUCCESS, for a folder that is complete when that file arrives
        pipeline: batch_classification
        parameters: {input_uri: "{uri}", model: org/model, output_uri: "gs://my-bucket/reviews/out/{name}"}

Of a new object that several rules match, the first decides.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from triggers.errors import PermanentError
from triggers.request import RunRequest, from_document
from triggers.strict_json import check_json

VERSION = 1
PLACEHOLDERS = {
    "uri": "gs://BUCKET/NAME of the object",
    "bucket": "its bucket",
    "name": "its name, without the bucket",
    "folder": "gs://BUCKET/FOLDER that holds it, without a slash at the end",
    "folder_name": "that folder, without the bucket",
    "generation": "its generation",
}
_PATTERN = re.compile(r"[*?\[\]]")
# {{ and }} stand for a brace.
_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True)
class Arrived:
    """An object that has arrived.

    Attributes:
        bucket: Its bucket.
        name: Its name.
        generation: Which content under this name it is: a number that grows when the object is replaced.
    """

    bucket: str
    name: str
    generation: str

    @classmethod
    def from_event(cls, data: dict[str, Any]) -> Self:
        """Reads the data of a finalized object's event.

        Raises:
            PermanentError: It names no object.
        """
        values = [data.get(field) for field in ("bucket", "name", "generation")]
        bucket, name, generation = (str(value) if isinstance(value, str | int) else "" for value in values)
        if not (bucket and name and re.fullmatch(r"[0-9]{1,20}", generation)):
            raise PermanentError("The event names no object.", "It must have a bucket, a name and a generation.")
        check_json(name)
        return cls(bucket, name, generation)

    @property
    def uri(self) -> str:
        """Its URI."""
        return f"gs://{self.bucket}/{self.name}"

    @property
    def key(self) -> str:
        """What makes two events the same run."""
        return f"{self.uri}#{self.generation}"

    @property
    def values(self) -> dict[str, str]:
        """What the placeholders stand for."""
        folder = self.name.rpartition("/")[0]
        uri = f"gs://{self.bucket}/{folder}".rstrip("/")
        values = (self.uri, self.bucket, self.name, uri, folder, self.generation)
        return dict(zip(PLACEHOLDERS, values, strict=True))


class Rule(BaseModel):
    """Objects, and the run that each of them makes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
    bucket: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][-_.a-z0-9]{1,220}[a-z0-9]$")]
    prefix: str = Field(default="", description="What the object's name begins with, without gs:// and the bucket.")
    suffix: str = Field(default="", description="What it ends with.")
    marker: str = Field(default="", description="What the object is called in its folder, such as _SUCCESS.")
    pipeline: str
    parameters: dict[str, Any] = Field(default_factory=dict, description="Texts in them may have placeholders.")
    machine: str | list[str] | None = None
    enable_caching: bool | None = None
    labels: dict[str, str] = Field(default_factory=dict)

    @field_validator("parameters")
    @classmethod
    def _check_parameters(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        fill(parameters, dict.fromkeys(PLACEHOLDERS, ""))
        return parameters

    @model_validator(mode="after")
    def _check_marker(self) -> Self:
        if self.marker and (self.suffix or "/" in self.marker):
            raise ValueError("marker is the name of a file, and goes without suffix")
        if self.prefix.startswith(("gs://", "/")):
            raise ValueError("prefix is what the object's name begins with, without gs:// and the bucket")
        if not (self.prefix or self.suffix or self.marker):
            raise ValueError("give a prefix, a suffix or a marker: whatever arrived in the bucket would run")
        return self

    def matches(self, arrived: Arrived) -> bool:
        """Returns whether an object makes a run by this rule."""
        last = arrived.name.rpartition("/")[2]
        return (
            arrived.bucket == self.bucket
            and arrived.name.startswith(self.prefix)
            and arrived.name.endswith(self.suffix)
            # What ends with a slash only stands for a folder.
            and (last == self.marker if self.marker else bool(last))
        )

    def hides(self, later: Self) -> bool:
        """Returns whether this rule matches every object that a later one matches."""
        ending = later.marker or later.suffix
        same_end = later.marker == self.marker if self.marker else ending.endswith(self.suffix)
        return later.bucket == self.bucket and later.prefix.startswith(self.prefix) and same_end

    def request(self, arrived: Arrived) -> RunRequest:
        """Returns the run request that an object makes.

        Raises:
            PermanentError: It is no request, or a pipeline would take the object's name for a pattern.
        """
        if _PATTERN.search(arrived.name):
            raise PermanentError(
                "The object's name has one of * ? [ ], by which a pipeline would read other objects too.",
                "Give it another name.",
            )
        document = {
            "version": 1,
            "pipeline": self.pipeline,
            "parameters": fill(self.parameters, arrived.values),
            "machine": self.machine,
            "enable_caching": self.enable_caching,
            "labels": self.labels,
        }
        return from_document(document)


class Rules(BaseModel):
    """The rules, in the order in which they are tried."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    version: int
    rules: Annotated[list[Rule], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.version != VERSION:
            raise ValueError(f"version is {self.version}, and this trigger reads version {VERSION}")
        names = [rule.name for rule in self.rules]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise ValueError(f"two rules are called {twice[0]}")
        for number, rule in enumerate(self.rules):
            self._check_output(rule)
            for earlier in self.rules[:number]:
                if earlier.hides(rule):
                    raise ValueError(f"{rule.name} never decides: {earlier.name} comes before it, and matches the same")
        return self

    def _check_output(self, rule: Rule) -> None:
        """Refuses a rule whose run writes where a rule waits: the runs would start each other without an end."""
        example = Arrived(rule.bucket, f"{rule.prefix}object{rule.suffix}", "0")
        output = str(fill(rule.parameters, example.values).get("output_uri", ""))
        for other in self.rules:
            if f"{output.rstrip('/')}/".startswith(f"gs://{other.bucket}/{other.prefix}"):
                where = f"gs://{other.bucket}/{other.prefix}"
                raise ValueError(f"{rule.name} writes to {where}, where {other.name} waits: write somewhere else")


def fill(value: Any, values: dict[str, str]) -> Any:
    """Replaces the placeholders in every text of a value.

    Args:
        value: Text, or lists and objects with text.
        values: What each placeholder stands for.

    Returns:
        A new value. What is filled in is not looked at again, whatever an object is called.

    Raises:
        ValueError: A text has an unknown placeholder, or a single brace.
    """
    if isinstance(value, dict):
        return {name: fill(item, values) for name, item in value.items()}
    if isinstance(value, list):
        return [fill(item, values) for item in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        if match[1] not in values:
            known = ", ".join(f"{{{name}}}" for name in values)
            raise ValueError(f"has {match[0][:64]!r}: the placeholders are {known}, and {{{{ stands for a brace")
        return values[match[1]]

    return _BRACES.sub(replace, value)


def find_rule(rules: Rules, arrived: Arrived) -> Rule | None:
    """Returns the first rule that an object matches; None when there is none."""
    return next((rule for rule in rules.rules if rule.matches(arrived)), None)
