"""Classifies the rows of a Dataset with a model, and says how good it is: as a whole, in parts, and how fast."""

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.datasets import DatasetWriter, count_rows, metadata_of, read_schema
from components.evaluation.evaluate_classifier.latency import Latency, measure_latency
from components.evaluation.evaluate_classifier.report import absent_page, add_latency, add_slices
from components.evaluation.evaluate_classifier.slices import check_slice_columns, slice_predictions
from components.evaluation.evaluate_predictions.evaluate import to_json, write_results
from components.evaluation.evaluate_predictions.report import build_page
from components.evaluation.evaluate_predictions.scores import score
from components.evaluation.evaluate_predictions.tally import tally
from components.inference.classify_text.classify import classify, predictions_schema
from components.models import ABSENT, is_absent
from components.storage import move_into_place, write_texts

TITLE = "Evaluation of a classifier"


@dataclass(frozen=True)
class ClassifierEvaluated:
    """What an evaluation found.

    Attributes:
        predictions: The metadata of the Predictions; with `absent` when there was no model.
        metrics: Finite numbers by name.
        classification: The metadata of a ClassificationMetrics artifact, within Vertex AI's limits.
    """

    predictions: dict[str, Any]
    metrics: dict[str, float]
    classification: dict[str, Any]


def evaluate(
    dataset: str | Path,
    model: str | Path,
    predictions_path: str | Path,
    metrics_path: str | Path,
    classification_path: str | Path,
    report_path: str | Path,
    slice_columns: Sequence[str] = (),
    batch_size: int = 0,
    max_length: int = 0,
    title: str = "",
    dataset_digest: str = "",
    model_digest: str = "",
) -> ClassifierEvaluated:
    """Evaluates a model on a Dataset and writes predictions, numbers and a report.

    Args:
        dataset: The Dataset's folder.
        model: The Model's folder; the absent Model gives Predictions without rows.
        predictions_path: The folder that the Predictions become.
        metrics_path: Where the numbers go, over all rows, per class and per slice, as JSON.
        classification_path: Where the whole confusion matrix goes as JSON.
        report_path: Where the HTML report goes.
        slice_columns: Columns whose values are evaluated one by one.
        batch_size: The most rows that go through the model at once; 0 leaves it to the device.
        max_length: The most tokens of a text that are read; 0 reads as many as the model can.
        title: The report's heading.
        dataset_digest: The Dataset's digest, where it is known.
        model_digest: The Model's digest, where it is known.

    Returns:
        The metadata of the Predictions, the metrics and the classification metrics.

    Raises:
        InputError: A setting is wrong, or the model cannot classify the rows. Nothing is written then.
    """
    columns = check_slice_columns(read_schema(dataset), slice_columns)
    if is_absent(model):
        return _without_model(
            dataset, model, predictions_path, metrics_path, classification_path, report_path, title, dataset_digest
        )
    with tempfile.TemporaryDirectory(prefix="evaluation-") as folder:
        finished = Path(folder) / "predictions"
        metadata = classify(
            dataset,
            model,
            finished,
            batch_size=batch_size,
            max_length=max_length,
            include_probabilities=True,
            dataset_digest=dataset_digest,
            model_digest=model_digest,
        )
        counts = tally(finished, metadata["labels"])
        evaluation = score(counts)
        slices = slice_predictions(finished, columns, counts.names) if counts.labelled_rows else []
        latency = measure_latency(dataset, model, max_length)
        speed = _speed_numbers(latency, metadata["rows_per_second"])
        evaluation = dataclasses.replace(evaluation, metrics={**evaluation.metrics, **speed})
        page = build_page(evaluation, counts, title or TITLE)
        add_slices(page, slices, evaluation.metrics)
        if latency:
            add_latency(page, latency, metadata["rows_per_second"], batch_size)
        details = {
            "slices": [dataclasses.asdict(one) for one in slices],
            "latency": dataclasses.asdict(latency) if latency else None,
        }
        written = write_results(
            evaluation, counts, page, metrics_path, classification_path, report_path, details=details
        )
        move_into_place(finished, Path(predictions_path))
    return ClassifierEvaluated(metadata, written.metrics, written.classification)


def _speed_numbers(latency: Latency | None, rows_per_second: float) -> dict[str, float]:
    if not latency:
        return {}
    return {
        "latency_p50_ms": round(latency.p50, 3),
        "latency_p95_ms": round(latency.p95, 3),
        "rows_per_second": rows_per_second,
    }


def _without_model(
    dataset: str | Path,
    model: str | Path,
    predictions_path: str | Path,
    metrics_path: str | Path,
    classification_path: str | Path,
    report_path: str | Path,
    title: str,
    dataset_digest: str,
) -> ClassifierEvaluated:
    """Writes Predictions without rows, so that the steps after this one are the same on a first run."""
    reference = json.loads((Path(model) / ABSENT).read_text(encoding="utf-8")).get("reference", "")
    rows = count_rows(dataset)
    page = absent_page(title or TITLE, reference, rows)
    with DatasetWriter(predictions_path, predictions_schema(read_schema(dataset), True)) as writer:
        pass
    write_texts(
        {
            metrics_path: to_json({"rows": 0, "notes": page.notes}),
            classification_path: to_json({"labels": [], "confusion": []}),
            report_path: page.render(),
        }
    )
    print(page.notes[0], flush=True)
    metadata = metadata_of(
        writer, absent=True, reference=reference, labels=[], dataset_rows=rows, dataset_digest=dataset_digest
    )
    return ClassifierEvaluated(metadata, {"rows": 0}, {})
