"""Several devices of one machine: a process for each, and windows that come back in their order."""

import multiprocessing
import queue
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from components.errors import InputError
from components.inference.engine.usage import Usage

# For each device: what it computes, what it has tokenized, and what waits for it.
WINDOWS_AHEAD = 4
_ANSWER, _READY, _FAILED = "answer", "ready", "failed"


class DevicePool:
    """Answers windows on several devices at once. It is used for one stream, and closed.

    Every process holds the whole model. Windows go to whichever device is free, and an answer does not depend on which
    one that is.

    Args:
        make_engine: Makes what answers on a device, in the process for it: a class or a function of a module, or a
            partial of one, with the device as its keyword. What it makes has `stream`, `usage` and `facts`.
        devices: The torch devices, such as `cuda:0`.

    Attributes:
        usage: What all engines did.
        on_batch: Called with the number of texts that a batch answered, here: a window.
    """

    def __init__(self, make_engine: Callable[..., Any], devices: Sequence[str]):
        # A forked process cannot use a GPU that its parent has touched.
        context = multiprocessing.get_context("spawn")
        self.usage = Usage()
        self.on_batch: Callable[[int], None] = _ignore
        self._tasks: Any = context.Queue()
        self._results: Any = context.Queue()
        self._places = threading.Semaphore(WINDOWS_AHEAD * len(devices))
        self._processes = [
            context.Process(target=_serve, args=(make_engine, device, self._tasks, self._results), daemon=True)
            for device in devices
        ]
        for process in self._processes:
            process.start()
        self._facts: dict[str, Any] = {}
        for _ in devices:
            self._facts = self._receive()[1]

    def facts(self) -> dict[str, Any]:
        """Returns what the engines say of themselves, such as their labels and their device's name."""
        return {**self._facts, "devices": len(self._processes)}

    def stream(self, windows: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        """Answers windows of texts.

        Yields:
            The answers to each window, in the windows' order.

        Raises:
            InputError: As the engines raise it.
            RuntimeError: A process failed or was ended.
        """
        counted: list[int] = []
        feeder_failed: list[BaseException] = []
        stopped = threading.Event()
        feeder = threading.Thread(target=self._feed, args=(windows, counted, feeder_failed, stopped), daemon=True)
        feeder.start()
        waiting: dict[int, np.ndarray] = {}
        number = 0
        try:
            while True:
                message = self._receive(number, counted, feeder_failed)
                if feeder_failed:
                    raise feeder_failed[0]
                if message is None:
                    return
                _, done, answers, usage, self._facts = message
                waiting[done] = answers
                self.usage.add(Usage(**usage))
                self.on_batch(len(answers))
                while number in waiting:
                    with self.usage.measure("writing"):
                        yield waiting.pop(number)
                    self._places.release()
                    number += 1
        finally:
            stopped.set()
            self._places.release()

    def close(self) -> None:
        """Ends all processes."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(timeout=10)

    def _feed(
        self,
        windows: Iterable[Sequence[str]],
        counted: list[int],
        failed: list[BaseException],
        stopped: threading.Event,
    ) -> None:
        number = 0
        try:
            for texts in windows:
                self._places.acquire()
                if stopped.is_set():
                    return
                self._tasks.put((number, list(texts)))
                number += 1
        except BaseException as error:  # noqa: BLE001 - raised again where the answers are asked for
            failed.append(error)
        finally:
            # All windows are handed out: what the engines hold back to have something ahead is wanted now.
            for _ in self._processes:
                self._tasks.put(None)
            counted.append(number)

    def _receive(self, number: int = -1, counted: Sequence[int] = (), failed: Sequence[BaseException] = ()) -> Any:
        while not failed and not (counted and number >= counted[0]):
            try:
                message = self._results.get(timeout=0.2)
            except queue.Empty:
                for process in self._processes:
                    if process.exitcode not in (None, 0):
                        raise RuntimeError(f"A device's process ended with code {process.exitcode}.") from None
                continue
            if message[0] == _FAILED:
                raise InputError(*message[1]) if message[1] else RuntimeError(message[2])
            return message
        return None


def open_engine(make_engine: Callable[..., Any], device: str) -> Any:
    """Returns an engine for a device, or a pool of them where there are several.

    Args:
        make_engine: As `DevicePool` takes it.
        device: A torch device, or several with commas between them; "" takes all GPUs, or the CPU where there is none.
    """
    devices = device.split(",") if device else [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return DevicePool(make_engine, devices) if len(devices) > 1 else make_engine(device=device)


def _ignore(rows: int) -> None:
    """Does nothing."""


def _serve(make_engine: Callable[..., Any], device: str, tasks: Any, results: Any) -> None:
    numbers: deque[int] = deque()

    def windows() -> Iterator[Sequence[str]]:
        while (task := tasks.get()) is not None:
            numbers.append(task[0])
            yield task[1]

    try:
        engine = make_engine(device=device)
        results.put((_READY, engine.facts()))
        told = Usage()
        for answers in engine.stream(windows()):
            results.put((_ANSWER, numbers.popleft(), answers, _since(told, engine.usage), engine.facts()))
            told = Usage(**engine.usage.as_dict())
    except InputError as error:
        results.put((_FAILED, (error.headline, error.remedy), ""))
    except BaseException:  # noqa: BLE001 - raised again in the parent
        results.put((_FAILED, (), traceback.format_exc()))


def _since(before: Usage, now: Usage) -> dict[str, Any]:
    names = ("rows", "computed_rows", "tokens", "padded_tokens")
    counts = {name: getattr(now, name) - getattr(before, name) for name in names}
    return {**counts, "seconds": {part: now.seconds[part] - before.seconds[part] for part in now.seconds}}
