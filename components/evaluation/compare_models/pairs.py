"""Reads two models' predictions of the same rows side by side, and counts them.

A comparison needs no more than how many rows have each (label, candidate's prediction, champion's prediction), and for
the log loss two numbers per row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.datasets import ID, LABEL, TEXT, count_rows, read_batches, read_schema
from components.errors import InputError
from components.reports import shorten

PREDICTION, PROBABILITIES = "prediction", "probabilities"
MOST_LABELS = 10_000
MERGE_CELLS = 1_000_000
EXAMPLES = 10


@dataclass(frozen=True)
class Predictions:
    """A Dataset with predictions.

    Attributes:
        path: Its folder.
        labels: The model's labels in the order of `probabilities`; empty when they are not known.
        name: What a message calls it.
    """

    path: str | Path
    labels: Sequence[str]
    name: str


@dataclass(frozen=True)
class Example:
    """A row that only one of the two models got right."""

    id: str
    text: str
    label: str
    candidate: str
    champion: str


@dataclass
class Pairs:
    """The labelled rows, counted; nothing in it depends on their order except the examples.

    Attributes:
        labels: The labels that occur, sorted as text.
        cells: Label, candidate's and champion's prediction as indices into `labels`, of shape (cells, 3), sorted. A
            prediction that is none of `labels` is `len(labels)`.
        counts: Rows per cell.
        rows: All rows, labelled or not.
        losses: Each row's loss in nats under the candidate and the champion, of shape (2, labelled rows), when asked
            for; NaN where a row has no finite probabilities.
        lost: The first rows that only the champion got right.
        won: The first rows that only the candidate got right.
    """

    labels: list[str]
    cells: np.ndarray
    counts: np.ndarray
    rows: int
    losses: np.ndarray | None = None
    lost: list[Example] = field(default_factory=list)
    won: list[Example] = field(default_factory=list)

    @property
    def labelled_rows(self) -> int:
        """The rows that everything is computed from."""
        return int(self.counts.sum())


def count_pairs(candidate: Predictions, champion: Predictions, with_losses: bool = False) -> Pairs:
    """Counts two models' predictions of the same rows.

    Args:
        candidate: One model's predictions.
        champion: The other's.
        with_losses: Whether to read the probabilities too.

    Raises:
        InputError: The rows, their order or their labels differ, a prediction or the probabilities are missing, or
            the label column holds free text.
    """
    for one in (candidate, champion):
        _check_columns(one, with_losses)
    sizes = count_rows(candidate.path), count_rows(champion.path)
    if sizes[0] != sizes[1]:
        raise _different_rows(f"The candidate has {sizes[0]:,} predictions and the champion {sizes[1]:,}.")
    counter = _Counter()
    losses: list[np.ndarray] = [np.zeros((2, 0))]
    position = 0
    for left, right in _read_together(candidate, champion, with_losses):
        _check_same_rows(left, right, position)
        position += left.num_rows
        labelled = left.column(LABEL).is_valid()
        left, right = left.filter(labelled), right.filter(labelled)
        counter.add(left, right)
        if with_losses:
            losses.append(np.stack([_losses(left, candidate), _losses(right, champion)]))
    pairs = counter.finish(sizes[0])
    if with_losses:
        # Sorted, so that sums do not depend on the order of the rows.
        together = np.concatenate(losses, axis=1)
        pairs.losses = together[:, np.lexsort(together)]
    return pairs


class _Counter:
    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._labels: set[str] = set()
        self._cells = np.zeros((0, 3), np.int64)
        self._counts = np.zeros(0, np.int64)
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self._lost: list[Example] = []
        self._won: list[Example] = []

    def add(self, left: pa.RecordBatch, right: pa.RecordBatch) -> None:
        columns = [left.column(LABEL), left.column(PREDICTION), right.column(PREDICTION)]
        rows = np.stack([self._encode(column, is_label=not place) for place, column in enumerate(columns)], axis=1)
        self._pending.append(np.unique(rows, axis=0, return_counts=True))
        if sum(len(counts) for _, counts in self._pending) > MERGE_CELLS:
            self._merge()
        candidate_right, champion_right = rows[:, 1] == rows[:, 0], rows[:, 2] == rows[:, 0]
        self._keep(self._lost, left, right, champion_right & ~candidate_right)
        self._keep(self._won, left, right, candidate_right & ~champion_right)

    def finish(self, rows: int) -> Pairs:
        self._merge()
        labels = sorted(self._labels)
        places = {name: place for place, name in enumerate(labels)}
        sorted_code = np.array([places.get(name, len(labels)) for name in self._codes], np.int64)
        cells, counts = _group(sorted_code[self._cells], self._counts)
        return Pairs(labels, cells, counts, rows, lost=self._lost, won=self._won)

    def _merge(self) -> None:
        cells = np.concatenate([self._cells, *(cells for cells, _ in self._pending)])
        counts = np.concatenate([self._counts, *(counts for _, counts in self._pending)])
        self._cells, self._counts = _group(cells, counts)
        self._pending = []

    def _encode(self, column: pa.Array, is_label: bool) -> np.ndarray:
        encoded = pc.cast(column, pa.string()).dictionary_encode()
        names = encoded.dictionary.to_pylist()
        if is_label:
            self._labels.update(names)
        codes = np.array([self._codes.setdefault(name, len(self._codes)) for name in names], np.int64)
        if len(self._codes) > MOST_LABELS:
            raise InputError(
                f"There are more than {MOST_LABELS:,} labels.", "Check that the label column is the right one."
            )
        return codes[encoded.indices.to_numpy(zero_copy_only=False)]

    def _keep(self, kept: list[Example], left: pa.RecordBatch, right: pa.RecordBatch, rows: np.ndarray) -> None:
        for row in np.flatnonzero(rows)[: EXAMPLES - len(kept)].tolist():
            values = {name: left.column(name)[row].as_py() for name in (ID, TEXT, LABEL, PREDICTION)}
            other = right.column(PREDICTION)[row].as_py()
            kept.append(Example(values[ID], shorten(values[TEXT]), values[LABEL], values[PREDICTION], other))


def _group(cells: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    unique, inverse = np.unique(cells, axis=0, return_inverse=True)
    sums = np.zeros(len(unique), np.int64)
    np.add.at(sums, inverse.ravel(), counts)
    return unique, sums


def _read_together(
    candidate: Predictions, champion: Predictions, with_losses: bool
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Yields batches of the same rows, however either Dataset is divided into files."""
    columns = [ID, LABEL, PREDICTION] + [PROBABILITIES] * with_losses
    lefts = read_batches(candidate.path, columns=[*columns, TEXT])
    rights = read_batches(champion.path, columns=columns)
    left, right = next(lefts, None), next(rights, None)
    while left is not None and right is not None:
        rows = min(left.num_rows, right.num_rows)
        yield left.slice(0, rows), right.slice(0, rows)
        left = left.slice(rows) if rows < left.num_rows else next(lefts, None)
        right = right.slice(rows) if rows < right.num_rows else next(rights, None)


