"""Windows: as many rows as are sorted by length together, and what is done of one before the device sees it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.datasets import ROW_GROUP_ROWS, TEXT, read_batches
from components.inference.engine.batching import Batch
from components.inference.engine.tokenization import Tokens, WindowTokenizer, unique_texts

# Enough to fill batches with texts of one length; few enough that a step which is ended loses little.
WINDOW_ROWS = 8192
WINDOW_BYTES = 2 * 1024 * 1024


@dataclass
class Window:
    """The tokens of a window, the longest text first, each different text once.

    Attributes:
        rows: The texts of the window, repetitions included.
        tokens: The tokens of the different texts, sorted by length.
        place: For each text of the window, where it stands among those.
        counts: For each of those, how often it is in the window.
        answers: What the model said to each of those: (texts, numbers); None before the first answer.
        left: How many of those have no answer yet.
    """

    rows: int
    tokens: Tokens
    place: np.ndarray
    counts: np.ndarray
    answers: np.ndarray | None = None
    left: int = 0

    def take(self, batch: Batch, answer: np.ndarray) -> int:
        """Keeps the answer to a batch, and returns how many texts of the window that answers."""
        if self.answers is None:
            self.answers = np.empty((len(self.counts), answer.shape[1]), dtype=np.float32)
        self.answers[batch.start : batch.stop] = answer[: batch.rows]
        self.left -= batch.rows
        return int(self.counts[batch.start : batch.stop].sum())

    def in_order(self) -> np.ndarray:
        """Returns the answer to each text of the window, in their order."""
        assert self.answers is not None
        return self.answers[self.place]


def make_window(texts: Sequence[str], tokenizer: WindowTokenizer) -> Window:
    """Tokenizes the texts of a window and sorts them by length."""
    different, number = unique_texts(texts)
    tokens = tokenizer.tokenize(different)
    # The longest first: what does not fit into memory fails at once. Stable: the same window gives the same batches.
    order = np.argsort(-tokens.lengths, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    place = rank[number]
    return Window(len(texts), tokens.take(order), place, np.bincount(place, minlength=len(order)), left=len(order))


def cut_texts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cuts texts that are in memory into windows."""
    start = size = 0
    for number, text in enumerate(texts):
        if number - start == WINDOW_ROWS or (number > start and size + len(text) > WINDOW_BYTES):
            yield texts[start:number]
            start, size = number, 0
        size += len(text)
    if start < len(texts):
        yield texts[start:]


def read_windows(dataset: str | Path, start: int, stop: int) -> Iterator[pa.RecordBatch]:
    """Reads a Dataset window by window, in its order.

    Where a window ends depends only on where it begins: reading on from the end of one gives the same windows.

    Args:
        dataset: The Dataset's folder.
        start: The first row.
        stop: The row to stop before.
    """
    for group in read_batches(dataset, batch_rows=ROW_GROUP_ROWS, start=start, stop=stop):
        ends = np.cumsum(pc.binary_length(group.column(TEXT)).to_numpy(zero_copy_only=False))
        first = 0
        while first < group.num_rows:
            before = ends[first - 1] if first else 0
            fitting = int(np.searchsorted(ends, before + WINDOW_BYTES, side="right"))
            last = min(max(fitting, first + 1), first + WINDOW_ROWS)
            yield group.slice(first, last - first)
            first = last
