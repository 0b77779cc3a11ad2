"""What a user chooses about how a model is computed, and what follows from it on the device that is there."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch

from components.errors import InputError

AUTO, TORCH, OPENVINO = "auto", "torch", "openvino"
BACKENDS = (AUTO, TORCH, OPENVINO)
PRECISIONS = (AUTO, "fp32", "bf16", "fp16", "int8")
# The first compute capability with bf16 in its matrix units: Ampere's.
BF16_MAJOR = 8
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class EngineSettings:
    """What a user chooses.

    Attributes:
        batch_size: The most texts that go through the model at once; 0 leaves it to the device.
        max_length: The most tokens of a text that are read; 0 reads as many as the model can.
        backend: `torch`, `openvino` (on CPUs), or `auto`: OpenVINO on a CPU where it is installed, else PyTorch.
        precision: `fp32`, `bf16`, `fp16` (on GPUs), `int8` (with OpenVINO), or `auto`: fp32 on a CPU; on a GPU bf16
            where the card computes in it, else fp16.
        tolerance: With int8, the largest share of checked rows whose label may differ from fp32's.
        device: A torch device; "" takes the GPU when there is one, else the CPU.
        compiled: On a GPU, whether full batches go through graphs that torch.compile makes, which takes minutes.

    Raises:
        InputError: There is no such choice.
    """

    batch_size: int = 0
    max_length: int = 0
    backend: str = AUTO
    precision: str = AUTO
    tolerance: float = 0.02
    device: str = ""
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 0:
            raise InputError(f"batch_size is {self.batch_size}.", "Give 1 or more, or 0 for what suits the machine.")
        for name, value, known in (("backend", self.backend, BACKENDS), ("precision", self.precision, PRECISIONS)):
            if value not in known:
                raise InputError(f"There is no {name} {value!r}.", f"Give one of {', '.join(known)}.")
        if not 0 <= self.tolerance <= 1:
            raise InputError(f"tolerance is {self.tolerance}.", "Give a share of rows, from 0 to 1.")

    def choose_device(self) -> torch.device:
        """Returns the device to compute on."""
        return torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def choose(self) -> tuple[str, str]:
        """Returns the backend and the precision that these settings mean here.

        Raises:
            InputError: The device does not have them, or a package is missing.
        """
        device = self.choose_device()
        if device.type != "cpu":
            return self._choose_on_gpu(device)
        if self.precision == "fp16":
            raise InputError("fp16 is for GPUs.", "Give bf16, int8 or fp32 on a CPU.")
        installed = importlib.util.find_spec("openvino") is not None
        if self.backend == OPENVINO and not installed:
            raise InputError("OpenVINO is not installed.", "Install kfp-transformers[cpu], or give backend=torch.")
        backend = OPENVINO if installed and self.backend != TORCH else TORCH
        precision = "fp32" if self.precision == AUTO else self.precision
        if precision == "int8":
            if backend != OPENVINO or importlib.util.find_spec("nncf") is None:
                raise InputError(
                    "int8 needs OpenVINO and nncf.", "Install kfp-transformers[cpu], or give bf16 or fp32."
                )
        elif precision == "bf16" and not cpu_has_bf16():
            print("This CPU does not compute in bf16: going on in fp32.", flush=True)
            precision = "fp32"
        return backend, precision

    def _choose_on_gpu(self, device: torch.device) -> tuple[str, str]:
        if self.backend == OPENVINO:
            raise InputError("OpenVINO is for CPUs.", "Give backend=auto, or a machine without a GPU.")
        if self.precision == "int8":
            raise InputError("int8 is for CPUs.", "Give bf16, fp16 or fp32 on a GPU.")
        best = gpu_precision(device)
        if self.precision == "bf16" and best == "fp16":
            print("This GPU only emulates bf16, slowly: going on in fp16.", flush=True)
        return TORCH, best if self.precision in (AUTO, "bf16") else self.precision


def gpu_precision(device: torch.device) -> str:
    """Returns the fastest precision of a GPU. T4 and V100 only emulate bf16, slowly: they get fp16."""
    if device.type == "cuda" and torch.cuda.get_device_properties(device).major < BF16_MAJOR:
        return "fp16"
    return "bf16"


def cpu_has_bf16() -> bool:
    """Tells whether the CPU multiplies matrices in bf16 by itself (AVX512-BF16 or AMX)."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = next((line for line in _lines(cpuinfo) if line.startswith("flags")), "").split()
    return bool({"avx512_bf16", "amx_bf16"} & set(flags))


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
