"""Chooses what computes a model: the backend that the settings mean, checked against PyTorch in fp32."""

import copy

import numpy as np
import torch

from components.errors import InputError
from components.inference.engine.backends import Arrays, Backend
from components.inference.engine.check import (
    INT8_CALIBRATION_ROWS,
    INT8_ROWS,
    Difference,
    compare,
    run,
    sample_batch,
    sample_rows,
)
from components.inference.engine.networks import Network
from components.inference.engine.settings import AUTO, OPENVINO, EngineSettings
from components.inference.engine.tokenization import Padding
from components.inference.engine.torch_backend import TorchBackend
from components.inference.engine.windows import Window

# A model that takes more of a GPU's free memory in fp32 is compared on the CPU: the batches need their place.
FP32_SHARE = 0.5


def choose_backend(
    network: Network, window: Window, padding: Padding, settings: EngineSettings, longest: int, labelled: bool
) -> Backend:
    """Returns a backend whose answers to the first texts are those of PyTorch in fp32, within the tolerance.

    Args:
        network: What is computed; it is the backend's from now on.
        window: The first texts.
        padding: What stands where a text has ended.
        settings: What the user chose.
        longest: The most tokens of a text.
        labelled: Whether the network's numbers are the logits of labels.

    Raises:
        InputError: The answers are too far from those of fp32, with settings that the user asked for.
    """
    device = settings.choose_device()
    name, precision = settings.choose()
    computed = _place(network, device)
    sample = sample_batch(window, padding)
    checked = [sample]
    if precision == "int8":
        checked = [arrays for arrays, _ in sample_rows(window, padding, INT8_ROWS, phase=0.75)]
    expected = np.concatenate([_in_fp32(computed, arrays) for arrays in checked])
    computed.simplify(_tensors(computed, sample), lean_masks=name != OPENVINO)
    if name == OPENVINO:
        backend = _with_openvino(computed, precision, settings, longest, window, padding)
    else:
        compiled = settings.compiled and device.type == "cuda"
        backend = TorchBackend(computed, device, precision, longest, settings.batch_size, compiled)
    # PyTorch in fp32 on a CPU is what others are compared with.
    if backend is None or (backend.name, backend.precision, device.type) == ("torch", "fp32", "cpu"):
        return backend or TorchBackend(computed, device, "fp32", longest, settings.batch_size)
    difference = compare(run(backend, checked), expected, labelled)
    # A GPU in fp32 computes in TF32, which has fewer digits.
    strictness = "bf16" if device.type == "cuda" else precision
    if problem := difference.problem(strictness, settings.tolerance):
        # Its weights may be in half precision by now, unless they were a copy.
        spoilt = computed is network and backend.name != OPENVINO
        return _instead(None if spoilt else network, settings, problem, backend, longest)
    _say(backend, difference)
    return backend


def _with_openvino(
    network: Network, precision: str, settings: EngineSettings, longest: int, window: Window, padding: Padding
) -> Backend | None:
    from components.inference.engine.openvino_backend import ConversionError, OpenVinoBackend

    calibration: list[Arrays] = []
    if precision == "int8":
        calibration = [arrays for arrays, _ in sample_rows(window, padding, INT8_CALIBRATION_ROWS, phase=0.25)]
    try:
        return OpenVinoBackend(network, precision, longest, settings.batch_size, calibration)
    except ConversionError as error:
        if settings.backend == OPENVINO or precision == "int8":
            raise InputError(f"OpenVINO cannot take this model: {error}.", "Give backend=torch.") from error
        print(f"OpenVINO cannot take this model ({error}): going on with PyTorch.", flush=True)
    if precision == "bf16":
        return TorchBackend(network, torch.device("cpu"), precision, longest, settings.batch_size)
    return None


def _instead(
    network: Network | None, settings: EngineSettings, problem: str, backend: Backend, longest: int
) -> Backend:
    described = f"{'OpenVINO' if backend.name == OPENVINO else 'PyTorch'} in {backend.precision} is refused: {problem}."
    if network is None or settings.precision != AUTO or settings.backend == OPENVINO:
        raise InputError(described, "Give precision=fp32 and backend=torch, or a larger tolerance with int8.")
    print(f"{described} Going on with PyTorch in fp32.", flush=True)
    return TorchBackend(network, settings.choose_device(), "fp32", longest, settings.batch_size)


def _say(backend: Backend, difference: Difference) -> None:
    if backend.precision == "int8":
        share = f"{100 * difference.labels:.1f} % of {difference.rows} checked rows get another label"
        print(f"int8: {share} than in fp32.", flush=True)


def _place(network: Network, device: torch.device) -> Network:
    """Returns the network in fp32 on the device, as a copy; where it is too large for that, itself on the CPU."""
    if device.type != "cuda":
        return network
    size = sum(weights.numel() * 4 for weights in network.parameters())
    free, _ = torch.cuda.mem_get_info(device)
    return copy.deepcopy(network).to(device) if size < FP32_SHARE * free else network


def _in_fp32(network: Network, arrays: Arrays) -> np.ndarray:
    with torch.inference_mode():
        answer: np.ndarray = network(*_tensors(network, arrays)).float().cpu().numpy()
    return answer


def _tensors(network: Network, arrays: Arrays) -> list[torch.Tensor]:
    device = next(network.parameters()).device
    return [torch.from_numpy(arrays[name]).to(device) for name in network.inputs]
