"""Turns counts into the numbers of an evaluation."""

import math
from dataclasses import dataclass, field

import numpy as np

from components.evaluation.evaluate_predictions.tally import (
    EXTRA_LABELS,
    FURTHER_LABELS,
    FURTHER_PREDICTIONS,
    Tally,
    bin_thresholds,
)


@dataclass(frozen=True)
class RocCurve:
    """A ROC curve from (0, 0) to (1, 1).

    Attributes:
        false_positive_rates: Rising, of shape (points,).
        true_positive_rates: Rising, of shape (points,).
        thresholds: Falling and finite, in [0, 1]; a row counts as positive when its probability is at least this,
            except at the first point, where no row does.
        area: The area under the curve.
        area_error: How far the exact area can be from `area`: half of the share of pairs that fall into one bin.
    """

    false_positive_rates: np.ndarray
    true_positive_rates: np.ndarray
    thresholds: np.ndarray
    area: float
    area_error: float


@dataclass(frozen=True)
class ClassScores:
    """How well one class is recognised; a ratio whose denominator is 0 is 0, as in scikit-learn.

    Attributes:
        label: The class.
        known: Whether the model has it; a label that the model does not know is never predicted.
        support: Labelled rows of this class.
        predicted: Labelled rows for which the model said it.
        precision: Share of those predictions that are right.
        recall: Share of those rows that were found.
        f1: Harmonic mean of the two.
        roc: This class against all others; None without probabilities or when the rows are all or none of it.
    """

    label: str
    known: bool
    support: int
    predicted: int
    precision: float
    recall: float
    f1: float
    roc: RocCurve | None


@dataclass(frozen=True)
class Evaluation:
    """The numbers of an evaluation.

    Attributes:
        metrics: Finite numbers by name, for a Metrics artifact; without labelled rows only the two counts of rows.
        classes: The model's labels in its order, then all other labels that occur.
        roc: The curve to show first: of the second label when there are two, else the micro-average of all classes.
        roc_name: What `roc` is.
        notes: What a reader has to know before trusting the numbers, a sentence each.
    """

    metrics: dict[str, float]
    classes: list[ClassScores]
    roc: RocCurve | None = None
    roc_name: str = ""
    notes: list[str] = field(default_factory=list)


def score(counts: Tally) -> Evaluation:
    """Computes every number of an evaluation from its counts."""
    metrics: dict[str, float] = {"rows": counts.rows, "labelled_rows": counts.labelled_rows}
    classes = _score_classes(counts)
    if not counts.labelled_rows:
        return Evaluation(metrics, classes, notes=_notes(counts, classes))
    # scikit-learn averages over the labels that occur: a class without rows and predictions has no F1 to speak of.
    occurring = [one for one in classes if one.support or one.predicted]
    support = np.array([one.support for one in occurring])
    f1 = np.array([one.f1 for one in occurring])
    metrics["accuracy"] = sum(n for (label, said), n in counts.pairs.items() if label == said) / counts.labelled_rows
    metrics["macro_precision"] = float(np.mean([one.precision for one in occurring]))
    metrics["macro_recall"] = float(np.mean([one.recall for one in occurring]))
    metrics["macro_f1"] = float(f1.mean())
    metrics["weighted_f1"] = float(f1 @ support / support.sum())
    scored = counts.score_counts.sum()
    if scored:
        gaps = np.abs(counts.score_counts[1] - counts.score_sums)
        metrics["expected_calibration_error"] = float(gaps.sum() / scored)
    if counts.log_loss_rows:
        metrics["log_loss"] = counts.log_loss_sum / counts.log_loss_rows
    roc, roc_name = _headline_roc(counts, classes)
    areas = [one.roc.area for one in classes if one.roc]
    if roc and counts.model_labels == 2:
        metrics["roc_auc"] = roc.area
    elif roc:
        metrics["roc_auc_micro"] = roc.area
    if areas and counts.model_labels != 2:
        metrics["roc_auc_macro"] = float(np.mean(areas))
    metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
    return Evaluation(metrics, classes, roc, roc_name, _notes(counts, classes))


