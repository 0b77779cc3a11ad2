"""Counts labels per split, and says how far the splits' label shares lie from those of all rows."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.special import gammaincc

from components.data.split_dataset.assign import SPLITS

# A label column that holds free text has as many labels as rows; beyond this many, they are no longer counted.
MOST_LABELS = 1000


class LabelCounts:
    """Counts labels as rows come in.

    Attributes:
        unlabelled: Rows without a label per split.
        too_many: Whether there are more than `MOST_LABELS`; then there is nothing but `unlabelled`.
    """

    def __init__(self) -> None:
        self.unlabelled = np.zeros(len(SPLITS), np.int64)
        self.too_many = False
        self._counts: dict[str, np.ndarray] = {}

    def add(self, labels: pa.Array, sides: np.ndarray) -> None:
        """Counts rows.

        Args:
            labels: A string or null per row.
            sides: The index of each row's split.
        """
        present = labels.is_valid().to_numpy(zero_copy_only=False)
        self.unlabelled += np.bincount(sides[~present], minlength=len(SPLITS))
        if self.too_many or not present.any():
            return
        encoded = labels.drop_null().dictionary_encode()
        cells = encoded.indices.to_numpy(zero_copy_only=False) * len(SPLITS) + sides[present]
        table = np.bincount(cells, minlength=len(encoded.dictionary) * len(SPLITS)).reshape(-1, len(SPLITS))
        for name, counts in zip(encoded.dictionary.to_pylist(), table, strict=True):
            self._counts[name] = self._counts.get(name, 0) + counts
        if len(self._counts) > MOST_LABELS:
            self._counts, self.too_many = {}, True

    @property
    def labels(self) -> list[str]:
        """Every label, sorted as text; empty when there are too many."""
        return sorted(self._counts)

    @property
    def table(self) -> np.ndarray:
        """Rows of shape (labels, splits)."""
        return np.array([self._counts[name] for name in self.labels], np.int64).reshape(-1, len(SPLITS))


@dataclass(frozen=True)
class Balance:
    """How alike the splits' labels are.

    Attributes:
        distances: Total variation distance between a split's label shares and those of all labelled rows, from 0 (the
            same) to 1 (no label in common), by the name of the split; only splits with labelled rows.
        deviation: The largest difference of a label's share in a split from its share of all, from 0 to 1.
        deviating_label: That label.
        deviating_split: That split.
        chi_square: Pearson's statistic of the table of labels by splits.
        p_value: How often rows that were split at random would differ as much; 1 when there is nothing to compare.
    """

    distances: dict[str, float]
    deviation: float
    deviating_label: str
    deviating_split: str
    chi_square: float
    p_value: float


def measure_balance(labels: list[str], table: np.ndarray) -> Balance | None:
    """Measures how alike the splits' labels are.

    Args:
        labels: The labels.
        table: Rows of shape (labels, splits).

    Returns:
        The measures; None without labelled rows.
    """
    filled = np.flatnonzero(table.sum(axis=0))
    if not filled.size:
        return None
    counts = table[:, filled]
    overall = counts.sum(axis=1) / counts.sum()
    differences = np.abs(counts / counts.sum(axis=0) - overall[:, None])
    label, split = np.unravel_index(np.argmax(differences), differences.shape)
    expected = overall[:, None] * counts.sum(axis=0)
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    freedom = (len(labels) - 1) * (filled.size - 1)
    return Balance(
        distances={SPLITS[column]: float(differences[:, place].sum() / 2) for place, column in enumerate(filled)},
        deviation=float(differences[label, split]),
        deviating_label=labels[label],
        deviating_split=SPLITS[filled[split]],
        chi_square=chi_square,
        p_value=float(gammaincc(freedom / 2, chi_square / 2)) if freedom else 1.0,
    )
