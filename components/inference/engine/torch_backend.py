"""Computes batches with PyTorch: on a CPU one at a time, on a GPU ahead of the answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from components.inference.engine.backends import Answer, Arrays, OutOfMemory, is_out_of_memory
from components.inference.engine.batching import BatchLimits
from components.inference.engine.networks import Network
from components.inference.engine.settings import DTYPES

# Measured on two cores: more tokens fall out of the cache, fewer leave the matrix library without work.
CPU_TOKENS = 2048
# A large GPU is busy from some ten thousand tokens on; more of them only take memory.
GPU_TOKENS = 65_536
# Of the memory that is free; the rest is for what the allocator cannot join.
GPU_SHARE = 0.6
PROBE_TOKENS = 8192
# Wide enough apart that few graphs are compiled, close enough that little is padded.
COMPILED_WIDTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)


class TorchBackend:
    """PyTorch on one device.

    Args:
        network: What is computed; it is moved to the device and turned into the precision.
        device: The device.
        precision: `fp32`, `bf16` or `fp16`.
        longest: The most tokens of a text.
        batch_size: The most texts in a batch; 0 for what suits the device.
        compiled: Whether full batches go through compiled graphs, one for each of a few widths.

    Attributes:
        graphs: The shapes that were compiled so far.
    """

    name = "torch"

    def __init__(
        self,
        network: Network,
        device: torch.device,
        precision: str,
        longest: int,
        batch_size: int = 0,
        compiled: bool = False,
        compile_with: Callable[..., Any] = torch.compile,
    ):
        self.precision, self._device = precision, device
        self.device = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        self._network = cast(network.to(device), DTYPES[precision])
        self.graphs: set[tuple[int, int]] = set()
        self._compiled: Any = None
        on_gpu = device.type == "cuda"
        # While the GPU computes a batch, the next ones wait in its queue.
        self.depth = 4 if on_gpu else 0
        self._tf32 = on_gpu and precision == "fp32"
        tokens = self._find_budget(longest) if on_gpu else CPU_TOKENS
        # Matrix units of a GPU want sizes that 8 divides.
        self.limits = BatchLimits(tokens, batch_size, step=8 if on_gpu else 1, longest=longest)
        if compiled:
            widths = tuple(width for width in COMPILED_WIDTHS if width < longest)
            self.limits = BatchLimits(tokens, batch_size, longest=longest, widths=(*widths, longest))
            torch._dynamo.config.cache_size_limit = 2 * len(COMPILED_WIDTHS)
            self._compiled = compile_with(self._network, dynamic=False)

    def start(self, arrays: Arrays, padded: bool) -> Answer:
        """Begins with a batch; on a GPU it returns before the batch is computed."""
        try:
            return self._start(arrays, padded)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the except clause, which keeps the failed batch's tensors alive.
        raise OutOfMemory

    def free_memory(self) -> None:
        """Gives unused blocks of memory back to the GPU."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _start(self, arrays: Arrays, padded: bool) -> Answer:
        tensors = self._move([arrays[name] for name in self._network.inputs])
        with tf32(self._tf32):
            answer = self._run(tensors, padded)
        if self._device.type != "cuda":
            return answer.cpu().numpy
        host = torch.empty(answer.shape, dtype=answer.dtype, pin_memory=True)
        host.copy_(answer, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record(torch.cuda.current_stream(self._device))

        def wait() -> np.ndarray:
            copied.synchronize()
            return host.numpy()

        return wait

    def _run(self, tensors: list[torch.Tensor], padded: bool) -> torch.Tensor:
        rows, width = tensors[0].shape
        # Only full batches: another number of rows would be one more graph to compile.
        if self._compiled is not None and rows == self.limits.rows_of(width):
            self.graphs.add((rows, width))
            try:
                # One graph for both: with a mask, also where nothing is padded.
                compiled: torch.Tensor = self._compiled(*tensors)
                return compiled
            except RuntimeError as error:
                # Such as an image without a C compiler. A job is not lost for want of faster graphs.
                if is_out_of_memory(error):
                    raise
                print(f"torch.compile fails ({str(error).strip()[:200]}): going on without it.", flush=True)
                self._compiled = None
        answer: torch.Tensor = self._network(*tensors, padded=padded)
        return answer

    def _move(self, arrays: list[np.ndarray]) -> list[torch.Tensor]:
        if self._device.type != "cuda":
            return [torch.from_numpy(array).to(self._device) for array in arrays]
        # One copy for all inputs, out of memory that the GPU reads by itself while Python goes on.
        pinned = torch.empty((len(arrays), *arrays[0].shape), dtype=torch.int64, pin_memory=True)
        for number, array in enumerate(arrays):
            pinned[number].copy_(torch.from_numpy(array))
        return list(pinned.to(self._device, non_blocking=True).unbind())

    @torch.inference_mode()
    def _find_budget(self, longest: int) -> int:
        """Measures what a batch takes of the GPU's memory, and returns how many tokens fit."""
        rows = max(1, PROBE_TOKENS // longest)
        one = torch.ones((rows, longest), dtype=torch.int64, device=self._device)
        # Models may know one token type only.
        probe = [one * (name != "token_type_ids") for name in self._network.inputs]
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        try:
            self._network(*probe)
        except torch.OutOfMemoryError:
            return longest
        taken = torch.cuda.max_memory_allocated(self._device) - before
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(self._device)
        return tokens_that_fit(free, taken, rows * longest, longest)


def cast(network: Network, dtype: torch.dtype) -> Network:
    """Turns a network's numbers into a precision, all but the frequencies of rotary positions.

    Rounded to the digits of bf16, they are wrong by half a turn at some hundred tokens' distance. transformers keeps
    them in fp32, too, when it loads a model in half precision.
    """
    frequencies = [
        (module, name, numbers)
        for module in network.modules()
        for name, numbers in module.named_buffers(recurse=False)
        if name.endswith("inv_freq")
    ]
    network.to(dtype)
    for module, name, numbers in frequencies:
        setattr(module, name, numbers)
    return network


@contextmanager
def tf32(wanted: bool) -> Iterator[None]:
    """Computes fp32 in TF32 within a `with` block: the GPU's matrix units' way to do it, with fewer digits."""
    before = torch.get_float32_matmul_precision()
    if wanted:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        if wanted:
            torch.set_float32_matmul_precision(before)


def tokens_that_fit(free: int, taken: int, tokens: int, longest: int) -> int:
    """Returns the most tokens of a batch.

    Args:
        free: The free memory, in bytes.
        taken: What a batch took, in bytes.
        tokens: The tokens of that batch.
        longest: The most tokens of a text; at least one text goes through at once.
    """
    fitting = int(free * GPU_SHARE / max(taken / tokens, 1))
    return max(longest, min(GPU_TOKENS, fitting))
