"""Writes what a model thinks of every text of a Dataset."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.datasets import ID, TEXT, DatasetWriter, count_rows, metadata_of, parse_shard, read_batches, read_schema
from components.errors import InputError
from components.inference.engine import TextClassifier
from components.models import digest_of_model, refuse_absent
from components.progress import Progress

PREDICTION, SCORE, PROBABILITIES = "prediction", "score", "probabilities"
# Rows that are sorted by length together: enough to fill batches with texts of nearly one length.
WINDOW_ROWS = 4096


def classify(
    dataset: str | Path,
    model: str | Path,
    predictions: str | Path,
    shard: str = "",
    batch_size: int = 32,
    max_length: int = 0,
    include_probabilities: bool = False,
    dataset_digest: str = "",
    model_digest: str = "",
) -> dict[str, Any]:
    """Classifies the rows of a Dataset, in its order and in memory that does not grow with it.

    Args:
        dataset: The Dataset's folder.
        model: The Model's folder.
        predictions: The folder that the Predictions become.
        shard: The rows to classify, `"start:stop"`; `""` classifies all.
        batch_size: The most rows that go through the model at once.
        max_length: The most tokens of a text that are read; 0 reads as many as the model can.
        include_probabilities: Whether the probability of every label is kept.
        dataset_digest: The Dataset's digest, where it is known.
        model_digest: The Model's digest; it is computed where it is not known.

    Returns:
        The Predictions' metadata: rows, columns, labels, shard, digests, and how they were made.

    Raises:
        InputError: The Dataset already has predictions, a setting is wrong, there is no model, it does not choose one
            label, or its answer is no number.
    """
    refuse_absent(model, "Give a model that exists, or leave this step out while there is none.")
    rows = count_rows(dataset)
    start, stop = parse_shard(shard, rows)
    schema = predictions_schema(read_schema(dataset), include_probabilities)
    classifier = TextClassifier(model, batch_size, max_length)
    with Progress(stop - start, "classify_text") as progress, DatasetWriter(predictions, schema) as writer:
        for batch in read_batches(dataset, batch_rows=WINDOW_ROWS, start=start, stop=stop):
            answers = classifier.classify(batch.column(TEXT).to_pylist())
            check_finite(answers, batch.column(ID), classifier.precision)
            writer.write(add_predictions(batch, answers, classifier.labels, schema))
            progress.update(batch.num_rows)
        speed = progress.speed
    return metadata_of(
        writer,
        labels=classifier.labels,
        shard=f"{start}:{stop}",
        dataset_rows=rows,
        dataset_digest=dataset_digest,
        model_digest=model_digest or digest_of_model(Path(model)),
        rows_per_second=round(speed, 1),
        device=classifier.device,
        precision=classifier.precision,
    )


def predictions_schema(schema: pa.Schema, include_probabilities: bool) -> pa.Schema:
    """Returns a Dataset's columns and those of its predictions.

    Raises:
        InputError: The Dataset has one of the columns already. Two models' answers under one name would be mistaken.
    """
    for name in (PREDICTION, SCORE, PROBABILITIES):
        if name in schema.names:
            raise InputError(f"The Dataset already has a column {name!r}.", "Rename it or leave it out of the Dataset.")
    schema = schema.append(pa.field(PREDICTION, pa.string())).append(pa.field(SCORE, pa.float32()))
    return schema.append(pa.field(PROBABILITIES, pa.list_(pa.float32()))) if include_probabilities else schema


def check_finite(answers: np.ndarray, ids: pa.Array, precision: str) -> None:
    """Refuses answers that are no numbers.

    Raises:
        InputError: At least one is NaN or infinite.
    """
    broken = np.flatnonzero(~np.isfinite(answers).all(axis=1))
    if len(broken):
        raise InputError(
            f"The model's answer for {len(broken)} of {len(answers)} rows is no number (NaN), first for the row with "
            f"id {ids[int(broken[0])].as_py()!r}; it was computed in {precision}.",
            "Check the model's weights; in fp16 a model made for bf16 can overflow, so give it a card that has bf16.",
        )


def add_predictions(batch: pa.RecordBatch, answers: np.ndarray, labels: list[str], schema: pa.Schema) -> pa.RecordBatch:
    """Returns a batch with its predictions.

    Args:
        batch: Rows of a Dataset.
        answers: The probabilities, (rows, labels), each row's sum 1.
        labels: The names of the classes.
        schema: The columns to return; those of the batch come first.
    """
    best = answers.argmax(axis=1)
    columns = [
        *batch.columns,
        pa.array(labels, pa.string()).take(pa.array(best)),
        pa.array(answers[np.arange(len(answers)), best]),
    ]
    if PROBABILITIES in schema.names:
        offsets = np.arange(0, answers.size + 1, answers.shape[1], dtype=np.int32)
        columns.append(pa.ListArray.from_arrays(pa.array(offsets), pa.array(answers.ravel())))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
