"""Cuts an evaluation down to what Vertex AI accepts in a ClassificationMetrics artifact.

A task's outputs and their metadata may have 131,072 bytes of JSON in all. Without a cut, a ROC curve of 2,000 points or
a confusion matrix of 150 labels is too much on its own.
"""

import json
from collections import Counter
from typing import Any

import numpy as np

from components.evaluation.evaluate_predictions.scores import Evaluation, RocCurve
from components.reports import unique_names

ROC_POINTS = 500
MATRIX_LABELS = 100
# The rest of the 131,072 bytes is for the Metrics beside it, URIs, and the service's own wrapping.
METADATA_BYTES = 110_000


def classification_metadata(evaluation: Evaluation, pairs: Counter[tuple[int, int]]) -> dict[str, Any]:
    """Returns the metadata of a ClassificationMetrics artifact.

    Args:
        evaluation: The evaluation.
        pairs: Labelled rows by (code of the label, code of the prediction).

    Returns:
        `confidenceMetrics` (at most `ROC_POINTS` points) and `confusionMatrix` (at most `MATRIX_LABELS` labels, fewer
        when their names or numbers are long), each only where there is something to show; together at most
        `METADATA_BYTES` as JSON.
    """
    metadata: dict[str, Any] = {}
    if evaluation.roc:
        metadata["confidenceMetrics"] = [
            {
                "confidenceThreshold": round(threshold, 9),
                "recall": round(recall, 7),
                "falsePositiveRate": round(false, 7),
            }
            for threshold, recall, false in zip(*(part.tolist() for part in _thin(evaluation.roc)), strict=True)
        ]
    if pairs:
        room = METADATA_BYTES - len(json.dumps(metadata))
        limit = MATRIX_LABELS
        while len(json.dumps(matrix := _matrix_metadata(evaluation, pairs, limit))) > room:
            limit = limit * 9 // 10
        metadata["confusionMatrix"] = matrix
    return metadata


def group_matrix(
    evaluation: Evaluation, pairs: Counter[tuple[int, int]], limit: int = MATRIX_LABELS
) -> tuple[list[str], np.ndarray, int]:
    """Returns the confusion matrix, with its rarest labels joined when there are too many of them.

    Args:
        evaluation: The evaluation.
        pairs: Labelled rows by (code of the label, code of the prediction).
        limit: The most labels that the matrix may have, the joined ones counting as one.

    Returns:
        The names, the matrix of shape (labels, labels) with a row per label and a column per prediction, and how many
        labels were joined (0 when none).
    """
    weight = [one.support + one.predicted for one in evaluation.classes]
    # A model's own labels are shown even when they do not occur; others are only here because they did.
    order = sorted(range(len(weight)), key=lambda code: (-weight[code], code))
    joined = len(order) - (limit - 1) if len(order) > limit else 0
    kept = sorted(order[: len(order) - joined])
    place = {code: position for position, code in enumerate(kept)}
    size = len(kept) + bool(joined)
    matrix = np.zeros((size, size), np.int64)
    for (label, said), rows in pairs.items():
        matrix[place.get(label, size - 1), place.get(said, size - 1)] += rows
    names = [evaluation.classes[code].label for code in kept]
    return unique_names(names + [f"({joined} other labels)"] * bool(joined)), matrix, joined


def _matrix_metadata(evaluation: Evaluation, pairs: Counter[tuple[int, int]], limit: int) -> dict[str, Any]:
    names, matrix, _ = group_matrix(evaluation, pairs, limit)
    return {
        "annotationSpecs": [{"displayName": name} for name in names],
        "rows": [{"row": row} for row in matrix.tolist()],
    }


def _thin(roc: RocCurve) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keeps the ends and points at even distances along the curve, so that its bend keeps its points."""
    false, found = roc.false_positive_rates, roc.true_positive_rates
    if len(false) <= ROC_POINTS:
        return roc.thresholds, found, false
    along = false + found
    picked = np.searchsorted(along, np.linspace(0, along[-1], ROC_POINTS), side="left")
    picked[-1] = len(along) - 1
    keep = np.unique(np.minimum(picked, len(along) - 1))
    return roc.thresholds[keep], found[keep], false[keep]