def _check_columns(one: Predictions, with_losses: bool) -> None:
    columns = read_schema(one.path).names
    if PREDICTION not in columns:
        raise InputError(f"The {one.name} has no column {PREDICTION!r}.", "Give the output of evaluate_classifier.")
    if with_losses and (PROBABILITIES not in columns or not one.labels):
        raise InputError(
            f"The log loss needs probabilities, and the predictions of the {one.name} have none, or no"
            " metadata.labels that says which is which.",
            "Predict with include_probabilities, or compare by another metric.",
        )


def _check_same_rows(left: pa.RecordBatch, right: pa.RecordBatch, position: int) -> None:
    for name, what in ((ID, "id"), (LABEL, "label")):
        ours, theirs = left.column(name), right.column(name)
        if ours.equals(theirs):
            continue
        row = next(row for row in range(left.num_rows) if ours[row].as_py() != theirs[row].as_py())
        raise _different_rows(
            f"Row {position + row} has the {what} {ours[row].as_py()!r} in the candidate's predictions and"
            f" {theirs[row].as_py()!r} in the champion's."
        )
    for batch, name in ((left, "candidate"), (right, "champion")):
        if batch.column(PREDICTION).null_count:
            raise InputError(f"Some rows of the {name} have no prediction.", "Predict all rows of the Dataset.")


def _different_rows(headline: str) -> InputError:
    return InputError(headline, "Predict the same Dataset with both models.")


def _losses(batch: pa.RecordBatch, one: Predictions) -> np.ndarray:
    """Returns each row's loss in nats; that of a label that the model does not know is the largest there is."""
    column = batch.column(PROBABILITIES)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    lengths = pc.list_value_length(column).drop_null()
    if len(lengths) and not pc.all(pc.equal(lengths, len(one.labels))).as_py():
        raise InputError(
            f"The {one.name} has {len(one.labels)} labels, and a row has another number of probabilities.",
            "Give predictions and the labels of the same model.",
        )
    values = np.full((batch.num_rows, len(one.labels) + 1), np.nan)
    known = pc.cast(column.drop_null().flatten(), pa.float64()).to_numpy(zero_copy_only=False)
    values[present, :-1] = known.reshape(-1, len(one.labels))
    values[~np.isfinite(values[:, :-1]).all(axis=1)] = np.nan
    values[:, -1] = np.where(np.isnan(values[:, 0]), np.nan, 0.0)
    places = {name: place for place, name in enumerate(one.labels)}
    own = [places.get(label, len(one.labels)) for label in batch.column(LABEL).to_pylist()]
    probability = values[np.arange(batch.num_rows), own]
    return -np.log(np.clip(probability, np.finfo(np.float32).eps, 1.0))
