"""Evaluates parts of a Predictions Dataset: by the length of the text, and by the values of columns."""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.datasets import LABEL, TEXT, read_batches
from components.errors import InputError
from components.evaluation.evaluate_classifier.intervals import Interval, macro_f1, macro_f1_interval, wilson_interval
from components.evaluation.evaluate_predictions.tally import PREDICTION

TEXT_LENGTH = "text length"
# The same edges for every data set and model, so that two reports can be laid side by side.
LENGTH_EDGES = (0, 1, 51, 101, 201, 401, 801, 1601, 3201)
LARGEST_VALUES = 20
# Values are compared by their beginnings: a column may hold whole documents.
VALUE_CHARACTERS = 200
# A column of ids has as many values as rows; those that are rare among this many are forgotten on the way.
COUNTED_VALUES = 10_000
OTHER, NONE = "(other)", "(none)"


@dataclass(frozen=True)
class Slice:
    """How well the model does on a part of the rows.

    Attributes:
        column: What the rows are divided by.
        value: What they have in common.
        rows: All rows of it.
        labelled_rows: Those with a label; the numbers below are over these, and None without any.
        accuracy: Share that is right.
        accuracy_interval: Wilson's 95 % interval of it.
        macro_f1: The mean F1 of the classes that have rows or predictions in the slice.
        macro_f1_interval: Its 95 % interval, from resampled rows.
    """

    column: str
    value: str
    rows: int
    labelled_rows: int
    accuracy: float | None = None
    accuracy_interval: Interval | None = None
    macro_f1: float | None = None
    macro_f1_interval: Interval | None = None


def check_slice_columns(schema: pa.Schema, columns: Sequence[str]) -> list[str]:
    """Returns the columns to slice by, each once.

    Raises:
        InputError: The Dataset lacks one, or its values are lists or the like.
    """
    for name in columns:
        if name not in schema.names:
            close = difflib.get_close_matches(str(name), schema.names, n=1)
            remedy = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(map(repr, schema.names))}."
            raise InputError(f"The Dataset has no column {name!r} to slice by.", remedy)
        kind = schema.field(name).type
        if not _has_text(kind):
            raise InputError(
                f"The values of the column {name!r} are of the type {kind}.", "Slice by texts, numbers or dates."
            )
    return list(dict.fromkeys(columns))


def slice_predictions(path: str | Path, columns: Sequence[str], names: Sequence[str]) -> list[Slice]:
    """Evaluates slices of a Predictions Dataset, in memory that does not grow with its rows.

    Args:
        path: The Dataset's folder.
        columns: The columns to slice by, besides the length of the text.
        names: Every label whose name is kept, as `Tally.names` has them.

    Returns:
        The slices that have rows: by length from short to long, then each column's values from the largest down, with
        the other values last.
    """
    values = {name: _largest_values(path, name) for name in columns}
    counts = {TEXT_LENGTH: _SliceCounts(_length_names()), **{name: _SliceCounts(kept) for name, kept in values.items()}}
    known = pa.array(names, pa.string())
    for batch in read_batches(path, columns=list(dict.fromkeys([TEXT, LABEL, PREDICTION, *columns]))):
        labelled = batch.column(LABEL).is_valid().to_numpy(zero_copy_only=False)
        # Names beyond those that are kept get two codes, which are never equal.
        labels = _codes(batch.column(LABEL), known, len(names))
        predictions = _codes(batch.column(PREDICTION), known, len(names) + 1)
        lengths = pc.utf8_length(batch.column(TEXT)).to_numpy(zero_copy_only=False)
        places = {TEXT_LENGTH: np.searchsorted(LENGTH_EDGES, lengths, side="right") - 1}
        for name, kept in values.items():
            places[name] = _codes(_as_text(batch.column(name)), pa.array(kept[:-1], pa.string()), len(kept) - 1)
        for name, where in places.items():
            counts[name].add(where, labelled, labels, predictions)
    return [one for name, counted in counts.items() for one in counted.slices(name)]


class _SliceCounts:
    """Rows by slice, label and prediction, for one way of slicing."""

    def __init__(self, values: Sequence[str]):
        self._values = values
        self._rows = np.zeros(len(values), np.int64)
        self._pairs: list[Counter[tuple[int, int]]] = [Counter() for _ in values]

    def add(self, places: np.ndarray, labelled: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> None:
        self._rows += np.bincount(places, minlength=len(self._values))
        cells = np.stack([places, labels, predictions])[:, labelled]
        found, rows = np.unique(cells, axis=1, return_counts=True)
        for place, label, prediction, count in zip(*found.tolist(), rows.tolist(), strict=True):
            self._pairs[place][label, prediction] += count

    def slices(self, column: str) -> list[Slice]:
        return [
            _evaluate(column, value, int(rows), pairs)
            for value, rows, pairs in zip(self._values, self._rows, self._pairs, strict=True)
            if rows
        ]


def _evaluate(column: str, value: str, rows: int, pairs: Counter[tuple[int, int]]) -> Slice:
    labelled = sum(pairs.values())
    if not labelled:
        return Slice(column, value, rows, 0)
    right = sum(count for (label, prediction), count in pairs.items() if label == prediction)
    return Slice(
        column,
        value,
        rows,
        labelled,
        accuracy=right / labelled,
        accuracy_interval=wilson_interval(right, labelled),
        macro_f1=macro_f1(pairs),
        macro_f1_interval=macro_f1_interval(pairs),
    )


def _largest_values(path: str | Path, column: str) -> list[str]:
    """Returns a column's most frequent values, and last the name of all others."""
    counts: Counter[str] = Counter()
    for batch in read_batches(path, columns=[column]):
        for pair in pc.value_counts(_as_text(batch.column(0))).to_pylist():
            counts[pair["values"]] += pair["counts"]
        if len(counts) > 2 * COUNTED_VALUES:
            # What all share is taken from each (Misra and Gries): a value with more than one row in COUNTED_VALUES
            # is never lost, and memory stays bounded.
            floor = sorted(counts.values(), reverse=True)[COUNTED_VALUES]
            counts = Counter({value: rows - floor for value, rows in counts.items() if rows > floor})
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:LARGEST_VALUES]
    return [value for value, _ in largest] + [OTHER]


def _has_text(kind: pa.DataType) -> bool:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return False
    try:
        pc.cast(pa.array([], kind), pa.string())
    except pa.ArrowNotImplementedError:
        return False
    return True


def _as_text(column: pa.Array) -> pa.Array:
    text = pc.utf8_slice_codeunits(pc.cast(column, pa.string()), 0, VALUE_CHARACTERS)
    return pc.fill_null(text, NONE)


def _codes(column: pa.Array, names: pa.Array, other: int) -> np.ndarray:
    found = pc.index_in(pc.cast(column, pa.string()), value_set=names)
    return pc.fill_null(found, other).to_numpy(zero_copy_only=False).astype(np.int64)


def _length_names() -> list[str]:
    names = ["empty"]
    for first, beyond in zip(LENGTH_EDGES[1:], LENGTH_EDGES[2:], strict=False):
        names.append(f"{first:,} to {beyond - 1:,} characters")
    return [*names, f"{LENGTH_EDGES[-1]:,} characters and more"]
