"""Finds rows whose text is on two sides, from 64 bits per row."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.data.split_dataset.assign import SPLITS
from components.datasets import ID, LABEL, TEXT, read_batches
from components.reports import shorten

EXAMPLES = 10


@dataclass(frozen=True)
class LeakedRow:
    """A row of a split whose text is also elsewhere.

    Attributes:
        id: The row's id.
        label: Its label, or None.
        text: The beginning of its text.
        other_id: The id of the first row with this text in the other split.
        other_label: The label of that row, or None.
    """

    id: str
    label: str | None
    text: str
    other_id: str
    other_label: str | None


@dataclass(frozen=True)
class Leakage:
    """The rows of one split whose normalized text is also in another.

    Attributes:
        split: The split whose rows are counted.
        other: The split that has their texts too.
        rows: How many rows of `split` these are.
        examples: The first of them.
    """

    split: str
    other: str
    rows: int
    examples: list[LeakedRow]


def find_leakage(folders: dict[str, Path], hashes: list[np.ndarray]) -> list[Leakage]:
    """Compares the texts of the splits.

    Args:
        folders: The Dataset of each split.
        hashes: The 64-bit hashes of each split's normalized texts, in the order of `SPLITS` and of the rows. Two texts
            have the same hash by chance in one of 40 million splits of a million rows.

    Returns:
        Validation in train, test in train, and test in validation.
    """
    return [_compare(folders, hashes, split, other) for split, other in ((1, 0), (2, 0), (2, 1))]


def _compare(folders: dict[str, Path], hashes: list[np.ndarray], split: int, other: int) -> Leakage:
    leaked = np.flatnonzero(np.isin(hashes[split], hashes[other]))
    examples = []
    for position in leaked[:EXAMPLES].tolist():
        twin = int(np.argmax(hashes[other] == hashes[split][position]))
        row, match = _read_row(folders[SPLITS[split]], position), _read_row(folders[SPLITS[other]], twin)
        examples.append(LeakedRow(row[ID], row[LABEL], shorten(row[TEXT]), match[ID], match[LABEL]))
    return Leakage(SPLITS[split], SPLITS[other], int(leaked.size), examples)


def _read_row(folder: Path, position: int) -> dict[str, str]:
    (batch,) = read_batches(folder, columns=[ID, TEXT, LABEL], start=position, stop=position + 1)
    return batch.to_pylist()[0]
