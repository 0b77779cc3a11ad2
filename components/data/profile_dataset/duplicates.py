"""Finds texts that occur more than once, in 12 bytes per row."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.data.hashing import hash_keys, normalize_text
from components.data.statistics import Duplicate, Duplicates
from components.datasets import ID, LABEL, TEXT, read_batches
from components.reports import shorten

EXAMPLES, EXAMPLE_ROWS = 5, 3


class SeenTexts:
    """Keeps a hash of every text (normalized as `split_dataset` does it) and of its label.

    Two of a million different texts have the same hash with a probability of 3 in 100 million.
    """

    def __init__(self) -> None:
        self._texts = bytearray()
        self._labels = bytearray()
        self._blank = bytearray()

    def add(self, texts: Sequence[str], labels: pa.Array) -> None:
        """Takes the next rows' texts and labels."""
        normalized = [normalize_text(text) for text in texts]
        self._texts += hash_keys(normalized, seed=0).tobytes()
        self._blank += np.array([not text for text in normalized], np.uint8).tobytes()
        encoded = labels.dictionary_encode()
        # 0 stands for no label, and no label has it.
        hashes = np.append(hash_keys(encoded.dictionary.to_pylist(), seed=0).astype(np.uint32) | 1, np.uint32(0))
        codes = encoded.indices.fill_null(len(hashes) - 1).to_numpy(zero_copy_only=False)
        self._labels += hashes[codes].tobytes()

    def statistics(self, path: str | Path) -> Duplicates:
        """Returns what was found; examples are read from the Dataset again."""
        texts = np.frombuffer(self._texts, np.uint64)
        labels = np.frombuffer(self._labels, np.uint32)
        order = np.argsort(texts, kind="stable")
        order = order[~np.frombuffer(self._blank, np.bool_)[order]]
        starts = np.flatnonzero(np.diff(texts[order], prepend=~texts[order[:1]]))
        sizes = np.diff(starts, append=len(order))
        repeated = sizes > 1
        conflicting = _has_conflict(labels[order], starts) & repeated
        return Duplicates(
            texts=int(repeated.sum()),
            rows=int((sizes[repeated] - 1).sum()),
            conflicting_texts=int(conflicting.sum()),
            conflicting_rows=int(sizes[conflicting].sum()),
            examples=_examples(path, order, starts[repeated], sizes[repeated]),
            conflicting_examples=_examples(path, order, starts[conflicting], sizes[conflicting]),
        )


def _has_conflict(labels: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Tells of each group of rows whether two of its labelled rows differ."""
    if not len(labels):
        return np.zeros(0, bool)
    largest = np.maximum.reduceat(labels, starts)
    smallest = np.minimum.reduceat(np.where(labels == 0, np.uint32(2**32 - 1), labels), starts)
    return (largest > 0) & (smallest < largest)


def _examples(path: str | Path, order: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> list[Duplicate]:
    # The largest groups; of equally large ones those that begin first.
    picked = np.lexsort((order[starts], -sizes))[:EXAMPLES]
    return [_read(path, order[starts[group] : starts[group] + sizes[group]]) for group in picked]


def _read(path: str | Path, rows: np.ndarray) -> Duplicate:
    found = []
    for row in rows[:EXAMPLE_ROWS].tolist():
        (batch,) = read_batches(path, columns=[ID, TEXT, LABEL], start=row, stop=row + 1)
        found.append(batch.to_pylist()[0])
    return Duplicate(
        rows=len(rows),
        ids=[one[ID] for one in found],
        labels=[one[LABEL] for one in found],
        text=shorten(found[0][TEXT]),
    )
