"""What a Dataset must satisfy, version 1: a JSON file that a person reads, edits and commits.

    {"version": 1,
     "rows": {"minimum": 2500, "maximum_duplicate_share": 0.06},
     "text": {"minimum_characters": 5, "maximum_characters": 300, "maximum_blank_share": 0.05},
     "label": {"values": ["bad", "good"], "minimum_rows": 100, "maximum_imbalance": 8, "maximum_missing_share": 0.05},
     "columns": {"id": {"type": "string"}, "text": {"type": "string"}, "label": {"type": "string"},
                 "year": {"type": "integer", "minimum": 1990, "maximum_missing_share": 0.1}},
     "unexpected_columns": "warning"}

What is left out is not checked, except the version and the columns.
"""

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from components.datasets import ID, LABEL, TEXT
from components.errors import InputError
from components.storage import filesystem

MOST_BYTES = 4 * 1024 * 1024
ColumnType = Literal["string", "integer", "number", "boolean", "date", "timestamp", "list", "other", "any"]
Severity = Literal["error", "warning", "ignore"]
AnomalyKind = Literal[
    "too_few_rows",
    "duplicates",
    "conflicting_labels",
    "missing_column",
    "unexpected_column",
    "wrong_type",
    "missing_values",
    "unknown_value",
    "out_of_range",
    "blank_texts",
    "short_texts",
    "long_texts",
    "rare_label",
    "imbalanced_labels",
]
# What cannot be trained on ends a run; what only may be wrong does not.
WARNINGS = {"conflicting_labels", "short_texts", "long_texts", "imbalanced_labels"}
Share = Annotated[float, Field(ge=0, le=1)] | None
Count = Annotated[int, Field(ge=0)] | None


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class RowRules(_Part):
    """What holds for all rows together.

    Attributes:
        minimum: The least rows.
        maximum_duplicate_share: The greatest share of rows whose text, normalized, occurs in an earlier row.
        maximum_conflicting_share: The greatest share of rows whose text occurs with another label too.
    """

    minimum: Count = None
    maximum_duplicate_share: Share = None
    maximum_conflicting_share: Share = None


class TextRules(_Part):
    """What holds for texts.

    Attributes:
        minimum_characters: The least characters of a text that is not blank.
        maximum_characters: The most.
        maximum_blank_share: The greatest share of blank texts.
    """

    minimum_characters: Count = None
    maximum_characters: Count = None
    maximum_blank_share: Share = None


class LabelRules(_Part):
    """What holds for labels.

    Attributes:
        values: The labels that are allowed.
        minimum_rows: The least rows of each of `values`; where these are not given, of each label that occurs.
        maximum_imbalance: The most rows of a label, divided by the fewest of another.
        maximum_missing_share: The greatest share of rows without a label.
    """

    values: list[str] | None = None
    minimum_rows: Count = None
    maximum_imbalance: Annotated[float, Field(ge=1)] | None = None
    maximum_missing_share: Share = None


class ColumnRules(_Part):
    """What holds for a column.

    Attributes:
        type: What it holds; numbers may be of any width, and an integer counts as a number too.
        required: Whether a Dataset must have it.
        maximum_missing_share: The greatest share of rows where it is null or NaN.
        values: The values that are allowed, for strings.
        minimum: The least value, for integers and numbers.
        maximum: The greatest.
    """

    type: ColumnType = "any"
    required: bool = True
    maximum_missing_share: Share = None
    values: list[str] | None = None
    minimum: float | None = None
    maximum: float | None = None

    @model_validator(mode="after")
    def _fits_type(self) -> Self:
        if self.values is not None and self.type != "string":
            raise ValueError("values need the type string")
        if (self.minimum is not None or self.maximum is not None) and self.type not in ("integer", "number"):
            raise ValueError("minimum and maximum need the type integer or number")
        return self


