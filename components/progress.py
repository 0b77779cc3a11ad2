"""Progress of a long step: a bar on a terminal, a plain line now and then in a log file."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO


class Progress:
    """Says how far a step has come, for as long as a `with` block lasts.

    A log gets one line at the start, one at most every few seconds, and one at the end:

        classify_text: 120,000 of 1,000,000 rows (12 %), 1,532 rows/s, 9 min 34 s left

    Args:
        total: How much there is to do.
        label: What is being done.
        unit: What is counted, in the plural.
        stream: Where it is said; standard output by default.
        every: The least seconds between two lines of a log.
        clock: Returns seconds that only grow.
        details: Returns what else a line says, such as `2,315 tokens/s`.
    """

    def __init__(
        self,
        total: int,
        label: str,
        unit: str = "rows",
        stream: TextIO | None = None,
        every: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        details: Callable[[], str] | None = None,
    ):
        self.total, self.label, self.unit = total, label, unit
        self.done = 0
        self._stream = stream or sys.stdout
        self._every, self._clock, self._details = every, clock, details
        self._bar = None

    def __enter__(self) -> Self:
        self._start = self._said = self._clock()
        if self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=self.total, desc=self.label, unit=f" {self.unit}", file=self._stream, dynamic_ncols=True
            )
        else:
            self._say(f"0 of {self.total:,} {self.unit}")
        return self

    def update(self, count: int) -> None:
        """Counts what was done since the last call."""
        self.done += count
        if self._bar is not None:
            if self._details:
                self._bar.set_postfix_str(self._details(), refresh=False)
            self._bar.update(count)
        elif self.done < self.total and self._clock() - self._said >= self._every:
            left = self.elapsed * (self.total - self.done) / self.done if self.done else None
            self._say(self._state() + (f", {format_duration(left)} left" if left is not None else "") + self._more())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        else:
            self._say(f"{'stopped at ' if kind else ''}{self._state()}, {format_duration(self.elapsed)}{self._more()}")

    @property
    def elapsed(self) -> float:
        """The seconds since the block began."""
        return self._clock() - self._start

    @property
    def speed(self) -> float:
        """What was done in a second, on average since the block began; 0 when nothing was done."""
        return self.done / max(self.elapsed, 1e-9) if self.done else 0.0

    def _state(self) -> str:
        percent = 100 * self.done // self.total if self.total else 100
        return f"{self.done:,} of {self.total:,} {self.unit} ({percent} %), {self.speed:,.0f} {self.unit}/s"

    def _more(self) -> str:
        return f", {self._details()}" if self._details else ""

    def _say(self, text: str) -> None:
        self._said = self._clock()
        print(f"{self.label}: {text}", file=self._stream, flush=True)


def format_duration(seconds: float) -> str:
    """Returns a duration as a person says it: `34 s`, `9 min 34 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
