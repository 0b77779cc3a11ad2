"""Checks a Dataset as a whole: from its columns and its statistics, without reading the rows."""

import pyarrow as pa

from components.data.profile_dataset.columns import kind_of
from components.data.schema import AnomalyKind, Schema
from components.data.statistics import Duplicate, Statistics
from components.data.validate_dataset.anomalies import Anomaly, Example, say_rows
from components.datasets import LABEL, TEXT
from components.reports import shorten


def column_anomalies(columns: pa.Schema, schema: Schema) -> list[Anomaly]:
    """Compares a Dataset's columns and their types with those of a schema."""
    anomalies = []

    def add(column: str, kind: AnomalyKind, expected: str, found: str) -> None:
        anomalies.append(Anomaly(column, kind, schema.severity(kind), expected, found))

    for name, rules in schema.columns.items():
        if name not in columns.names:
            if rules.required:
                add(name, "missing_column", f"a column of type {rules.type}", "none of that name")
            continue
        kind = kind_of(columns.field(name).type)
        if not _fits(kind, rules.type):
            add(name, "wrong_type", rules.type, f"{kind} ({columns.field(name).type})")
    for name in columns.names:
        if not schema.expects(name):
            add(name, "unexpected_column", "no column of that name", str(columns.field(name).type))
    return anomalies


def _fits(kind: str, wanted: str) -> bool:
    # A column of nulls only has no type of its own.
    return wanted == "any" or kind in (wanted, "null") or (kind, wanted) == ("integer", "number")


def row_anomalies(statistics: Statistics, schema: Schema) -> list[Anomaly]:
    """Checks what holds for all rows together: how many there are, and how many repeat a text."""
    anomalies, rules, duplicates = [], schema.rows, statistics.duplicates

    def add(column: str, kind: AnomalyKind, expected: str, rows: int, examples: list[Duplicate]) -> None:
        share = rows / statistics.rows if statistics.rows else 0.0
        found = say_rows(rows, share)
        shown = [Example(one.ids[0], f"{one.rows:,} rows", shorten(one.text)) for one in examples]
        anomalies.append(Anomaly(column, kind, schema.severity(kind), expected, found, rows, share, shown))

    if rules.minimum is not None and statistics.rows < rules.minimum:
        found = f"{statistics.rows:,} rows"
        severity = schema.severity("too_few_rows")
        anomalies.append(Anomaly("", "too_few_rows", severity, f"{rules.minimum:,} rows or more", found))
    if _exceeds(duplicates.rows, statistics.rows, rules.maximum_duplicate_share):
        expected = f"up to {100 * (rules.maximum_duplicate_share or 0):.3g} % of the rows repeat a text"
        add(TEXT, "duplicates", expected, duplicates.rows, duplicates.examples)
    if _exceeds(duplicates.conflicting_rows, statistics.rows, rules.maximum_conflicting_share):
        expected = (
            f"up to {100 * (rules.maximum_conflicting_share or 0):.3g} % of the rows have a text of other labels too"
        )
        add(LABEL, "conflicting_labels", expected, duplicates.conflicting_rows, duplicates.conflicting_examples)
    return anomalies


def _exceeds(part: int, rows: int, share: float | None) -> bool:
    return share is not None and rows > 0 and part / rows > share


def label_anomalies(statistics: Statistics, schema: Schema) -> list[Anomaly]:
    """Checks how many rows each label has."""
    rules, labels, anomalies = schema.label, statistics.labels, []
    if not labels.complete:
        return []  # too many labels to be classes: unknown_value says so where labels are named
    expected_labels = sorted(labels.counts) if rules.values is None else rules.values
    rows = {label: labels.counts.get(label, 0) for label in expected_labels}
    if rules.minimum_rows is not None:
        for label, count in rows.items():
            if count < rules.minimum_rows:
                expected = f"{rules.minimum_rows:,} rows or more of each label"
                share = count / statistics.rows if statistics.rows else 0.0
                found = f"{count:,} rows of {label!r}"
                severity = schema.severity("rare_label")
                anomalies.append(Anomaly(LABEL, "rare_label", severity, expected, found, count, share))
    present = {label: count for label, count in labels.counts.items() if count}
    if rules.maximum_imbalance is not None and present:
        most, rarest = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        imbalance = present[most] / present[rarest]
        if imbalance > rules.maximum_imbalance:
            expected = f"no label with more than {rules.maximum_imbalance:g} times the rows of another"
            found = f"{imbalance:.3g} times as many rows of {most!r} as of {rarest!r}"
            severity = schema.severity("imbalanced_labels")
            anomalies.append(Anomaly(LABEL, "imbalanced_labels", severity, expected, found))
    return anomalies
