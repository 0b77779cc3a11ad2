"""The stream: windows of texts in, the network's answers out, in the same order and in bounded memory."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from components.errors import InputError
from components.inference.engine.backends import Answer, Backend, OutOfMemory
from components.inference.engine.batching import Batch
from components.inference.engine.choice import choose_backend
from components.inference.engine.networks import Network
from components.inference.engine.prefetch import Prefetch
from components.inference.engine.settings import EngineSettings
from components.inference.engine.tokenization import WindowTokenizer
from components.inference.engine.usage import Usage
from components.inference.engine.windows import Window, make_window


class Engine:
    """Computes what a network says to texts.

    A thread reads and tokenizes windows of texts while the device computes; within a window, texts of nearly one length
    go through the model together, and identical texts once. The first texts are computed twice, with PyTorch in fp32
    too, and a backend whose answers are too far from those is refused.

    Args:
        network: What is computed.
        tokenizer: What makes tokens of texts.
        settings: What the user chose.
        longest: The most tokens of a text.
        labelled: Whether the network's numbers are the logits of labels.

    Attributes:
        device: The device's name, such as `cpu` or `NVIDIA L4`.
        backend: `torch` or `openvino`.
        precision: `fp32`, `bf16`, `fp16` or `int8`.
        usage: What was done so far.
        on_batch: Called with the number of texts that a batch answered.
    """

    def __init__(
        self, network: Network, tokenizer: WindowTokenizer, settings: EngineSettings, longest: int, labelled: bool
    ):
        device = settings.choose_device()
        self.device = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        self.backend, self.precision = settings.choose()
        self.usage = Usage()
        self.on_batch: Callable[[int], None] = lambda rows: None
        self._tokenizer, self._settings = tokenizer, settings
        self._longest, self._labelled = longest, labelled
        # Let go of once there is a backend: OpenVINO keeps the weights in a form of its own.
        self._network: Network | None = network
        self._backend: Backend | None = None
        if device.type == "cuda":
            # Python's threads take turns of 5 ms otherwise, in which a large GPU would run out of batches.
            sys.setswitchinterval(0.0005)

    def stream(self, windows: Iterable[Sequence[str]], ahead: int = 2) -> Iterator[np.ndarray]:
        """Answers windows of texts.

        Args:
            windows: Some thousand texts each. They are asked for in a thread of their own.
            ahead: How many windows are read and tokenized before they are computed; 0 for none, and no thread.

        Yields:
            The answers to each window: float32, (texts, numbers), in the texts' order.

        Raises:
            InputError: One text alone does not fit into memory, or the answers are not those of fp32.
        """
        prepared = self._prepare(windows)
        if not ahead:
            yield from self._answer(prepared)
            return
        with Prefetch(prepared, ahead) as prefetch:
            yield from self._answer(prefetch, prefetch.ready)

    def facts(self) -> dict[str, Any]:
        """Returns what the artifacts' metadata says of it."""
        return {"device": self.device, "backend": self.backend, "precision": self.precision, "devices": 1}

    def _prepare(self, windows: Iterable[Sequence[str]]) -> Iterator[Window]:
        iterator = iter(windows)
        while True:
            with self.usage.measure("reading"):
                texts = next(iterator, None)
            if texts is None:
                return
            if len(texts):
                with self.usage.measure("tokenizing"):
                    window = make_window(texts, self._tokenizer)
                yield window

    def _answer(self, prepared: Iterable[Window], ready: Callable[[], bool] = lambda: True) -> Iterator[np.ndarray]:
        windows: deque[Window] = deque()
        under_way: deque[tuple[Window, Batch, Answer]] = deque()
        iterator = iter(prepared)
        while True:
            # The last batches of a window stay under way while the first of the next one begin. Where there is no next
            # one yet, it may be that somebody waits for these before there is.
            if not ready():
                yield from self._drain(windows, under_way)
            with self.usage.measure("waiting"):
                window = next(iterator, None)
            if window is None:
                break
            windows.append(window)
            if self._backend is None:
                with self.usage.measure("starting"):
                    self._backend = self._begin(window)
            with self.usage.measure("computing"):
                self._compute(self._backend, window, under_way)
            yield from self._finished(windows)
        yield from self._drain(windows, under_way)

    def _drain(self, windows: deque[Window], under_way: deque[tuple[Window, Batch, Answer]]) -> Iterator[np.ndarray]:
        with self.usage.measure("computing"):
            while under_way:
                self._collect(under_way)
        yield from self._finished(windows)

    def _finished(self, windows: deque[Window]) -> Iterator[np.ndarray]:
        while windows and not windows[0].left:
            window = windows.popleft()
            self.usage.rows += window.rows
            with self.usage.measure("writing"):
                yield window.in_order()

    def _compute(self, backend: Backend, window: Window, under_way: deque[tuple[Window, Batch, Answer]]) -> None:
        batches = deque(backend.limits.cut(window.tokens.lengths))
        while batches:
            batch = batches.popleft()
            rows = backend.limits.filled(batch)
            arrays = window.tokens.pad(batch.start, batch.stop, batch.width, self._tokenizer.padding, rows)
            tokens = int(window.tokens.offsets[batch.stop] - window.tokens.offsets[batch.start])
            try:
                answer = backend.start(arrays, padded=tokens < batch.size)
            except OutOfMemory:
                while under_way:
                    self._collect(under_way)
                self._shrink(backend, batch)
                batches = deque(backend.limits.cut(window.tokens.lengths, batch.start))
                continue
            self.usage.computed_rows += batch.rows
            self.usage.tokens += tokens
            self.usage.padded_tokens += rows * batch.width
            under_way.append((window, batch, answer))
            while len(under_way) > backend.depth:
                self._collect(under_way)

    def _collect(self, under_way: deque[tuple[Window, Batch, Answer]]) -> None:
        window, batch, answer = under_way.popleft()
        self.on_batch(window.take(batch, answer()))

    def _begin(self, window: Window) -> Backend:
        assert self._network is not None
        backend = choose_backend(
            self._network, window, self._tokenizer.padding, self._settings, self._longest, self._labelled
        )
        self._network = None
        self.backend, self.precision = backend.name, backend.precision
        return backend

    def _shrink(self, backend: Backend, failed: Batch) -> None:
        if failed.rows == 1:
            raise InputError(
                f"One text of {failed.width} tokens does not fit into the memory of {self.device}.",
                "Give a smaller max_length, or a machine with more memory.",
            )
        backend.limits = backend.limits.halved(failed)
        backend.free_memory()
        print(
            f"A batch of {failed.rows} texts ({failed.size:,} tokens) does not fit into the memory of {self.device}: "
            f"going on with at most {backend.limits.tokens:,} tokens at once.",
            flush=True,
        )
