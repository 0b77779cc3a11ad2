"""Says how far a number that comes from few rows may be from the truth."""

import math
from collections import Counter
from typing import NamedTuple

import numpy as np

# The 97.5 % point of the normal distribution, for intervals of 95 %.
NORMAL_POINT = 1.959963984540054
RESAMPLES = 400


class Interval(NamedTuple):
    """The ends of an interval that holds the true value in 95 of 100 cases."""

    low: float
    high: float


def wilson_interval(right: int, rows: int) -> Interval:
    """Returns Wilson's 95 % interval of a share, which stays within 0 and 1 and holds for few rows.

    Args:
        right: The rows that count.
        rows: All rows, at least 1.
    """
    share, square = right / rows, NORMAL_POINT**2
    middle = (share + square / (2 * rows)) / (1 + square / rows)
    half = NORMAL_POINT / (1 + square / rows) * math.sqrt(share * (1 - share) / rows + square / (4 * rows**2))
    # At the ends the exact bound is the share itself, and rounding would miss it.
    return Interval(0.0 if right == 0 else max(0.0, middle - half), 1.0 if right == rows else min(1.0, middle + half))


def macro_f1(pairs: Counter[tuple[int, int]]) -> float:
    """Returns the mean F1 of the classes that occur, from rows by (label, prediction); at least one row."""
    labels, predictions, rows, classes = _arrays(pairs)
    return _mean_f1(labels, predictions, rows, classes)


def macro_f1_interval(pairs: Counter[tuple[int, int]], seed: int = 0) -> Interval:
    """Returns the 95 % interval of the macro-F1 by the percentile bootstrap.

    Rows that share label and prediction are alike here, so drawing rows with replacement is drawing the cells of the
    confusion matrix from a multinomial distribution: the work does not grow with the rows.

    Args:
        pairs: Rows by (label, prediction); at least one.
        seed: Seeds the draws: the same rows have the same interval.
    """
    labels, predictions, rows, classes = _arrays(pairs)
    random, shares, total = np.random.default_rng(seed), rows / rows.sum(), int(rows.sum())
    means = [
        _mean_f1(labels, predictions, random.multinomial(total, shares).astype(float), classes)
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(low), float(high))


def _arrays(pairs: Counter[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    cells = sorted(pairs.items())
    codes = np.array([pair for pair, _ in cells], np.int64)
    found, places = np.unique(codes, return_inverse=True)
    places = places.reshape(codes.shape)
    return places[:, 0], places[:, 1], np.array([rows for _, rows in cells], float), len(found)


def _mean_f1(labels: np.ndarray, predictions: np.ndarray, rows: np.ndarray, classes: int) -> float:
    hits = labels == predictions
    right = np.bincount(labels[hits], weights=rows[hits], minlength=classes)
    both = np.bincount(labels, weights=rows, minlength=classes)
    both += np.bincount(predictions, weights=rows, minlength=classes)
    occurring = both > 0
    return float(np.mean(2 * right[occurring] / both[occurring]))
