"""Counts predictions against labels batch by batch, in memory that does not grow with the rows.

Every number of the evaluation follows from these counts. Probabilities go into histograms that are even in log-odds,
so that 0.999 and 0.9999 stay apart where models are sure of themselves; how far that can move an area under a ROC
curve is known and reported.
"""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.datasets import ID, LABEL, TEXT, read_batches, read_schema
from components.errors import InputError
from components.reports import shorten

PREDICTION, SCORE, PROBABILITIES = "prediction", "score", "probabilities"

# Float32 probabilities close to 1 end at log-odds of 17; those close to 0 go on, and rank the classes of a large model.
LOG_ODDS_RANGE = (-32.0, 17.0)
ROC_BINS = 4096
ROC_CELLS = 4_000_000
SCORE_BINS = 15
# A label column that holds free text has as many labels as rows; beyond this many, names are no longer kept.
EXTRA_LABELS = 1000
# Two names, so that a label and a prediction whose names are no longer kept never count as equal.
FURTHER_LABELS, FURTHER_PREDICTIONS = "(further labels)", "(further predictions)"
WORST_ERRORS = 20


@dataclass(frozen=True, order=True)
class ConfidentError:
    """A row that the model got wrong, ordered by how sure it was.

    Attributes:
        score: The model's score, or -1 where the row has no usable one.
        position: Minus the row's number, so that of two equal scores the first row counts as the worse error.
        id: The row's id.
        text: The beginning of its text.
        label: What is right.
        prediction: What the model said.
    """

    score: float
    position: int
    id: str
    text: str
    label: str
    prediction: str