class Schema(_Part):
    """What a Dataset must satisfy, version 1.

    Attributes:
        version: 1.
        note: For people: where it came from, who reviewed it.
        rows: What holds for all rows together.
        text: What holds for texts.
        label: What holds for labels.
        columns: The columns by name; `id`, `text` and `label`, which every Dataset has, may be left out.
        unexpected_columns: What another column is.
        severities: What an anomaly of a kind is, where it is not what it is by default.
    """

    version: Literal[1]
    note: str = ""
    rows: RowRules = RowRules()
    text: TextRules = TextRules()
    label: LabelRules = LabelRules()
    columns: dict[str, ColumnRules]
    unexpected_columns: Severity = "warning"
    severities: dict[AnomalyKind, Severity] = {}

    @model_validator(mode="after")
    def _is_in_one_place(self) -> Self:
        for name, section in ((TEXT, "text.maximum_blank_share"), (LABEL, "label.values, label.maximum_missing_share")):
            rules = self.columns.get(name)
            if rules and (rules.values is not None or rules.maximum_missing_share is not None):
                raise ValueError(f"columns.{name} has rules that belong to {section}")
        if "unexpected_column" in self.severities:
            raise ValueError("severities has unexpected_column, which belongs to unexpected_columns")
        low, high = self.text.minimum_characters, self.text.maximum_characters
        if low is not None and high is not None and low > high:
            raise ValueError("text.minimum_characters is above text.maximum_characters")
        return self

    def severity(self, kind: AnomalyKind) -> Severity:
        """Returns what an anomaly of a kind is."""
        if kind == "unexpected_column":
            return self.unexpected_columns
        return self.severities.get(kind, "warning" if kind in WARNINGS else "error")

    def expects(self, column: str) -> bool:
        """Tells whether a Dataset may have a column without a word."""
        return column in self.columns or column in (ID, TEXT, LABEL)

    def to_json(self) -> str:
        """Returns the file: everything that is checked, indented for a person."""
        return json.dumps(self.model_dump(exclude_none=True), ensure_ascii=False, indent=2) + "\n"


def read_schema_file(uri: str) -> Schema:
    """Reads a schema from a local path or a `gs://` URI.

    Raises:
        InputError: There is no such file, or it is no schema; the message names the field.
    """
    fs, path = filesystem(uri)
    fs.invalidate_cache()
    if not fs.isfile(path):
        raise InputError(f"There is no schema at {uri!r}.", "Check the path, and that the step may read it.")
    if fs.size(path) > MOST_BYTES:
        raise InputError(f"{uri!r} is too large to be a schema.", "Give the JSON file that infer_schema wrote.")
    return parse_schema(fs.cat_file(path), uri)


def load_schema(path: str | Path) -> Schema:
    """Reads the schema that `infer_schema` wrote.

    Raises:
        InputError: It is no schema; the message names the field.
    """
    return parse_schema(Path(path).read_bytes(), str(path))


def parse_schema(content: bytes, name: str) -> Schema:
    """Checks a schema.

    Args:
        content: The file's bytes.
        name: What the messages call the file.

    Raises:
        InputError: It is not JSON, a field is unknown or missing, or a value is wrong.
    """
    try:
        values = json.loads(content.decode("utf-8-sig"))
        return Schema.model_validate(values)
    except ValidationError as error:
        raise _explained(error.errors()[0], name) from error
    except ValueError as error:  # what json and the decoder raise; ValidationError is one too
        raise InputError(f"The schema {name!r} is not JSON: {error}.", "Correct the file.") from error


def _explained(problem: Any, name: str) -> InputError:
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        *parents, field = map(str, problem["loc"])
        fields = _fields_at(parents)
        close = difflib.get_close_matches(field, fields, n=1)
        remedy = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(fields)}."
        return InputError(f"The schema {name!r} has an unknown field {where!r}.", remedy)
    if problem["type"] == "missing":
        return InputError(f"The schema {name!r} has no {where!r}.", f"Add {where!r}.")
    if problem["type"] == "value_error":
        return InputError(f"The schema {name!r} contradicts itself: {problem['ctx']['error']}.", "Correct the file.")
    message = problem["msg"].replace("Input should be", "Give").rstrip(".")
    place = f"{where!r} is {problem['input']!r}" if where else "it is no JSON object"
    return InputError(f"In the schema {name!r}, {place}.", f"{message}.")


def _fields_at(parents: list[str]) -> list[str]:
    parts: dict[str, type[BaseModel]] = {
        "rows": RowRules,
        "text": TextRules,
        "label": LabelRules,
        "columns": ColumnRules,
    }
    return list((parts[parents[0]] if parents else Schema).model_fields)
