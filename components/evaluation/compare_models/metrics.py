"""The metrics that models are compared by, as functions of how many rows fall into each cell.

Weights come in, so that one resample or a thousand are one call. All averages run over the labels that have rows: both
models are measured on the same labels, whatever else either of them predicts.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.sparse import csr_array

from components.errors import InputError
from components.evaluation.compare_models.pairs import Pairs

LOG_LOSS = "log_loss"
OVERALL = ("accuracy", "macro_f1", "weighted_f1", "macro_recall", "macro_precision")
PER_LABEL = ("f1", "recall", "precision")
# Losses are resampled in groups of rows with nearly the same difference; the extreme ones stand for themselves.
LOSS_GROUPS = 4096


class Gain(Protocol):
    """By how much the candidate is better than the champion; cells are groups of rows that are alike.

    Attributes:
        counts: Rows per cell.
        candidate: The candidate's value.
        champion: The champion's value.
        higher_is_better: False for the log loss.
    """

    counts: np.ndarray
    candidate: float
    champion: float
    higher_is_better: bool

    def resampled(self, weights: np.ndarray) -> np.ndarray:
        """Returns the gain for other numbers of rows per cell: of shape (resamples,), from (resamples, cells)."""

    def swapped(self, rows: np.ndarray) -> np.ndarray:
        """Returns the gain when in so many rows of each cell the two models' outputs are exchanged."""


@dataclass(frozen=True)
class Confusion:
    """One model's rows per label, of shape (resamples, labels): with that label, predicted as it, and both."""

    support: np.ndarray
    predicted: np.ndarray
    right: np.ndarray

    def score(self, metric: str, label: int = 0) -> np.ndarray:
        """Returns a metric of each resample, of shape (resamples,); a ratio with nothing to count is 0."""
        if metric == "accuracy":
            return _ratio(self.right.sum(axis=1), self.support.sum(axis=1))
        kind = metric.split("_")[-1]
        each = {
            "f1": lambda: _ratio(2 * self.right, self.support + self.predicted),
            "recall": lambda: _ratio(self.right, self.support),
            "precision": lambda: _ratio(self.right, self.predicted),
        }[kind]()
        if metric.startswith("weighted_"):
            return _ratio((each * self.support).sum(axis=1), self.support.sum(axis=1))
        if metric.startswith("macro_"):
            occurs = self.support > 0
            return _ratio((each * occurs).sum(axis=1), occurs.sum(axis=1))
        return each[:, label]


class ConfusionGain:
    """The gain of a metric of labels and predictions; `Gain` says what its parts mean.

    Args:
        pairs: The counted rows, at least one of them labelled.
        metric: One of `OVERALL`, or of `PER_LABEL`.
        label: The label that a metric of `PER_LABEL` is of.
    """

    higher_is_better = True

    def __init__(self, pairs: Pairs, metric: str, label: int = 0):
        self.counts = pairs.counts
        self._metric, self._label = metric, label
        labels, size = pairs.cells[:, 0], len(pairs.labels)
        self._support = _indicator(labels, labels >= 0, size)
        self._predicted, self._right = [], []
        for said in (pairs.cells[:, 1], pairs.cells[:, 2]):
            self._predicted.append(_indicator(said, said < size, size))
            self._right.append(_indicator(said, said == labels, size))
        whole = self.counts[None, :].astype(float)
        self.confusions = [self._confusion([(whole, model)], whole) for model in (0, 1)]
        self.candidate, self.champion = (float(self._score(one)[0]) for one in self.confusions)

    def resampled(self, weights: np.ndarray) -> np.ndarray:
        """Returns the gain for other numbers of rows per cell."""
        weights = weights.astype(float)
        ours, theirs = (self._score(self._confusion([(weights, model)], weights)) for model in (0, 1))
        return ours - theirs

    def swapped(self, rows: np.ndarray) -> np.ndarray:
        """Returns the gain when in so many rows of each cell the two predictions are exchanged."""
        whole, rows = np.broadcast_to(self.counts, rows.shape).astype(float), rows.astype(float)
        kept = whole - rows
        ours = self._score(self._confusion([(kept, 0), (rows, 1)], whole))
        theirs = self._score(self._confusion([(kept, 1), (rows, 0)], whole))
        return ours - theirs

    def _confusion(self, parts: list[tuple[np.ndarray, int]], whole: np.ndarray) -> Confusion:
        return Confusion(
            support=whole @ self._support,
            predicted=sum(weights @ self._predicted[model] for weights, model in parts),
            right=sum(weights @ self._right[model] for weights, model in parts),
        )

    def _score(self, confusion: Confusion) -> np.ndarray:
        return confusion.score(self._metric, self._label)


class LossGain:
    """The gain of the log loss: how much lower the candidate's is; `Gain` says what its parts mean.

    Args:
        losses: The two models' loss of each row in nats, of shape (2, rows), sorted alike for any order of the rows.
    """

    higher_is_better = False

    def __init__(self, losses: np.ndarray):
        self.candidate, self.champion = losses.mean(axis=1).tolist()
        differences = np.sort(losses[1] - losses[0])
        rows = len(differences)
        ends = LOSS_GROUPS // 4
        if rows > LOSS_GROUPS:
            middle = np.linspace(ends, rows - ends, LOSS_GROUPS - 2 * ends + 1).astype(np.int64)[:-1]
            starts = np.concatenate([np.arange(ends), middle, np.arange(rows - ends, rows)])
        else:
            starts = np.arange(rows)
        self.counts = np.diff(starts, append=rows)
        self._means = np.add.reduceat(differences, starts) / self.counts

    def resampled(self, weights: np.ndarray) -> np.ndarray:
        """Returns the gain for other numbers of rows per cell."""
        return weights @ self._means / weights.sum(axis=1)

    def swapped(self, rows: np.ndarray) -> np.ndarray:
        """Returns the gain when in so many rows of each cell the two losses are exchanged."""
        return (self.counts - 2 * rows) @ self._means / self.counts.sum()


def check_metric(metric: str) -> None:
    """Raises an InputError for a metric that there is not."""
    kind, _, label = metric.partition(":")
    if metric not in (*OVERALL, LOG_LOSS) and not (kind in PER_LABEL and label):
        names = ", ".join([*OVERALL, LOG_LOSS, *(f"{name}:<label>" for name in PER_LABEL)])
        raise InputError(f"There is no metric {metric!r} to compare by.", f"Give one of: {names}.")


def measure_gain(pairs: Pairs, metric: str) -> Gain:
    """Measures both models by a metric.

    Args:
        pairs: The counted rows, at least one of them labelled; with losses for the log loss.
        metric: `accuracy`, `macro_f1`, `weighted_f1`, `macro_recall`, `macro_precision`, `log_loss`, or `f1:<label>`,
            `recall:<label>`, `precision:<label>`.

    Raises:
        InputError: No row has the label that the metric names.
    """
    if metric == LOG_LOSS:
        assert pairs.losses is not None
        return LossGain(pairs.losses)
    kind, _, label = metric.partition(":")
    if not label:
        return ConfusionGain(pairs, metric)
    if label not in pairs.labels:
        raise InputError(f"No row has the label {label!r}.", f"Compare by one of: {', '.join(pairs.labels[:20])}.")
    return ConfusionGain(pairs, kind, pairs.labels.index(label))


def _indicator(columns: np.ndarray, where: np.ndarray, size: int) -> csr_array:
    cells = np.flatnonzero(where)
    return csr_array((np.ones(len(cells)), (cells, columns[cells])), shape=(len(columns), size))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return above / np.maximum(below, 1)
