"""Where an engine's time goes, and what it has done so far."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

# What happens beside the device's work (in a thread of its own), and what the device's work waits for.
PARTS = ("starting", "reading", "tokenizing", "waiting", "computing", "writing")


@dataclass
class Usage:
    """What was done, and the seconds that it took.

    Attributes:
        rows: The texts that were answered.
        computed_rows: The texts that went through the model: of identical texts in a window, one.
        tokens: The tokens of those, without padding.
        padded_tokens: The same with padding.
        seconds: The seconds of each part. `starting` is the time in which the model was converted and compared with
            fp32; `reading` and `tokenizing` run in a thread beside the others; `waiting` is the time in which there was
            no tokenized text to compute, `computing` that in which the device worked and `writing` that in which the
            answers were used.
        started: When the first text was asked for, in seconds of a clock that only grows.
    """

    rows: int = 0
    computed_rows: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    started: float = field(default_factory=time.monotonic)

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Adds the time within a `with` block to a part."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[part] += time.monotonic() - start

    def add(self, other: "Usage") -> None:
        """Adds what another engine did."""
        self.rows += other.rows
        self.computed_rows += other.computed_rows
        self.tokens += other.tokens
        self.padded_tokens += other.padded_tokens
        for part, seconds in other.seconds.items():
            self.seconds[part] += seconds

    @property
    def padding_share(self) -> float:
        """The share of padding in what was computed."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else 0.0

    def details(self) -> str:
        """Returns what a progress line says of it: tokens a second, padding, memory."""
        speed = self.tokens / max(time.monotonic() - self.started, 1e-9)
        return f"{speed:,.0f} tokens/s, {100 * self.padding_share:.1f} % padding, {resident_mib():,.0f} MiB"

    def metadata(self, processes: int = 1) -> dict[str, Any]:
        """Returns what an artifact's metadata says of it; times are shares of the whole.

        Args:
            processes: How many engines ran at the same time.
        """
        elapsed = max(time.monotonic() - self.started, 1e-9)
        shares = {part: round(seconds / elapsed / processes, 4) for part, seconds in self.seconds.items()}
        return {
            "tokens": self.tokens,
            "tokens_per_second": round(self.tokens / max(elapsed - self.starting(processes), 1e-9), 1),
            "padding_share": round(self.padding_share, 4),
            "repeated_rows": self.rows - self.computed_rows,
            "time_shares": shares,
            "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }

    def starting(self, processes: int) -> float:
        """Returns the seconds before the first batch, which say nothing about the speed of a longer run.

        Args:
            processes: How many engines ran at the same time.
        """
        return self.seconds["starting"] / processes

    def as_dict(self) -> dict[str, Any]:
        """Returns all of it, for another process."""
        return asdict(self)


def resident_mib() -> float:
    """Returns the memory of this process, in MiB (Linux)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - asked for often
            return int(file.read().split()[1]) * resource.getpagesize() / 2**20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