def roc_curve(positives: np.ndarray, negatives: np.ndarray) -> RocCurve | None:
    """Draws the ROC curve of two histograms of probabilities.

    Args:
        positives: Rows of the class in each bin, lowest probabilities first, of shape (bins,).
        negatives: All other rows, likewise.

    Returns:
        The curve, or None when there is no positive or no negative row.
    """
    rows, others = positives.sum(), negatives.sum()
    if not rows or not others:
        return None
    filled = np.flatnonzero(positives + negatives)[::-1]
    found = np.concatenate([[0], np.cumsum(positives[filled])]) / rows
    false = np.concatenate([[0], np.cumsum(negatives[filled])]) / others
    thresholds = np.concatenate([[1.0], bin_thresholds(len(positives))[filled]])
    area = float(np.sum(np.diff(false) * (found[1:] + found[:-1]) / 2))
    error = float(np.sum(positives / rows * (negatives / others)) / 2)
    return RocCurve(false, found, thresholds, area, error)


def _score_classes(counts: Tally) -> list[ClassScores]:
    support, predicted, right = (np.zeros(len(counts.names), np.int64) for _ in range(3))
    for (label, said), rows in counts.pairs.items():
        support[label] += rows
        predicted[said] += rows
        if label == said:
            right[label] += rows
    precision = right / np.maximum(predicted, 1)
    recall = right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(support + predicted, 1)
    return [
        ClassScores(
            label=name,
            known=code < counts.model_labels or not counts.model_labels,
            support=int(support[code]),
            predicted=int(predicted[code]),
            precision=float(precision[code]),
            recall=float(recall[code]),
            f1=float(f1[code]),
            roc=_class_roc(counts, code),
        )
        for code, name in enumerate(counts.names)
    ]


def _class_roc(counts: Tally, code: int) -> RocCurve | None:
    if code >= counts.model_labels:
        return None
    return roc_curve(counts.positives[code], counts.totals[code] - counts.positives[code])


def _headline_roc(counts: Tally, classes: list[ClassScores]) -> tuple[RocCurve | None, str]:
    if counts.model_labels == 2:
        return classes[1].roc, counts.names[1]
    positives = counts.positives.sum(axis=0)
    return roc_curve(positives, counts.totals.sum(axis=0) - positives), "micro-average"


def _notes(counts: Tally, classes: list[ClassScores]) -> list[str]:
    notes = []
    unlabelled = counts.rows - counts.labelled_rows
    if not counts.rows:
        notes.append("The data set has no rows, so there is nothing to evaluate.")
    elif not counts.labelled_rows:
        notes.append(
            "No row has a label, so nothing says which predictions are right: only what was predicted is shown."
        )
    elif unlabelled:
        notes.append(f"{unlabelled:,} of {counts.rows:,} rows have no label and are left out of every comparison.")
    unknown = sorted((one for one in classes if not one.known and one.support), key=lambda one: -one.support)
    if unknown:
        named = ", ".join(f"“{one.label}” ({one.support:,})" for one in unknown[:10])
        more = f" and {len(unknown) - 10:,} more" if len(unknown) > 10 else ""
        rows = sum(one.support for one in unknown)
        notes.append(f"{rows:,} rows have a label that the model does not know and count as wrong: {named}{more}.")
    if {FURTHER_LABELS, FURTHER_PREDICTIONS} & set(counts.names):
        notes.append(
            f"More than {EXTRA_LABELS:,} labels are none of the model's; those after the first {EXTRA_LABELS:,} are"
            " counted together, as wrong. Is the label column the right one?"
        )
    if counts.labelled_rows:
        without_score = counts.labelled_rows - int(counts.score_counts.sum())
        if without_score:
            notes.append(f"{without_score:,} labelled rows have no score between 0 and 1; calibration leaves them out.")
        without = counts.labelled_rows - counts.rows_with_probabilities
        if counts.rows_with_probabilities and without:
            notes.append(f"{without:,} labelled rows have no finite probabilities; ROC and log loss leave them out.")
    return notes
