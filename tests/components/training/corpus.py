"""Small Datasets and models to train with."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.datasets import DatasetWriter
from tests.tiny_model import build_tiny_model

WORDS = {
    "good": ["fine", "great", "nice", "thanks"],
    "bad": ["awful", "broken", "late", "never"],
    "other": ["where", "when", "how", "price"],
}
FILLERS = ["the", "parcel", "was", "and", "today", "my", "order"]


def make_rows(count: int, labels: Sequence[str] = ("good", "bad"), seed: int = 0) -> list[tuple[str, str | None]]:
    """Makes texts of 3 to 30 words, each with a word or more that tells its label."""
    draw = random.Random(seed)
    rows: list[tuple[str, str | None]] = []
    for _ in range(count):
        label = draw.choice(labels)
        words = [draw.choice(WORDS[label] + FILLERS) for _ in range(draw.randint(2, 29))]
        rows.append((" ".join([draw.choice(WORDS[label]), *words]), label))
    return rows


def write_dataset(folder: Path, rows: Sequence[tuple[str, str | None]]) -> Path:
    """Writes texts and labels as a Dataset."""
    schema = pa.schema([("id", pa.string()), ("text", pa.string()), ("label", pa.string())])
    columns: list[Any] = [[str(number) for number in range(len(rows))], [text for text, _ in rows]]
    with DatasetWriter(folder, schema) as writer:
        writer.write(
            pa.RecordBatch.from_arrays(
                [*map(pa.array, columns), pa.array([x for _, x in rows], pa.string())], schema=schema
            )
        )
    return folder


def build_base(folder: Path, labels: Sequence[str] = ("positive", "negative", "neutral")) -> Path:
    """Builds a classifier of other labels than the rows have."""
    return build_tiny_model(folder, list(labels), [" ".join(FILLERS), *map(" ".join, WORDS.values())])
