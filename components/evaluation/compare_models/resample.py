"""Says how sure a gain is, by drawing the rows again, and by exchanging the two models' outputs."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr

from components.evaluation.compare_models.metrics import Gain
from components.evaluation.compare_models.pairs import Pairs

# Numbers held at once: 32 MB of them, whatever the cells and resamples.
CHUNK_NUMBERS = 4_000_000


@dataclass(frozen=True)
class Certainty:
    """How sure a gain is.

    Attributes:
        gains: The gain of each resample of the rows, of shape (resamples,).
        low: The interval's lower bound.
        high: Its upper bound.
        p_value: How often the gain is at least as large when the outputs of the two models are exchanged in rows drawn
            by coin: their part in what is seen if the models are equally good.
    """

    gains: np.ndarray
    low: float
    high: float
    p_value: float


def measure_certainty(gain: Gain, confidence: float, resamples: int, seed: int) -> Certainty:
    """Resamples a gain.

    The rows are not drawn one by one: how many of n draws fall into each cell is one draw from a multinomial
    distribution, and how many of a cell's rows are exchanged, one from a binomial distribution. Both are exact, and
    cost as much for a million rows as for a thousand.

    Args:
        gain: The gain.
        confidence: The interval's level, such as 0.95.
        resamples: How many times to draw.
        seed: The same seed gives the same numbers.
    """
    generator = np.random.default_rng(seed)
    rows = int(gain.counts.sum())
    shares = gain.counts / rows
    gains = np.concatenate(
        [gain.resampled(generator.multinomial(rows, shares, size=size)) for size in _chunks(gain, resamples)]
    )
    observed = gain.swapped(np.zeros((1, len(gain.counts)), np.int64))[0]
    as_large = 0
    for size in _chunks(gain, resamples):
        exchanged = generator.binomial(gain.counts, 0.5, size=(size, len(gain.counts)))
        as_large += int((gain.swapped(exchanged) >= observed - 1e-12).sum())
    low, high = np.quantile(gains, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    return Certainty(gains, low, high, (1 + as_large) / (1 + resamples))


def mcnemar_p_value(pairs: Pairs) -> float:
    """Returns the exact two-sided p of McNemar's test: whether one model is right more often than the other."""
    ours, theirs = (int(pairs.counts[rows].sum()) for rows in one_sided(pairs))
    if not ours + theirs:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(ours, theirs), ours + theirs, 0.5)))


def one_sided(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Says which cells only the candidate got right, and which only the champion."""
    label, ours, theirs = pairs.cells.T
    return (ours == label) & (theirs != label), (ours != label) & (theirs == label)


def _chunks(gain: Gain, resamples: int) -> Iterator[int]:
    size = max(1, CHUNK_NUMBERS // max(1, len(gain.counts)))
    for start in range(0, resamples, size):
        yield min(size, resamples - start)
