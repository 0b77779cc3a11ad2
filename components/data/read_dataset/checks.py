"""What is counted and checked while rows pass: ids that must be unique, and labels."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Beyond these a column holds no classes, and listing it would outgrow an artifact's metadata.
MAX_LABELS = 1000
MAX_LABEL_CHARACTERS = 32_000


class SeenIds:
    """Finds ids that occur twice, in 16 bytes per row."""

    def __init__(self) -> None:
        self._digests = bytearray()

    def add(self, ids: pa.Array) -> None:
        """Takes the next rows' ids."""
        self._digests += b"".join(hashlib.blake2b(value.encode(), digest_size=16).digest() for value in ids.to_pylist())

    def repeated_rows(self, most: int) -> list[tuple[int, int]]:
        """Returns up to `most` pairs of row numbers (from 0, in the order they were added) with the same id."""
        digests = np.frombuffer(self._digests, dtype=[("high", "<u8"), ("low", "<u8")])
        order = np.lexsort((digests["low"], digests["high"]))
        ordered = digests[order]
        same = np.flatnonzero(ordered[1:] == ordered[:-1])
        second = order[same + 1]
        return [(int(order[same[i]]), int(second[i])) for i in np.argsort(second)[:most]]


class LabelCounts:
    """Counts labels, and gives up where they are too many to be classes.

    Attributes:
        counts: How often each label occurs; empty when there are too many.
        unlabelled: The rows without a label.
        complete: Whether `counts` holds all labels.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.unlabelled = 0
        self.complete = True

    def add(self, labels: pa.Array) -> None:
        """Takes the next rows' labels."""
        self.unlabelled += labels.null_count
        if not self.complete:
            return
        for entry in pc.value_counts(labels.drop_null()).to_pylist():
            self.counts[entry["values"]] = self.counts.get(entry["values"], 0) + entry["counts"]
        if len(self.counts) > MAX_LABELS or sum(map(len, self.counts)) > MAX_LABEL_CHARACTERS:
            self.counts, self.complete = {}, False
