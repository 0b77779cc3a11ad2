"""Writes what a model thinks of every text of a Dataset."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.datasets import ID, DatasetWriter, count_rows, metadata_of, parse_shard, read_schema
from components.errors import InputError
from components.inference.engine import TextClassifier
from components.inference.engine.settings import EngineSettings
from components.inference.rows import COMPILED_ROWS, SAVE_EVERY_SECONDS, RowAnswers, open_state, opened
from components.models import digest_of_model, refuse_absent

PREDICTION, SCORE, PROBABILITIES = "prediction", "score", "probabilities"


def classify(
    dataset: str | Path,
    model: str | Path,
    predictions: str | Path,
    shard: str = "",
    batch_size: int = 0,
    max_length: int = 0,
    include_probabilities: bool = False,
    backend: str = "auto",
    precision: str = "auto",
    tolerance: float = 0.02,
    device: str = "",
    checkpoint_uri: str = "",
    job_folder: str = "",
    checkpoint_seconds: float = SAVE_EVERY_SECONDS,
    dataset_digest: str = "",
    model_digest: str = "",
) -> dict[str, Any]:
    """Classifies the rows of a Dataset, in its order and in memory that does not grow with it.

    Args:
        dataset: The Dataset's folder.
        model: The Model's folder.
        predictions: The folder that the Predictions become.
        shard: The rows to classify, `"start:stop"`; `""` classifies all.
        batch_size: The most rows that go through the model at once; 0 leaves it to the device.
        max_length: The most tokens of a text that are read; 0 reads as many as the model can.
        include_probabilities: Whether the probability of every label is kept.
        backend: `auto`, `torch` or `openvino`; see `EngineSettings`.
        precision: `auto`, `fp32`, `bf16`, `fp16` or `int8`; see `EngineSettings`.
        tolerance: With int8, the largest share of checked rows whose label may differ from fp32's.
        device: A torch device, or several with commas between them; "" takes all GPUs, or the CPU where there is none.
        checkpoint_uri: A folder or `gs://` prefix for the answers so far, which another run with the same model, data
            and settings goes on from. They are removed when all rows are classified.
        job_folder: Where they are kept without a checkpoint_uri; "" for nowhere.
        checkpoint_seconds: The least seconds between two times that they are kept.
        dataset_digest: The Dataset's digest, where it is known.
        model_digest: The Model's digest; it is computed where it is not known.

    Returns:
        The Predictions' metadata: rows, columns, labels, shard, digests, and how they were made.

    Raises:
        InputError: The Dataset already has predictions, a setting is wrong, there is no model, it does not choose one
            label, its answer is no number, or a precision's answers are too far from those of fp32.
    """
    refuse_absent(model, "Give a model that exists, or leave this step out while there is none.")
    rows = count_rows(dataset)
    start, stop = parse_shard(shard, rows)
    schema = predictions_schema(read_schema(dataset), include_probabilities)
    model_digest = model_digest or digest_of_model(Path(model))
    settings = EngineSettings(
        batch_size, max_length, backend, precision, tolerance, compiled=stop - start >= COMPILED_ROWS
    )
    facts = {"model": model_digest, "rows": [start, stop], "settings": asdict(settings)}
    finished = open_state(checkpoint_uri, job_folder, dataset, dataset_digest, checkpoint_seconds, **facts)
    given = {name: value for name, value in asdict(settings).items() if name != "device"}
    with opened(partial(TextClassifier, model, **given), device) as classifier:
        labels = classifier.facts()["labels"]
        answers = RowAnswers(classifier, dataset, start, stop, "classify_text", finished)
        with DatasetWriter(predictions, schema) as writer:
            for batch, probabilities in answers:
                check_finite(probabilities, batch.column(ID), classifier.facts()["precision"])
                writer.write(add_predictions(batch, probabilities, labels, schema))
    if finished:
        finished.remove()
    return metadata_of(
        writer,
        shard=f"{start}:{stop}",
        dataset_rows=rows,
        dataset_digest=dataset_digest,
        model_digest=model_digest,
        **answers.metadata(),
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
