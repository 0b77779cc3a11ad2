"""Computes batches with OpenVINO, which takes the PyTorch model as it is: twice PyTorch's speed on a CPU."""

import contextlib
import io
import logging
import os
import sys
import warnings
from collections import deque
from types import ModuleType
from typing import Any

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from components.inference.engine.backends import Answer, Arrays
from components.inference.engine.batching import BatchLimits, round_up
from components.inference.engine.networks import Network
from components.inference.engine.settings import cpu_has_bf16

# What a batch may have of bytes between a layer's two largest products, in each stream: more fall out of the core's
# cache. Measured with a stream on each core, in tokens: in fp32 BERT-base (3,072 wide there) is fastest from 128 to
# 256, and a sixth slower with 768; MiniLM (1,536 wide) is fastest from 256 to 512, and a tenth slower with 1,536. In
# bf16 and int8 BERT-base is as fast from 256 to 512, and MiniLM is 2 to 9 % faster with 1,024 than with 512.
BATCH_BYTES = 3 * 1024**2
FEWEST_TOKENS, MOST_TOKENS = 128, 1024
# OpenVINO keeps kernels of each shape that it has seen, MiniLM's take 0.7 MiB, and 4 MiB in int8: widths have so many
# binary digits. Up to 32 (int8) or 64 that is every width; then it is a hundredth more padding, or two in int8.
WIDTH_DIGITS, INT8_WIDTH_DIGITS = 6, 5
# Each stream computes a batch of its own. More of them only keep more batches in memory.
MOST_STREAMS = 16


# Products of two computed matrices, such as those of `attend_first`: they are small, and in int8 the probabilities of a
# model of random weights changed by up to 0.69 instead of 0.11.
UNQUANTIZED = ".*aten::matmul.*"


class ConversionError(Exception):
    """OpenVINO cannot take the model."""


class OpenVinoBackend:
    """OpenVINO on the CPU.

    Args:
        network: What is computed. It is not changed; its weights are needed no longer once this is built.
        precision: `fp32`, `bf16` or `int8`.
        longest: The most tokens of a text.
        batch_size: The most texts in a batch; 0 for what suits the CPU.
        calibration: For int8: batches that show which numbers there are.

    Raises:
        ConversionError: OpenVINO cannot take the model.
    """

    name, device = "openvino", "cpu"

    def __init__(
        self,
        network: Network,
        precision: str,
        longest: int,
        batch_size: int = 0,
        calibration: list[Arrays] | None = None,
    ):
        ov = import_openvino()
        self.precision, self._inputs = precision, network.inputs
        self.limits = BatchLimits(
            tokens_for(network, precision), batch_size, longest=longest, widths=widths_for(precision, longest)
        )
        model = convert(ov, network)
        if precision == "int8":
            model = quantize(model, [self._ordered(arrays) for arrays in calibration or []])
        threads = cpus()
        # A core works faster on a batch of its own than all cores on one batch.
        streams = min(threads, MOST_STREAMS)
        self._compiled = ov.Core().compile_model(
            model,
            "CPU",
            {"INFERENCE_PRECISION_HINT": hint_of(precision), "NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": threads},
        )
        # One batch more than there are streams, so that none of them waits for Python.
        self.depth = streams + 1
        self._idle = deque(self._compiled.create_infer_request() for _ in range(self.depth + 1))

    def start(self, arrays: Arrays, padded: bool) -> Answer:
        """Begins with a batch and returns at once."""
        request = self._idle.popleft()
        inputs = self._ordered(arrays)
        request.start_async(inputs, share_inputs=True)

        def wait(_keep_alive: list[np.ndarray] = inputs) -> np.ndarray:
            request.wait()
            answer: np.ndarray = request.get_output_tensor(0).data.copy()
            self._idle.append(request)
            return answer

        return wait

    def free_memory(self) -> None:
        """Does nothing: OpenVINO keeps no memory that it could give back."""

    def _ordered(self, arrays: Arrays) -> list[np.ndarray]:
        return [arrays[name] for name in self._inputs]


def tokens_for(network: Network, precision: str) -> int:
    """Returns how many tokens suit a core: the fewer, the wider the model and its numbers."""
    widest = max((each.out_features for each in network.modules() if isinstance(each, torch.nn.Linear)), default=1)
    # What is beside the products of int8 is wider than they are.
    size = 4 if precision == "fp32" else 2
    return min(max(BATCH_BYTES // (size * widest), FEWEST_TOKENS), MOST_TOKENS)


def widths_for(precision: str, longest: int) -> tuple[int, ...]:
    """Returns the widths that batches may have."""
    digits = INT8_WIDTH_DIGITS if precision == "int8" else WIDTH_DIGITS
    return (*(width for width in range(1, longest) if round_up(width, digits) == width), longest)


def hint_of(precision: str) -> str:
    """Returns what OpenVINO is told of a precision.

    With int8, it is what remains beside the matrix products, such as softmax: in bf16 long texts take a tenth less.
    """
    return "bf16" if precision == "bf16" or (precision == "int8" and cpu_has_bf16()) else "f32"


def import_openvino() -> ModuleType:
    """Imports OpenVINO, which then reports nothing about its use to anyone.

    A step must not talk to servers that nobody told it of. Both OpenVINO and nncf fall back to a stub where the package
    that does it is missing, so it is made missing.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def convert(ov: Any, network: Network) -> Any:
    """Converts a network, for any number of texts and tokens.

    Args:
        ov: The openvino module.
        network: The network; without `lean_masks`, since a graph has one kind of mask.

    Raises:
        ConversionError: It cannot be converted.
    """
    # Two rows of different length: tracing must see that there is padding.
    example = torch.ones((2, 7), dtype=torch.int64)
    example[1, 5:] = 0
    told = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            # Tracing warns of every shape that it takes for a constant; whether it was one, the first rows show.
            warnings.simplefilter("ignore")
            # Models may know one token type only.
            inputs = tuple(example * (name != "token_type_ids") for name in network.inputs)
            # Traced here: OpenVINO would trace it twice, to see whether both are alike, which the first rows show too.
            # A function's weights are constants of the graph: no module is copied, and half of the time is saved. It
            # has no keywords, which tracing would take for inputs.
            traced = torch.jit.trace(lambda *arrays: network(*arrays), inputs, strict=False, check_trace=False)
            return ov.convert_model(
                traced, example_input=inputs, input=[ov.PartialShape([-1, -1]) for _ in network.inputs]
            )
    except Exception as error:  # noqa: BLE001 - tracing runs the model's code, which raises what it likes
        raise ConversionError(
            str(error).strip().splitlines()[0][:200] if str(error) else type(error).__name__
        ) from error
    finally:
        transformers_logging.set_verbosity(told)


def quantize(model: Any, calibration: list[list[np.ndarray]]) -> Any:
    """Turns a converted model's matrix products to int8.

    Args:
        model: What OpenVINO made of the network.
        calibration: Batches that show which numbers there are.
    """
    import nncf

    nncf.set_log_level(logging.ERROR)
    # It draws bars, one below the other in a log.
    with contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(
            model,
            nncf.Dataset(calibration),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(calibration),
            ignored_scope=nncf.IgnoredScope(patterns=[UNQUANTIZED], validate=False),
        )


def cpus() -> int:
    """Returns how many CPUs this process may use; `OMP_NUM_THREADS` can say less."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    told = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(allowed, int(told))) if told.isdigit() else allowed
