"""Describes columns of any type: what is missing, how many values differ, and between which bounds they lie."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from components.data.hashing import hash_keys
from components.data.statistics import ColumnStatistics, Kind
from components.datasets import ID, TEXT

# Up to so many different values are counted exactly; beyond, the count is off by 0.5 % or so.
MOST_VALUES = 65_536


class DistinctCount:
    """Counts different values from their hashes: exactly, and beyond `most` as an estimate from a sample.

    Args:
        most: The most hashes that are kept.
    """

    def __init__(self, most: int = MOST_VALUES):
        self._most, self._level = most, 0
        self._hashes = np.empty(0, np.uint64)

    def add(self, hashes: np.ndarray) -> None:
        """Takes 64-bit hashes of the next values."""
        self._hashes = np.union1d(self._hashes, self._thin(hashes))
        while len(self._hashes) > self._most:
            self._level += 1
            self._hashes = self._thin(self._hashes)

    @property
    def exact(self) -> bool:
        """Whether `count` is exact."""
        return self._level == 0

    @property
    def count(self) -> int:
        """How many different values there were."""
        return len(self._hashes) << self._level

    def _thin(self, hashes: np.ndarray) -> np.ndarray:
        return hashes[hashes < np.uint64(2 ** (64 - self._level))] if self._level else hashes


class ColumnCounts:
    """Describes one column.

    Args:
        field: Its name and type.
    """

    def __init__(self, field: pa.Field):
        self._field = field
        self._kind = kind_of(field.type)
        self._missing = self._rows = 0
        self._distinct = DistinctCount()
        self._low: Any = None
        self._high: Any = None

    def add(self, column: pa.Array) -> None:
        """Takes the column's next values."""
        missing = missing_values(column, self._field.name)
        self._missing += pc.sum(missing).as_py() or 0
        self._rows += len(column)
        present = column.filter(pc.invert(missing))
        if types.is_dictionary(present.type):
            present = present.dictionary_decode()
        if not len(present):
            return
        self._add_bounds(present)
        if self._field.name != ID and self._kind not in ("list", "other", "null"):
            self._distinct.add(hash_keys(_as_keys(present.unique()), seed=0))

    def statistics(self) -> ColumnStatistics:
        """Returns what the column is like."""
        counted = self._kind not in ("list", "other")
        unique = self._field.name == ID  # as the Dataset contract says
        return ColumnStatistics(
            name=self._field.name,
            type=str(self._field.type),
            kind=self._kind,
            missing=self._missing,
            distinct=(self._rows if unique else self._distinct.count) if counted else None,
            distinct_exact=unique or self._distinct.exact,
            minimum=self._low,
            maximum=self._high,
        )

    def _add_bounds(self, values: pa.Array) -> None:
        if self._kind == "string":
            values = pc.utf8_length(values)
        elif self._kind == "number":
            values = values.cast(pa.float64())
            values = values.filter(pc.is_finite(values))
        elif self._kind not in ("integer", "date", "timestamp"):
            return
        bounds = pc.min_max(values)
        low, high = (_plain(bounds[name], self._kind) for name in ("min", "max"))
        if low is None:
            return
        self._low = low if self._low is None else min(self._low, low)
        self._high = high if self._high is None else max(self._high, high)


def kind_of(kind: pa.DataType) -> Kind:
    """Returns what a column of an Arrow type holds."""
    if types.is_dictionary(kind):
        kind = kind.value_type
    tests: list[tuple[Any, Kind]] = [
        (types.is_null, "null"),
        (types.is_boolean, "boolean"),
        (types.is_integer, "integer"),
        (types.is_floating, "number"),
        (types.is_decimal, "number"),
        (types.is_date, "date"),
        (types.is_timestamp, "timestamp"),
        (types.is_list, "list"),
        (types.is_large_list, "list"),
        (types.is_fixed_size_list, "list"),
        (types.is_string, "string"),
        (types.is_large_string, "string"),
    ]
    return next((name for test, name in tests if test(kind)), "other")


def missing_values(column: pa.Array, name: str) -> pa.Array:
    """Tells of each row whether it has no value: null or NaN; for the column `text`, blank."""
    if name == TEXT:
        return pc.equal(pc.utf8_trim_whitespace(column), "")
    return pc.is_null(column, nan_is_null=True)


def _as_keys(values: pa.Array) -> list[str]:
    if types.is_temporal(values.type):
        # Not as text: a time zone's name may be unknown where the step runs.
        values = values.view(pa.int32() if values.type.bit_width == 32 else pa.int64())
    elif types.is_floating(values.type):
        values = values.cast(pa.float64())
    return values.cast(pa.string()).to_pylist()


def _plain(scalar: pa.Scalar, kind: Kind) -> int | float | str | None:
    if not scalar.is_valid:
        return None
    if kind == "date":
        return str(scalar.cast(pa.date32()).as_py())
    if kind == "timestamp":
        utc = pa.array([scalar]).view(pa.int64()).view(pa.timestamp(scalar.type.unit))[0]
        return str(utc.cast(pa.string()).as_py()).replace(" ", "T") + ("Z" if scalar.type.tz else "")
    value = scalar.as_py()
    return value if not isinstance(value, float) or math.isfinite(value) else None
