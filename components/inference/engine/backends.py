"""What computes batches: the interface that PyTorch and OpenVINO share."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from components.inference.engine.batching import BatchLimits

Arrays = dict[str, np.ndarray]
Answer = Callable[[], np.ndarray]


class OutOfMemory(Exception):  # noqa: N818 - as torch calls it
    """A batch does not fit into the device's memory."""


class Backend(Protocol):
    """Computes batches, several at once where the device can.

    Attributes:
        name: `torch` or `openvino`.
        device: The device's name, such as `cpu` or `NVIDIA L4`.
        precision: What it computes in, such as `fp32`.
        depth: How many batches to hand over before the first answer is asked for.
        limits: How large a batch may be.
    """

    name: str
    device: str
    precision: str
    depth: int
    limits: BatchLimits

    def start(self, arrays: Arrays, padded: bool) -> Answer:
        """Begins with a batch and returns what waits for its answer: float32, (texts, numbers).

        Raises:
            OutOfMemory: It does not fit into the device's memory.
        """
        ...

    def free_memory(self) -> None:
        """Gives back what memory can be given back, after a batch did not fit."""
        ...


def is_out_of_memory(error: BaseException) -> bool:
    """Tells whether torch found no memory, on a GPU, for its matrix library, or for the CPU's allocator."""
    told = (
        "can't allocate memory",
        "CUDA error: out of memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
        # What a new handle of cuBLAS says when the card is full.
        "CUBLAS_STATUS_NOT_INITIALIZED",
    )
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in told)
