"""How much of a graphics card the engine uses: the share of what its matrix units reach at best, and its idle time."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from benchmarks.workload import SIZES, Language, build_model
from components.inference.engine import TextClassifier

LENGTHS = (32, 128, 512)
MATRIX = 8192
SECONDS = 3.0
ROWS = 200_000


@dataclass(frozen=True)
class Utilization:
    """How well BERT-base uses the card.

    Attributes:
        case: What was computed.
        tokens_per_second: The speed.
        share: Of the card's measured ceiling of matrix products; None where it was not measured.
        waiting: The share of time in which there was nothing to compute; None where batches were ready beforehand.
    """

    case: str
    tokens_per_second: float
    share: float | None
    waiting: float | None


def measure_utilization() -> list[Utilization]:
    """Measures batches of one length that lie ready, and the whole way from texts to answers."""
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        language = Language()
        model = build_model(Path(folder) / "model", "BERT-base", language)
        classifier = TextClassifier(model)
        texts = language.long(ROWS)
        classifier.classify(texts[:4096])
        ceiling = matrix_ceiling(torch.bfloat16 if classifier.precision == "bf16" else torch.float16)
        found = [_of_length(classifier, length, ceiling) for length in LENGTHS]
        before, waited = classifier.usage.tokens, classifier.usage.seconds["waiting"]
        start = time.perf_counter()
        classifier.classify(texts)
        seconds = time.perf_counter() - start
        speed = (classifier.usage.tokens - before) / seconds
        waiting = (classifier.usage.seconds["waiting"] - waited) / seconds
        return [*found, Utilization("long texts, from text to answer", speed, None, waiting)]


def matrix_ceiling(dtype: torch.dtype) -> float:
    """Returns the most operations a second that the card reaches in products of large matrices."""
    left, right = (torch.randn(MATRIX, MATRIX, device="cuda", dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(20):
            left @ right
        torch.cuda.synchronize()
        best = max(best, 20 * 2 * MATRIX**3 / (time.perf_counter() - start))
    return best


def operations_of(length: int) -> float:
    """Returns the operations that the engine does for a token of a text of a length: matrix products only.

    Of the last layer, only queries, keys, values and the attention: the rest is computed for one token of each text.
    """
    size = SIZES["BERT-base"]
    layer = 4 * size.width**2 + 2 * size.width * size.feed_forward
    weights = (size.layers - 1) * layer + 3 * size.width**2
    return 2 * weights + size.layers * 4 * length * size.width


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
    return Utilization(f"texts of {length} tokens", speed, speed * operations_of(length) / ceiling, None)


def show_utilization(found: list[Utilization]) -> Table:
    """Returns the table."""
    table = Table("BERT-base", "tokens/s", "of the ceiling (MFU)", "waiting", title="Use of the GPU")
    for each in found:
        share, waiting = (f"{value:.0%}" if value is not None else "" for value in (each.share, each.waiting))
        table.add_row(each.case, f"{each.tokens_per_second:,.0f}", share, waiting)
    return table
