"""How much of a device the engine uses: the share of what it reaches in matrix products at best, and its idle time."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from benchmarks.workload import SIZES, Language, build_model
from components.inference.engine import TextClassifier
from components.inference.engine.openvino_backend import cpus, hint_of, import_openvino, quantize
from components.inference.engine.settings import DTYPES, cpu_has_bf16

LENGTHS = (32, 128, 512)
# The side of the matrices whose product is a GPU's ceiling, and the tokens of those that are a CPU's.
GPU_MATRIX, CPU_ROWS = 8192, 512
SECONDS = 3.0
ROWS = {"cuda": 200_000, "cpu": 64}


@dataclass(frozen=True)
class Utilization:
    """How well BERT-base uses the device.

    Attributes:
        case: What was computed.
        tokens_per_second: The speed.
        share: Of the device's measured ceiling of matrix products; None where it was not measured.
        waiting: The share of time in which there was nothing to compute; None where batches were ready beforehand.
    """

    case: str
    tokens_per_second: float
    share: float | None
    waiting: float | None


def measure_utilization() -> list[Utilization]:
    """Measures batches of one length that lie ready, and the whole way from texts to answers, in each precision."""
    on_gpu = torch.cuda.is_available()
    precisions = ("auto",) if on_gpu else ("auto", *(("bf16",) if cpu_has_bf16() else ()), "int8")
    with tempfile.TemporaryDirectory(prefix="utilization-") as folder:
        language = Language()
        model = build_model(Path(folder) / "model", "BERT-base", language)
        texts = language.long(ROWS["cuda" if on_gpu else "cpu"])
        return [each for precision in precisions for each in _in_precision(model, precision, texts)]


def _in_precision(model: Path, precision: str, texts: list[str]) -> list[Utilization]:
    # Random weights have no accuracy to lose.
    classifier = TextClassifier(model, precision=precision, tolerance=1.0)
    classifier.classify(texts[: len(texts) // 4])
    ceiling = 0.0
    if torch.cuda.is_available():
        ceiling = gpu_ceiling(DTYPES[classifier.precision])
    elif classifier.backend == "openvino":
        ceiling = cpu_ceiling(classifier.precision)
    found = [_of_length(classifier, length, ceiling) for length in LENGTHS]
    before, waited = classifier.usage.tokens, classifier.usage.seconds["waiting"]
    start = time.perf_counter()
    classifier.classify(texts)
    seconds = time.perf_counter() - start
    speed = (classifier.usage.tokens - before) / seconds
    waiting = (classifier.usage.seconds["waiting"] - waited) / seconds
    case = f"{classifier.precision}, long texts, from text to answer"
    return [*found, Utilization(case, speed, None, waiting)]


def gpu_ceiling(dtype: torch.dtype) -> float:
    """Returns the most operations a second that the card reaches in products of large matrices."""
    left, right = (torch.randn(GPU_MATRIX, GPU_MATRIX, device="cuda", dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(20):
            left @ right
        torch.cuda.synchronize()
        best = max(best, 20 * 2 * GPU_MATRIX**3 / (time.perf_counter() - start))
    return best


def cpu_ceiling(precision: str) -> float:
    """Returns the most operations a second that all cores reach in OpenVINO's products, each in its cache."""
    ov = import_openvino()
    streams = cpus()
    # The shapes of BERT-base's feed-forward layers. Two of them, since a single one is busy with its input and output.
    width, wide = SIZES["BERT-base"].width, SIZES["BERT-base"].feed_forward
    layers = torch.nn.Sequential(torch.nn.Linear(width, wide), torch.nn.Linear(wide, width)).requires_grad_(False)
    product = ov.convert_model(layers, example_input=torch.zeros(1, width), input=[ov.PartialShape([-1, width])])
    left = np.random.default_rng(0).standard_normal((CPU_ROWS, width), np.float32)
    if precision == "int8":
        product = quantize(product, [[left]])
    hint = hint_of(precision)
    settings = {"INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams}
    compiled = ov.Core().compile_model(product, "CPU", settings)
    requests = ov.AsyncInferQueue(compiled, streams + 1)
    best = 0.0
    for _ in range(5):
        start, count = time.perf_counter(), 200
        for _ in range(count):
            requests.start_async([left], share_inputs=True)
        requests.wait_all()
        best = max(best, count * 4 * CPU_ROWS * width * wide / (time.perf_counter() - start))
    return best


def operations_of(length: int) -> float:
    """Returns the operations that the engine does for a token of a text of a length: matrix products only.

    Without the last layer, of which one token of each text is computed.
    """
    size = SIZES["BERT-base"]
    weights = 4 * size.width**2 + 2 * size.width * size.feed_forward
    return (size.layers - 1) * (2 * weights + 4 * length * size.width)


def _of_length(classifier: TextClassifier, length: int, ceiling: float) -> Utilization:
    backend = classifier.engine._backend
    assert backend is not None
    rows = max(1, backend.limits.tokens // length)
    ids = np.random.default_rng(0).integers(10, 5000, (rows, length))
    arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    for _ in range(3):
        backend.start(arrays, padded=False)()
    start, batches, under_way = time.perf_counter(), 0, []
    while time.perf_counter() - start < SECONDS:
        under_way.append(backend.start(arrays, padded=False))
        if len(under_way) > backend.depth:
            under_way.pop(0)()
        batches += 1
    for answer in under_way:
        answer()
    speed = batches * rows * length / (time.perf_counter() - start)
    share = speed * operations_of(length) / ceiling if ceiling else None
    return Utilization(f"{classifier.precision}, texts of {length} tokens", speed, share, None)


def show_utilization(found: list[Utilization]) -> Table:
    """Returns the table."""
    table = Table("BERT-base", "tokens/s", "of the ceiling (MFU)", "waiting", title="Use of the device")
    for each in found:
        share, waiting = (f"{value:.0%}" if value is not None else "" for value in (each.share, each.waiting))
        table.add_row(each.case, f"{each.tokens_per_second:,.0f}", share, waiting)
    return table