class Tally:
    """What was counted so far.

    Args:
        labels: The model's labels in the order of `probabilities`; empty when they are not known, and probabilities
            are then left aside, because nothing says which class each of them is for.

    Attributes:
        names: Every label seen, the model's labels first; a label's code is its place in this list.
        model_labels: How many of `names` are the model's.
        rows: All rows.
        labelled_rows: Rows with a label; everything below counts these, except `predicted` and `all_scores`.
        pairs: Rows by (code of the label, code of the prediction).
        predicted: All rows by the code of the prediction.
        all_scores: Usable scores of all rows, in `SCORE_BINS` equal bins from 0 to 1.
        score_counts: The same for rows that are [wrong, right]; two rows of bins.
        score_sums: The sum of the scores in each bin.
        rows_with_probabilities: Labelled rows whose probabilities are all finite.
        positives: Histograms of each class's probability over the rows of that class, [class, bin].
        totals: The same over all rows.
        log_loss_rows: Rows with probabilities whose label the model knows.
        log_loss_sum: The sum of their losses, in nats.
        errors: A heap of the most confident errors.
    """

    def __init__(self, labels: Sequence[str]):
        if len(set(labels)) != len(labels):
            raise InputError(
                "The model's labels are not all different.",
                "Give every class a name of its own in the model's id2label.",
            )
        self.names = list(labels)
        self.model_labels = len(labels)
        self.rows = self.labelled_rows = 0
        self.pairs: Counter[tuple[int, int]] = Counter()
        self.predicted: Counter[int] = Counter()
        self.all_scores = np.zeros(SCORE_BINS, np.int64)
        self.score_counts = np.zeros((2, SCORE_BINS), np.int64)
        self.score_sums = np.zeros(SCORE_BINS)
        bins = max(256, min(ROC_BINS, ROC_CELLS // max(1, len(labels))))
        self.positives = np.zeros((len(labels), bins), np.int64)
        self.totals = np.zeros((len(labels), bins), np.int64)
        self.rows_with_probabilities = self.log_loss_rows = 0
        self.log_loss_sum = 0.0
        self.errors: list[ConfidentError] = []
        self._codes = {name: code for code, name in enumerate(labels)}

    def add(self, batch: pa.RecordBatch) -> None:
        """Counts the rows of a batch.

        Raises:
            InputError: A prediction is null, or a row has more or fewer probabilities than the model has labels.
        """
        if batch.column(PREDICTION).null_count:
            raise InputError(
                "Some rows have no prediction.", "Give the output of classify_text or collect_predictions."
            )
        predicted = self._encode(batch.column(PREDICTION), FURTHER_PREDICTIONS)
        scores = pc.cast(batch.column(SCORE), pa.float64()).to_numpy(zero_copy_only=False)
        self.predicted.update(_count(predicted))
        self.all_scores += _histogram(scores[_usable(scores)])
        labelled = np.flatnonzero(batch.column(LABEL).is_valid().to_numpy(zero_copy_only=False))
        if labelled.size:
            self._add_labelled(
                batch.take(pa.array(labelled)), self.rows + labelled, predicted[labelled], scores[labelled]
            )
        self.rows += batch.num_rows
        self.labelled_rows += labelled.size

    def _add_labelled(
        self, batch: pa.RecordBatch, numbers: np.ndarray, predicted: np.ndarray, scores: np.ndarray
    ) -> None:
        actual = self._encode(batch.column(LABEL), FURTHER_LABELS)
        pairs, counts = np.unique(np.stack([actual, predicted]), axis=1, return_counts=True)
        for label, prediction, count in zip(*pairs.tolist(), counts.tolist(), strict=True):
            self.pairs[label, prediction] += count
        right = actual == predicted
        usable = _usable(scores)
        for kind in (0, 1):
            self.score_counts[kind] += _histogram(scores[usable & (right == kind)])
        self.score_sums += np.bincount(_score_bin(scores[usable]), weights=scores[usable], minlength=SCORE_BINS)
        self._keep_errors(batch, numbers, np.where(usable, scores, -1.0), np.flatnonzero(~right))
        if self.model_labels and PROBABILITIES in batch.schema.names:
            self._add_probabilities(batch.column(PROBABILITIES), actual)

    def _add_probabilities(self, column: pa.Array, actual: np.ndarray) -> None:
        present = column.is_valid().to_numpy(zero_copy_only=False)
        lengths = pc.list_value_length(column).drop_null()
        if len(lengths) and (pc.min(lengths).as_py(), pc.max(lengths).as_py()) != (
            self.model_labels,
            self.model_labels,
        ):
            raise InputError(
                f"A row has {pc.max(lengths).as_py()} probabilities, and the model has {self.model_labels} labels.",
                "Give predictions and the labels of the same model.",
            )
        values = pc.cast(column.drop_null().flatten(), pa.float64()).to_numpy(zero_copy_only=False)
        values, actual = values.reshape(-1, self.model_labels), actual[present]
        finite = np.isfinite(values).all(axis=1)
        values, actual = np.clip(values[finite], 0.0, 1.0), actual[finite]
        known = np.flatnonzero(actual < self.model_labels)
        own = values[known, actual[known]]
        bins = _log_odds_bin(values, self.totals.shape[1])
        cells = bins + np.arange(self.model_labels) * self.totals.shape[1]
        self.totals += np.bincount(cells.ravel(), minlength=self.totals.size).reshape(self.totals.shape)
        own_cells = cells[known, actual[known]]
        self.positives += np.bincount(own_cells, minlength=self.totals.size).reshape(self.totals.shape)
        self.rows_with_probabilities += len(values)
        self.log_loss_rows += known.size
        self.log_loss_sum -= float(np.log(np.maximum(own, np.finfo(np.float32).eps)).sum())

    def _keep_errors(self, batch: pa.RecordBatch, numbers: np.ndarray, scores: np.ndarray, wrong: np.ndarray) -> None:
        for row in wrong[np.argsort(-scores[wrong], kind="stable")[:WORST_ERRORS]].tolist():
            if len(self.errors) == WORST_ERRORS and scores[row] <= self.errors[0].score:
                return
            values = {name: batch.column(name)[row].as_py() for name in (ID, TEXT, LABEL, PREDICTION)}
            values[TEXT] = shorten(values[TEXT] or "")
            error = ConfidentError(score=float(scores[row]), position=-int(numbers[row]), **values)
            (heapq.heappush if len(self.errors) < WORST_ERRORS else heapq.heappushpop)(self.errors, error)

    def _encode(self, column: pa.Array, further: str) -> np.ndarray:
        encoded = pc.cast(column, pa.string()).dictionary_encode()
        codes = [self._code(name, further) for name in encoded.dictionary.to_pylist()]
        return np.asarray(codes, np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]

    def _code(self, name: str, further: str) -> int:
        if name not in self._codes:
            if len(self.names) >= self.model_labels + EXTRA_LABELS:
                name = further
            if name not in self._codes:
                self._codes[name] = len(self.names)
                self.names.append(name)
        return self._codes[name]


def tally(path: str | Path, labels: Sequence[str] = ()) -> Tally:
    """Counts a Predictions Dataset.

    Args:
        path: The Dataset's folder.
        labels: The model's labels in the order of `probabilities`; empty when they are not known.

    Raises:
        InputError: The Dataset holds no predictions, or they do not fit the labels.
    """
    columns = read_schema(path).names
    missing = [name for name in (ID, TEXT, LABEL, PREDICTION, SCORE) if name not in columns]
    if missing:
        raise InputError(
            f"The Dataset has no column {', '.join(map(repr, missing))}.",
            "Give the output of classify_text or collect_predictions.",
        )
    wanted = [ID, TEXT, LABEL, PREDICTION, SCORE] + [PROBABILITIES] * (PROBABILITIES in columns)
    counts = Tally(labels)
    for batch in read_batches(path, columns=wanted):
        counts.add(batch)
    return counts


def bin_thresholds(bins: int) -> np.ndarray:
    """Returns the smallest probability in each bin of a histogram of probabilities."""
    low, high = LOG_ODDS_RANGE
    edges = low + (high - low) * np.arange(bins) / bins
    return 1.0 / (1.0 + np.exp(-edges))


def _log_odds_bin(probabilities: np.ndarray, bins: int) -> np.ndarray:
    low, high = LOG_ODDS_RANGE
    with np.errstate(divide="ignore"):
        log_odds = np.log(probabilities) - np.log1p(-probabilities)
    return np.clip((np.clip(log_odds, low, high) - low) / (high - low) * bins, 0, bins - 1).astype(np.int64)


def _usable(scores: np.ndarray) -> np.ndarray:
    return np.isfinite(scores) & (scores >= 0) & (scores <= 1 + 1e-6)


def _score_bin(scores: np.ndarray) -> np.ndarray:
    return np.minimum((scores * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)


def _histogram(scores: np.ndarray) -> np.ndarray:
    return np.bincount(_score_bin(scores), minlength=SCORE_BINS)


def _count(codes: np.ndarray) -> dict[int, int]:
    values, counts = np.unique(codes, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
