"""Compares a backend's answers to the first rows with PyTorch's in fp32."""

from dataclasses import dataclass

import numpy as np

from components.inference.engine.backends import Arrays, Backend
from components.inference.engine.batching import Batch, BatchLimits
from components.inference.engine.tokenization import Padding
from components.inference.engine.windows import Window

# Of an answer's largest number. Two ways to add the same numbers differ by a hundredth of this.
FP32_TOLERANCE = 1e-3
# Of a probability, or of a number of an embedding: half precision rounds to three digits in every layer.
HALF_TOLERANCE = 0.1
CHECK_TOKENS = 2048
INT8_ROWS = 128
INT8_CALIBRATION_ROWS = 256


@dataclass(frozen=True)
class Difference:
    """How far answers are from PyTorch's in fp32.

    Attributes:
        rows: The rows that were compared.
        worst: The largest difference of a number of the answers, as a share of the largest number (or of 1).
        probability: The largest difference of a probability; of an embedding's number, where there are none.
        labels: The share of rows whose label differs.
    """

    rows: int
    worst: float
    probability: float
    labels: float

    def problem(self, precision: str, tolerance: float) -> str:
        """Returns what is wrong with the answers of a precision, in words; "" when nothing is."""
        if precision == "int8":
            share = f"{100 * self.labels:.1f} % of {self.rows} checked rows get another label"
            return "" if self.labels <= tolerance else f"{share}, and {100 * tolerance:g} % are tolerated"
        if precision == "fp32":
            return _beyond(self.worst, FP32_TOLERANCE, "the largest number of an answer")
        return _beyond(self.probability, HALF_TOLERANCE, "1")


def compare(answer: np.ndarray, expected: np.ndarray, labelled: bool) -> Difference:
    """Compares answers with those that are right.

    Args:
        answer: What a backend says: (rows, numbers).
        expected: What PyTorch says in fp32. Rows without a number in it (NaN) are not compared.
        labelled: Whether the numbers are the logits of labels.
    """
    known = np.isfinite(expected).all(axis=1)
    answer, expected = answer[known], expected[known]
    if not len(expected):
        return Difference(0, 0.0, 0.0, 0.0)
    worst = float(np.abs(answer - expected).max()) / max(1.0, float(np.abs(expected).max()))
    shown, right = (softmax(answer), softmax(expected)) if labelled else (answer, expected)
    other_label = answer.argmax(axis=1) != expected.argmax(axis=1)
    return Difference(len(expected), worst, float(np.abs(shown - right).max()), float(other_label.mean()))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities: float32, each row's sum 1."""
    with np.errstate(invalid="ignore", over="ignore"):
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: np.ndarray = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities


def sample_batch(window: Window, padding: Padding) -> Arrays:
    """Returns a few texts of a window, the longest, the shortest and some between them, in one batch."""
    lengths = window.tokens.lengths
    rows = max(2, min(8, CHECK_TOKENS // int(lengths[0])))
    return _arrays(window, np.unique(np.linspace(0, len(lengths) - 1, min(rows, len(lengths))).astype(int)), padding)


def sample_rows(window: Window, padding: Padding, rows: int, phase: float) -> list[tuple[Arrays, Batch]]:
    """Returns up to so many texts of a window, spread over all lengths, in batches.

    Args:
        window: The window.
        padding: What stands where a text has ended.
        rows: The most texts.
        phase: From 0 to 1: samples of different phases have different texts, where there are enough.
    """
    count = len(window.counts)
    chosen = (
        np.unique((np.arange(min(rows, count)) + phase) * (count / min(rows, count))).astype(int).clip(0, count - 1)
    )
    tokens = window.tokens.take(np.unique(chosen))
    batches = BatchLimits(CHECK_TOKENS).cut(tokens.lengths)
    return [(tokens.pad(batch.start, batch.stop, batch.width, padding), batch) for batch in batches]


def run(backend: Backend, batches: list[Arrays]) -> np.ndarray:
    """Returns a backend's answers to batches, one below the other."""
    return np.concatenate([np.array(backend.start(arrays, True)()) for arrays in batches])


def _arrays(window: Window, rows: np.ndarray, padding: Padding) -> Arrays:
    tokens = window.tokens.take(rows)
    return tokens.pad(0, len(rows), int(tokens.lengths.max()), padding)


def _beyond(difference: float, tolerance: float, whole: str) -> str:
    if difference <= tolerance:
        return ""
    return f"its answers differ from fp32's by up to {difference:.2g} of {whole}, and {tolerance:g} is tolerated"
