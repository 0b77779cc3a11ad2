"""Checks a Dataset row by row against the rules of its schema, in one pass and in bounded memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from components.data.profile_dataset.columns import missing_values
from components.data.schema import AnomalyKind, Schema
from components.data.validate_dataset.anomalies import EXAMPLES, Anomaly, Example, say_rows
from components.datasets import ID, LABEL, TEXT, read_batches
from components.progress import Progress
from components.reports import shorten

SHOWN_VALUES = 10
VALUE_CHARACTERS = 40


@dataclass
class RowCheck:
    """A rule for every row of a column.

    Attributes:
        column: The column.
        kind: What a row is that breaks it.
        expected: What the rule says.
        breaks: Tells of each value whether it breaks the rule.
        allowed: The share of rows that may break it.
        names_values: Whether the message names the values that break it.
        rows: The rows that broke it so far.
        examples: The first of them.
        values: The first different values of them, where the message names them.
    """

    column: str
    kind: AnomalyKind
    expected: str
    breaks: Callable[[pa.Array], pa.Array]
    allowed: float = 0.0
    names_values: bool = False
    rows: int = 0
    examples: list[Example] = field(default_factory=list)
    values: list[str] = field(default_factory=list)

    def add(self, batch: pa.RecordBatch) -> None:
        """Checks the next rows."""
        column = batch.column(self.column)
        broken = pc.fill_null(self.breaks(column), False)
        count = pc.sum(broken).as_py() or 0
        if not count:
            return
        self.rows += count
        if len(self.examples) < EXAMPLES:
            rows = pc.indices_nonzero(broken).slice(0, EXAMPLES - len(self.examples))
            ids, texts = batch.column(ID).take(rows).to_pylist(), batch.column(TEXT).take(rows).to_pylist()
            for id_, value, text in zip(ids, _plain(column.take(rows)), texts, strict=True):
                self.examples.append(Example(id_, None if value is None else shorten(str(value)), shorten(text)))
        if self.names_values and len(self.values) < SHOWN_VALUES:
            for value in column.filter(broken).unique().to_pylist():
                if value not in self.values and len(self.values) < SHOWN_VALUES:
                    self.values.append(value)

    def anomaly(self, rows: int, schema: Schema) -> Anomaly | None:
        """Returns what was found, if it is more than is allowed.

        Args:
            rows: All rows of the Dataset.
            schema: Says how severe it is.
        """
        severity = schema.severity(self.kind)
        share = self.rows / rows if rows else 0.0
        if severity == "ignore" or not self.rows or share <= self.allowed:
            return None
        found = say_rows(self.rows, share)
        if self.values:
            found += ": " + ", ".join(repr(shorten(value, VALUE_CHARACTERS)) for value in self.values)
            found += ", …" * (len(self.values) == SHOWN_VALUES)
        return Anomaly(self.column, self.kind, severity, self.expected, found, self.rows, share, self.examples)


def check_rows(path: str | Path, checks: list[RowCheck], rows: int) -> None:
    """Runs checks over all rows of a Dataset, reading only the columns that they need."""
    columns = list(dict.fromkeys([ID, TEXT, *(check.column for check in checks)]))
    with Progress(rows, "validate_dataset") as progress:
        for batch in read_batches(path, columns=columns):
            for check in checks:
                check.add(batch)
            progress.update(batch.num_rows)


def plan_checks(schema: Schema, columns: pa.Schema) -> list[RowCheck]:
    """Returns the rules that concern single rows.

    Args:
        schema: The rules.
        columns: The Dataset's columns. Those that it lacks, or that are of another type, are left to other checks.
    """
    checks = _text_checks(schema) + _label_checks(schema)
    for name, rules in schema.columns.items():
        if name not in columns.names:
            continue
        kind = columns.field(name).type
        if rules.maximum_missing_share is not None:
            checks.append(_missing(name, rules.maximum_missing_share))
        if rules.values is not None and _is_text(kind):
            checks.append(_domain(name, rules.values))
        bounds = rules.minimum, rules.maximum
        if bounds != (None, None) and (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)):
            checks.append(_range(name, *bounds))
    return checks


def _text_checks(schema: Schema) -> list[RowCheck]:
    rules, checks = schema.text, []
    low, high = rules.minimum_characters, rules.maximum_characters
    if rules.maximum_blank_share is not None:
        expected = f"up to {100 * rules.maximum_blank_share:.3g} % of the rows"
        checks.append(RowCheck(TEXT, "blank_texts", expected, _is_missing(TEXT), rules.maximum_blank_share))
    if low is not None:
        expected = f"{low:,} characters or more"
        checks.append(RowCheck(TEXT, "short_texts", expected, lambda texts: _is_short(texts, low)))
    if high is not None:
        expected = f"{high:,} characters or fewer"
        checks.append(RowCheck(TEXT, "long_texts", expected, lambda texts: pc.greater(pc.utf8_length(texts), high)))
    return checks


def _label_checks(schema: Schema) -> list[RowCheck]:
    checks = []
    if schema.label.values is not None:
        checks.append(_domain(LABEL, schema.label.values))
    if schema.label.maximum_missing_share is not None:
        checks.append(_missing(LABEL, schema.label.maximum_missing_share))
    return checks


def _missing(name: str, share: float) -> RowCheck:
    expected = f"up to {100 * share:.3g} % of the rows" if share else "a value in every row"
    return RowCheck(name, "missing_values", expected, _is_missing(name), share)


def _domain(name: str, values: list[str]) -> RowCheck:
    shown = ", ".join(repr(shorten(value, VALUE_CHARACTERS)) for value in values[:SHOWN_VALUES])
    known = pa.array(values, pa.string())

    def breaks(column: pa.Array) -> pa.Array:
        return pc.and_(pc.is_valid(column), pc.invert(pc.is_in(pc.cast(column, pa.string()), value_set=known)))

    expected = f"one of {shown}" + ", …" * (len(values) > SHOWN_VALUES)
    return RowCheck(name, "unknown_value", expected if values else "no value at all", breaks, names_values=True)


def _range(name: str, low: float | None, high: float | None) -> RowCheck:
    expected = " and ".join([f"at least {low:g}"] * (low is not None) + [f"at most {high:g}"] * (high is not None))

    def breaks(column: pa.Array) -> pa.Array:
        numbers = pc.cast(column, pa.float64(), safe=False)
        below = pc.less(numbers, -float("inf") if low is None else low)
        return pc.or_(below, pc.greater(numbers, float("inf") if high is None else high))

    return RowCheck(name, "out_of_range", expected, breaks)


def _is_missing(name: str) -> Callable[[pa.Array], pa.Array]:
    return lambda column: missing_values(column, name)


def _is_short(texts: pa.Array, low: int) -> pa.Array:
    return pc.and_(pc.less(pc.utf8_length(texts), low), pc.invert(missing_values(texts, TEXT)))


def _is_text(kind: pa.DataType) -> bool:
    return types.is_string(kind.value_type if types.is_dictionary(kind) else kind)


def _plain(column: pa.Array) -> list[object]:
    # A timestamp of nanoseconds or of an unknown time zone has no Python value.
    if types.is_timestamp(column.type):
        column = column.view(pa.int64()).view(pa.timestamp(column.type.unit)).cast(pa.string())
    return column.to_pylist()
