"""Takes the rows of a Dataset through an engine: window by window, from where an earlier attempt ended."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import transformers

from components.datasets import TEXT, digest_of_files, part_files
from components.inference.devices import DevicePool, open_engine
from components.inference.engine import windows
from components.inference.resume import CHECKPOINTS, SAVE_EVERY_SECONDS, Answers, FinishedWindows, digest_of_run
from components.progress import Progress

# Counted up when the same settings give other answers, so that no step goes on from an older release's state.
STATE_VERSION = 3
# From so many rows on, a GPU has work for more than some twenty minutes, and compiling graphs takes a few.
COMPILED_ROWS = 2_000_000


class RowAnswers:
    """The answers to a range of a Dataset's rows, in the Dataset's order.

    Args:
        engine: What answers windows of texts.
        dataset: The Dataset's folder.
        start: The first row.
        stop: The row to stop before.
        label: What the progress lines call the step.
        finished: The answers of an earlier attempt, to which those of this one are added; None keeps none.

    Attributes:
        resumed_rows: How many rows' answers were there already.
        rows_per_second: The speed of this attempt, over what it computed, without the time to start.
    """

    def __init__(
        self, engine: Any, dataset: str | Path, start: int, stop: int, label: str, finished: FinishedWindows | None
    ):
        self._engine, self._dataset = engine, dataset
        self._start, self._stop, self._label, self._finished = start, stop, label, finished
        self.resumed_rows = min(finished.rows, stop - start) if finished else 0
        self.rows_per_second = 0.0

    def __iter__(self) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
        """Yields rows with all their columns, and the answers to them: (rows, numbers)."""
        middle = self._start + self.resumed_rows
        if self._finished and self.resumed_rows:
            print(f"{self._label}: {self.resumed_rows:,} rows were answered by an earlier attempt", flush=True)
            answers = Answers(self._finished.answers())
            for rows in windows.read_windows(self._dataset, self._start, middle):
                yield rows, answers.take(rows.num_rows)
        with Progress(self._stop - middle, self._label, details=self._engine.usage.details) as progress:
            self._engine.on_batch = progress.update
            read: deque[pa.RecordBatch] = deque()
            for answer in self._engine.stream(self._windows(middle, read)):
                # Kept before they are used: what fails later is not computed again.
                if self._finished:
                    self._finished.add(answer)
                yield read.popleft(), answer
            working = progress.elapsed - self._engine.usage.starting(self._engine.facts()["devices"])
            self.rows_per_second = progress.done / max(working, 1e-9)

    def metadata(self) -> dict[str, Any]:
        """Returns what an artifact's metadata says of how the answers were computed."""
        facts = self._engine.facts()
        return {
            **facts,
            "rows_per_second": round(self.rows_per_second, 1),
            "resumed_rows": self.resumed_rows,
            **self._engine.usage.metadata(facts["devices"]),
        }

    def _windows(self, start: int, read: deque[pa.RecordBatch]) -> Iterator[Sequence[str]]:
        for rows in windows.read_windows(self._dataset, start, self._stop):
            read.append(rows)
            yield rows.column(TEXT).to_pylist()


@contextmanager
def opened(make_engine: Callable[..., Any], device: str) -> Iterator[Any]:
    """Makes an engine, or one for each of several devices, and ends their processes after the `with` block."""
    engine = open_engine(make_engine, device)
    try:
        yield engine
    finally:
        if isinstance(engine, DevicePool):
            engine.close()


def open_state(
    checkpoint_uri: str, job_folder: str, dataset: str | Path, dataset_digest: str, every: float, **facts: Any
) -> FinishedWindows | None:
    """Opens what earlier attempts of a step left.

    Args:
        checkpoint_uri: The folder or `gs://` prefix that the user named; "" for none.
        job_folder: Where state goes without it; "" for nowhere.
        dataset: The Dataset's folder.
        dataset_digest: Its digest, where it is known.
        every: The least seconds between two uploads.
        facts: The model's digest, and all settings that the answers follow from.

    Returns:
        The state; None where there is no place for it.
    """
    place = checkpoint_uri or (f"{job_folder.rstrip('/')}/{CHECKPOINTS}" if job_folder else "")
    if not place:
        return None
    run = digest_of_run(
        version=STATE_VERSION,
        dataset=dataset_digest or digest_of_files(part_files(dataset)),
        windows=[windows.WINDOW_ROWS, windows.WINDOW_BYTES],
        libraries=[torch.__version__, transformers.__version__],
        **facts,
    )
    return FinishedWindows(place, run, every)


__all__ = ["COMPILED_ROWS", "SAVE_EVERY_SECONDS", "RowAnswers", "open_state", "opened"]
