"""Makes a schema from statistics, or takes one that a person reviewed."""

import math
from pathlib import Path

from components.data.schema import ColumnRules, LabelRules, RowRules, Schema, TextRules, read_schema_file
from components.data.statistics import ColumnStatistics, Statistics, read_statistics
from components.datasets import LABEL, TEXT
from components.errors import InputError
from components.storage import write_texts

LEAST_ROWS_SHARE = 0.001


def infer(
    statistics_path: str | Path,
    schema_path: str | Path,
    schema_uri: str = "",
    length_slack: float = 0.5,
    share_slack: float = 0.05,
    rows_share: float = 0.5,
) -> Schema:
    """Writes a schema.

    Args:
        statistics_path: The statistics of a Dataset that is right.
        schema_path: Where the schema goes, as JSON.
        schema_uri: A reviewed schema, local or `gs://`, which is checked and taken as it is; '' infers one.
        length_slack: A text may have up to 1 + `length_slack` times the characters of the longest, and down to
            1 - `length_slack` times those of the shortest.
        share_slack: What is added to the shares of missing values, blank texts, duplicates and conflicting labels.
        rows_share: The rows, and those of the rarest label, may fall to this share; the most frequent label may have
            1 / `rows_share` times as many rows as now, compared with the rarest.

    Returns:
        The schema.

    Raises:
        InputError: The reviewed schema is wrong, the statistics are none, or a slack is out of range.
    """
    if schema_uri:
        schema = read_schema_file(schema_uri)
    else:
        schema = infer_from(read_statistics(statistics_path), length_slack, share_slack, rows_share)
    write_texts({schema_path: schema.to_json()})
    origin = f"Took the schema at {schema_uri}" if schema_uri else "Inferred a schema"
    labels = "any label" if schema.label.values is None else f"{len(schema.label.values):,} labels"
    print(f"{origin}: {len(schema.columns)} columns, {labels}.", flush=True)
    return schema


def infer_from(
    statistics: Statistics, length_slack: float = 0.5, share_slack: float = 0.05, rows_share: float = 0.5
) -> Schema:
    """Returns a schema that the Dataset of these statistics satisfies, and others like it.

    Raises:
        InputError: A slack is out of range.
    """
    for name, value, limit in (("length_slack", length_slack, 100), ("share_slack", share_slack, 1)):
        if not 0 <= value <= limit:
            raise InputError(f"{name} is {value}.", f"Give a number from 0 to {limit}.")
    if not LEAST_ROWS_SHARE <= rows_share <= 1:
        raise InputError(f"rows_share is {rows_share}.", f"Give a share from {LEAST_ROWS_SHARE} to 1.")
    rows, lengths, duplicates = statistics.rows, statistics.characters, statistics.duplicates

    def allowed(part: int) -> float:
        return _allowed_share(part, rows, share_slack)

    note = f"Inferred from {rows:,} rows" + (f" of digest {statistics.digest[:12]}" if statistics.digest else "")
    return Schema(
        version=1,
        note=f"{note}; not reviewed yet.",
        rows=RowRules(
            minimum=math.floor(rows * rows_share),
            maximum_duplicate_share=allowed(duplicates.rows),
            maximum_conflicting_share=allowed(duplicates.conflicting_rows),
        ),
        text=TextRules(
            minimum_characters=math.floor(lengths.minimum * max(0.0, 1 - length_slack)) if lengths.texts else None,
            maximum_characters=math.ceil(lengths.maximum * (1 + length_slack)) if lengths.texts else None,
            maximum_blank_share=allowed(statistics.column(TEXT).missing),
        ),
        label=_label_rules(statistics, share_slack, rows_share),
        columns={
            column.name: _column_rules(column, allowed(column.missing) if rows else None)
            for column in statistics.columns
        },
    )


def _label_rules(statistics: Statistics, share_slack: float, rows_share: float) -> LabelRules:
    labels = statistics.labels
    missing = _allowed_share(labels.unlabelled, statistics.rows, share_slack)
    if not labels.counts:  # none are known, or they are too many to be classes
        return LabelRules(maximum_missing_share=missing)
    rarest, most = min(labels.counts.values()), max(labels.counts.values())
    return LabelRules(
        values=sorted(labels.counts),
        # At least 1: a label without a row cannot be learnt.
        minimum_rows=max(1, math.floor(rarest * rows_share)),
        maximum_imbalance=_rounded_up(most / rarest / rows_share),
        maximum_missing_share=missing,
    )


def _column_rules(column: ColumnStatistics, missing_share: float | None) -> ColumnRules:
    # The rules for texts and labels have a place of their own.
    return ColumnRules(
        type="any" if column.kind == "null" else column.kind,
        maximum_missing_share=None if column.name in (TEXT, LABEL) else missing_share,
    )


def _allowed_share(part: int, rows: int, slack: float) -> float:
    return min(1.0, _rounded_up((part / rows if rows else 0.0) + slack))


def _rounded_up(value: float) -> float:
    return math.ceil(value * 10_000) / 10_000
