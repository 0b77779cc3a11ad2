"""Compares predictions with labels: metrics, a confusion matrix, ROC curves and a report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.evaluation.evaluate_predictions.limits import classification_metadata
from components.evaluation.evaluate_predictions.report import build_page
from components.evaluation.evaluate_predictions.scores import Evaluation, score
from components.evaluation.evaluate_predictions.tally import Tally, tally
from components.reports import Page
from components.storage import write_texts


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found.

    Attributes:
        metrics: Finite numbers by name; without labelled rows only `rows` and `labelled_rows`.
        classification: The metadata of a ClassificationMetrics artifact, within Vertex AI's limits.
    """

    metrics: dict[str, float]
    classification: dict[str, Any]


def evaluate(
    predictions_path: str | Path,
    labels: Sequence[str] | None,
    metrics_path: str | Path,
    classification_path: str | Path,
    report_path: str | Path,
    title: str = "",
) -> Evaluated:
    """Evaluates a Predictions Dataset and writes its three files.

    Args:
        predictions_path: The Dataset's folder.
        labels: The model's labels in the order of `probabilities`; without them the labels that occur are used, and
            probabilities are left aside.
        metrics_path: Where the numbers go, over all rows and per class, as JSON.
        classification_path: Where the whole confusion matrix goes as JSON, a `[label, prediction, rows]` per cell that
            is not empty, however many labels there are.
        report_path: Where the HTML report goes.
        title: The report's heading; "Evaluation of predictions" by default.

    Returns:
        The metrics, and the metadata of a ClassificationMetrics artifact.

    Raises:
        InputError: The Dataset holds no predictions, or they do not fit the labels. Nothing is written then.
    """
    counts = tally(predictions_path, list(labels or ()))
    evaluation = score(counts)
    page = build_page(evaluation, counts, title)
    return write_results(evaluation, counts, page, metrics_path, classification_path, report_path)


def write_results(
    evaluation: Evaluation,
    counts: Tally,
    page: Page,
    metrics_path: str | Path,
    classification_path: str | Path,
    report_path: str | Path,
    details: Mapping[str, Any] | None = None,
) -> Evaluated:
    """Writes an evaluation's three files, and says its numbers.

    Args:
        evaluation: The numbers.
        counts: What they were computed from.
        page: The report.
        metrics_path: Where the numbers go.
        classification_path: Where the whole confusion matrix goes.
        report_path: Where the report goes.
        details: What the file of the numbers says besides them, by name.

    Returns:
        The metrics, and the metadata of a ClassificationMetrics artifact.
    """
    numbers = {**evaluation.metrics, "classes": _class_numbers(evaluation), "notes": evaluation.notes}
    write_texts(
        {
            metrics_path: to_json({**numbers, **(details or {})}),
            classification_path: to_json(_confusion(counts)),
            report_path: page.render(),
        }
    )
    rest = {name: value for name, value in evaluation.metrics.items() if name not in ("rows", "labelled_rows")}
    said = ", ".join(f"{name} {value:.4g}" for name, value in rest.items())
    print(f"Evaluated {counts.labelled_rows:,} labelled rows of {counts.rows:,}. {said}", flush=True)
    for note in evaluation.notes:
        print(note, flush=True)
    return Evaluated(evaluation.metrics, classification_metadata(evaluation, counts.pairs))


def to_json(content: Mapping[str, Any]) -> str:
    """Returns the text of a file of results."""
    return json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)


def _class_numbers(evaluation: Evaluation) -> list[dict[str, Any]]:
    return [
        {
            "label": one.label,
            "known": one.known,
            "support": one.support,
            "predicted": one.predicted,
            "precision": one.precision,
            "recall": one.recall,
            "f1": one.f1,
            **({"roc_auc": one.roc.area} if one.roc else {}),
        }
        for one in evaluation.classes
    ]


def _confusion(counts: Tally) -> dict[str, Any]:
    cells = [[counts.names[label], counts.names[said], rows] for (label, said), rows in sorted(counts.pairs.items())]
    return {"labels": counts.names, "confusion": cells}
