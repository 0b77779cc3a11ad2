"""Counts lengths exactly, in memory that does not grow with the rows."""

import math

import numpy as np

from components.data.statistics import Histogram, Lengths

EXACT_BITS = 12
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
BINS = 40


class LengthCounts:
    """Counts how often each length occurs."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._minimum = self._maximum = self._sum = self._squares = 0

    def add(self, lengths: np.ndarray) -> None:
        """Takes the lengths of the next texts: integers of shape (texts,)."""
        if not lengths.size:
            return
        lengths = lengths.astype(np.int64)
        # Python's own integers: no sum depends on where a batch ends.
        self._minimum = int(lengths.min()) if not self._counts else min(self._minimum, int(lengths.min()))
        self._maximum = max(self._maximum, int(lengths.max()))
        self._sum += int(lengths.sum())
        self._squares += (
            int(np.square(lengths.astype(object)).sum()) if lengths.max() > 2**24 else int(np.square(lengths).sum())
        )
        values, counts = np.unique(_rounded(lengths), return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            self._counts[value] = self._counts.get(value, 0) + count

    def beyond(self, limit: int) -> int:
        """Counts the texts that are longer than a limit."""
        return sum(count for length, count in self._counts.items() if length > limit)

    def statistics(self) -> Lengths:
        """Returns what the lengths are like."""
        texts = sum(self._counts.values())
        mean = self._sum / texts if texts else 0.0
        variance = (texts * self._squares - self._sum**2) / texts**2 if texts else 0.0
        lengths = np.array(sorted(self._counts), np.int64)
        counts = np.array([self._counts[length] for length in lengths.tolist()], np.int64)
        percentiles = {str(percent): _percentile(lengths, counts, percent) for percent in PERCENTILES}
        return Lengths(
            texts=texts,
            minimum=self._minimum,
            maximum=self._maximum,
            mean=mean,
            standard_deviation=math.sqrt(variance),
            percentiles=percentiles,
            histogram=_histogram(lengths, counts, percentiles["99"]),
        )


def _rounded(lengths: np.ndarray) -> np.ndarray:
    exponents = np.frexp(lengths.astype(np.float64))[1]
    shift = np.maximum(exponents - EXACT_BITS, 0)
    return (lengths >> shift) << shift


def _percentile(lengths: np.ndarray, counts: np.ndarray, percent: int) -> int:
    if not lengths.size:
        return 0
    cumulated = np.cumsum(counts)
    return int(lengths[np.searchsorted(cumulated * 100, percent * int(cumulated[-1]))])


def _histogram(lengths: np.ndarray, counts: np.ndarray, tail: int) -> Histogram:
    if not lengths.size:
        return Histogram(edges=[0, 1], counts=[0], beyond=0)
    low = int(lengths[0])
    # A few texts of a hundred times the usual length would leave all others in one bin.
    high = int(lengths[-1]) if lengths[-1] <= tail * 1.5 else tail
    width = max(1, math.ceil((high + 1 - low) / BINS))
    edges = np.arange(low, high + width + 1, width)
    drawn = lengths < edges[-1]
    bins, _ = np.histogram(lengths[drawn], edges, weights=counts[drawn])
    return Histogram(edges=edges.tolist(), counts=bins.astype(np.int64).tolist(), beyond=int(counts[~drawn].sum()))
