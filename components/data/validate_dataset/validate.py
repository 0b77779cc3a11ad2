"""Validates a Dataset against a schema: a list of anomalies with examples, and a failure where that is asked for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.data.schema import Schema, load_schema
from components.data.statistics import Statistics, read_statistics
from components.data.validate_dataset.anomalies import Anomaly
from components.data.validate_dataset.report import build_page
from components.data.validate_dataset.rows import check_rows, plan_checks
from components.data.validate_dataset.totals import column_anomalies, label_anomalies, row_anomalies
from components.datasets import count_rows, read_schema
from components.errors import InputError
from components.storage import write_texts

VERSION = 1
NAMED_ANOMALIES = 3


@dataclass(frozen=True)
class Validated:
    """What a validation found: numbers by name, and the anomalies, errors first."""

    metrics: dict[str, float]
    anomalies: list[Anomaly]


def validate(
    dataset_path: str | Path,
    statistics_path: str | Path,
    schema_path: str | Path,
    anomalies_path: str | Path,
    metrics_path: str | Path,
    report_path: str | Path,
    report_uri: str = "",
    fail_on_anomalies: bool = True,
    metadata: Mapping[str, Any] | None = None,
    title: str = "",
) -> Validated:
    """Validates a Dataset and writes its three files, also when it fails.

    Args:
        dataset_path: The Dataset's folder.
        statistics_path: Its statistics.
        schema_path: The schema.
        anomalies_path: Where the anomalies go, as JSON: `version`, `rows`, `valid`, `errors`, `warnings`, `anomalies`.
        metrics_path: Where the numbers go, as JSON.
        report_path: Where the HTML report goes.
        report_uri: How the message of a failure calls the report; its path by default.
        fail_on_anomalies: Whether errors (not warnings) are raised.
        metadata: The Dataset's; its digest must be that of the statistics.
        title: The report's heading; "Validation of a dataset" by default.

    Returns:
        What was found.

    Raises:
        InputError: There are errors and `fail_on_anomalies` is set; the message names the first. Or the statistics are
            those of another Dataset, or a file holds something else: nothing is written then.
    """
    statistics, schema = read_statistics(statistics_path), load_schema(schema_path)
    _check_match(dataset_path, statistics, metadata or {})
    anomalies = find_anomalies(dataset_path, statistics, schema)
    errors = [anomaly for anomaly in anomalies if anomaly.severity == "error"]
    metrics: dict[str, float] = {
        "rows": statistics.rows,
        "errors": len(errors),
        "warnings": len(anomalies) - len(errors),
    }
    listed = {
        "version": VERSION,
        "rows": statistics.rows,
        "valid": not errors,
        "errors": len(errors),
        "warnings": len(anomalies) - len(errors),
        "anomalies": [anomaly.to_dict() for anomaly in anomalies],
    }
    write_texts(
        {
            anomalies_path: json.dumps(listed, ensure_ascii=False, indent=1, allow_nan=False),
            metrics_path: json.dumps(metrics, indent=1),
            report_path: build_page(statistics, schema, anomalies, title).render(),
        }
    )
    for anomaly in anomalies:
        print(f"{anomaly.severity}: {anomaly.sentence()}", flush=True)
    print(f"{statistics.rows:,} rows, {len(errors)} errors, {len(anomalies) - len(errors)} warnings.", flush=True)
    if errors and fail_on_anomalies:
        raise _failure(errors, report_uri or str(report_path))
    return Validated(metrics, anomalies)


def find_anomalies(path: str | Path, statistics: Statistics, schema: Schema) -> list[Anomaly]:
    """Returns what a Dataset does against a schema, errors first.

    Args:
        path: The Dataset's folder.
        statistics: Its statistics.
        schema: What it must satisfy.
    """
    columns = read_schema(path)
    checks = plan_checks(schema, columns)
    check_rows(path, checks, statistics.rows)
    found = [check.anomaly(statistics.rows, schema) for check in checks]
    found += [*column_anomalies(columns, schema), *row_anomalies(statistics, schema)]
    found += label_anomalies(statistics, schema)
    anomalies = [anomaly for anomaly in found if anomaly and anomaly.severity != "ignore"]
    return sorted(anomalies, key=lambda one: (one.severity != "error", -one.share, one.column, one.kind))


def _check_match(path: str | Path, statistics: Statistics, metadata: Mapping[str, Any]) -> None:
    rows, digest = count_rows(path), str(metadata.get("digest", ""))
    if rows != statistics.rows or (digest and statistics.digest and digest != statistics.digest):
        raise InputError(
            f"The statistics are those of another Dataset, of {statistics.rows:,} rows; this one has {rows:,}.",
            "Give the statistics that profile_dataset made of this Dataset.",
        )


def _failure(errors: list[Anomaly], report: str) -> InputError:
    named = "; ".join(anomaly.sentence() for anomaly in errors[:NAMED_ANOMALIES])
    more = len(errors) - NAMED_ANOMALIES
    return InputError(
        f"The Dataset does not satisfy its schema: {named}{f'; and {more} more' if more > 0 else ''}.",
        f"Correct the data or the schema; the report with examples is at {report}.",
    )
