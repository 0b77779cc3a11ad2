"""Says on which side a row falls: a pure function of its key, the seed and the fractions.

A key's hash is a point in [0, 1). Test is the lowest interval, validation the next, train the rest, so a row's side
depends on no other row, and a changed fraction moves only the rows between the old bound and the new.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.datasets import ID, TEXT
from components.errors import InputError

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)


@dataclass(frozen=True)
class Bounds:
    """The shares of validation and test; train has the rest.

    Args:
        validation: A share of all keys, 0 or more.
        test: Likewise.

    Raises:
        InputError: A share is negative or not a number, or nothing is left to train on.
    """

    validation: float
    test: float

    def __post_init__(self) -> None:
        for name, share in (("validation_fraction", self.validation), ("test_fraction", self.test)):
            if not math.isfinite(share) or share < 0:
                raise InputError(f"{name} is {share}.", "Give a share of the rows, 0 or more and below 1.")
        if self.validation + self.test >= 1:
            raise InputError(
                f"validation_fraction {self.validation} and test_fraction {self.test} leave nothing to train on.",
                "Give two shares whose sum is below 1.",
            )

    @property
    def shares(self) -> dict[str, float]:
        """The share of each split."""
        return {
            "train": float(1 - Fraction(self.validation) - Fraction(self.test)),
            "validation": self.validation,
            "test": self.test,
        }

    def sides(self, hashes: np.ndarray) -> np.ndarray:
        """Returns the side of each hash: an index into `SPLITS`, of the hashes' shape."""
        # Fractions: 2 ** 64 times a float is exact in them, and so a bound is the same on every machine.
        test = int(Fraction(self.test) * 2**64)
        validation = int((Fraction(self.test) + Fraction(self.validation)) * 2**64)
        sides = np.where(hashes < np.uint64(validation), VALIDATION, TRAIN)
        return np.where(hashes < np.uint64(test), TEST, sides)


def read_keys(batch: pa.RecordBatch, split_by: str, texts: list[str]) -> tuple[list[str], int]:
    """Returns the key of each row, whose hash decides on its side.

    Args:
        batch: The rows.
        split_by: `text`, `id`, or the name of a column of groups.
        texts: The rows' normalized texts. A row without a group goes by its text, so that not all such rows are one
            group, and no text among them is on two sides.

    Returns:
        A key per row, and how many rows have no group: null, NaN or an empty string.
    """
    if split_by == TEXT:
        return texts, 0
    if split_by == ID:
        return batch.column(ID).to_pylist(), 0
    groups = _as_strings(batch.column(split_by), split_by).to_pylist()
    return [group or text for group, text in zip(groups, texts, strict=True)], sum(not group for group in groups)


def _as_strings(column: pa.Array, name: str) -> pa.Array:
    try:
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), None, column)
        return pc.cast(column, pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise InputError(
            f"The column {name!r} is of type {column.type}, which names no groups.",
            "Give split_by a column of strings, numbers or dates.",
        ) from error
