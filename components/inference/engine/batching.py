"""Cuts texts that are sorted by length into batches: as many tokens as suit the device, and little padding."""

from dataclasses import dataclass, replace

import numpy as np

# A window's last batch has any number of texts. Filled up to a number of so few binary digits it has at most a quarter
# more, and there are few shapes: what computes a shape for the first time keeps something of each.
ROW_DIGITS = 3


@dataclass(frozen=True)
class Batch:
    """Some of the texts of a window, the longest first.

    Attributes:
        start: The first text.
        stop: The text behind the last one.
        width: The tokens of each of its rows, padding included.
    """

    start: int
    stop: int
    width: int

    @property
    def rows(self) -> int:
        """The number of texts."""
        return self.stop - self.start

    @property
    def size(self) -> int:
        """The number of tokens, padding included."""
        return self.rows * self.width


@dataclass(frozen=True)
class BatchLimits:
    """How large a batch may be.

    Attributes:
        tokens: The most tokens, padding included. One text alone may have more.
        rows: The most texts; 0 for any number.
        step: Widths are multiples of this.
        longest: No batch is wider than this, which need not be a multiple of `step`.
        widths: The only widths there are, in ascending order, where shapes are to be few; empty for any.
    """

    tokens: int
    rows: int = 0
    step: int = 1
    longest: int = 1 << 30
    widths: tuple[int, ...] = ()

    def cut(self, lengths: np.ndarray, start: int = 0) -> list[Batch]:
        """Cuts texts into batches.

        Args:
            lengths: The tokens of each text, the longest first.
            start: The first text that is still to be cut.

        Returns:
            Batches without gaps. Each is as wide as its first text needs it to be.
        """
        batches = []
        while start < len(lengths):
            width = self.width_of(int(lengths[start]))
            stop = min(len(lengths), start + self.rows_of(width))
            batches.append(Batch(start, stop, width))
            start = stop
        return batches

    def width_of(self, length: int) -> int:
        """Returns how wide a batch is whose longest text has so many tokens."""
        for width in self.widths:
            if width >= length:
                return width
        return max(length, min(-(-length // self.step) * self.step, self.longest))

    def rows_of(self, width: int) -> int:
        """Returns how many texts a full batch of a width has."""
        rows = max(1, self.tokens // width)
        return min(rows, self.rows) if self.rows else rows

    def filled(self, batch: Batch) -> int:
        """Returns how many rows a batch has that is filled up with copies of its last text, so that shapes are few."""
        return min(self.rows_of(batch.width), round_up(batch.rows, ROW_DIGITS))

    def halved(self, failed: Batch) -> "BatchLimits":
        """Returns the limits after a batch did not fit into memory."""
        return replace(self, tokens=max(1, failed.size // 2))


def round_up(number: int, digits: int) -> int:
    """Returns the next number that has no more than so many binary digits, but for zeros behind them."""
    unit = 1 << max(0, number.bit_length() - digits)
    return -(-number // unit) * unit
