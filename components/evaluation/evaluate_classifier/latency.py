"""Measures how long a model takes for one text."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.datasets import TEXT, count_rows, read_batches
from components.inference.engine import TextClassifier

SAMPLE_ROWS = 64
# The first calls reserve memory and choose kernels.
WARM_UP_CALLS = 8


@dataclass(frozen=True)
class Latency:
    """The time from a text to its probabilities, tokenization included, one text at a time.

    Attributes:
        p50: Half of the texts took at most this long, in milliseconds.
        p95: 95 of 100 texts took at most this long, in milliseconds.
        texts: The texts that were measured.
        device: On what, such as `cpu` or `NVIDIA L4`.
        precision: `fp32`, `bf16` or `fp16`.
    """

    p50: float
    p95: float
    texts: int
    device: str
    precision: str


def measure_latency(dataset: str | Path, model: str | Path, max_length: int = 0) -> Latency | None:
    """Classifies a sample of texts one by one, after a warm-up.

    Args:
        dataset: The Dataset's folder; the sample is spread evenly over its rows.
        model: The Model's folder.
        max_length: The most tokens of a text that are read; 0 reads as many as the model can.

    Returns:
        The latency; None when there are no rows.
    """
    texts = sample_texts(dataset)
    if not texts:
        return None
    classifier = TextClassifier(model, batch_size=1, max_length=max_length)
    longest_first = sorted(texts, key=len, reverse=True)
    for call in range(WARM_UP_CALLS):
        classifier.classify([longest_first[call % len(texts)]])
    seconds = []
    for text in texts:
        start = time.perf_counter()
        classifier.classify([text])
        seconds.append(time.perf_counter() - start)
    p50, p95 = np.quantile(seconds, [0.5, 0.95]) * 1000
    return Latency(float(p50), float(p95), len(texts), classifier.device, classifier.precision)


def sample_texts(dataset: str | Path, count: int = SAMPLE_ROWS) -> list[str]:
    """Returns the texts of up to `count` rows at even distances."""
    rows = count_rows(dataset)
    wanted = np.unique(np.linspace(0, rows - 1, min(count, rows)).round().astype(np.int64)) if rows else np.array([])
    texts: list[str] = []
    position = 0
    for batch in read_batches(dataset, columns=[TEXT]):
        here = wanted[(wanted >= position) & (wanted < position + batch.num_rows)] - position
        texts += [batch.column(0)[int(row)].as_py() for row in here]
        position += batch.num_rows
    return texts
