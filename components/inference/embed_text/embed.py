"""Writes an embedding of every text of a Dataset."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.datasets import ID, DatasetWriter, count_rows, metadata_of, parse_shard, read_schema
from components.errors import InputError
from components.inference.embed_text.embedder import TextEmbedder
from components.inference.engine.settings import EngineSettings
from components.inference.rows import COMPILED_ROWS, SAVE_EVERY_SECONDS, RowAnswers, open_state, opened
from components.models import CONFIG, digest_of_model, refuse_absent

EMBEDDING = "embedding"
TYPES = {"float32": pa.float32(), "float16": pa.float16()}


def embed(
    dataset: str | Path,
    model: str | Path,
    embeddings: str | Path,
    shard: str = "",
    pooling: str = "mean",
    normalize: bool = True,
    dtype: str = "float32",
    batch_size: int = 0,
    max_length: int = 0,
    backend: str = "auto",
    precision: str = "auto",
    device: str = "",
    checkpoint_uri: str = "",
    job_folder: str = "",
    checkpoint_seconds: float = SAVE_EVERY_SECONDS,
    dataset_digest: str = "",
    model_digest: str = "",
) -> dict[str, Any]:
    """Embeds the rows of a Dataset, in its order and in memory that does not grow with it.

    Args:
        dataset: The Dataset's folder.
        model: The Model's folder.
        embeddings: The folder that the Embeddings become.
        shard: The rows to embed, `"start:stop"`; `""` embeds all.
        pooling: `mean` of the vectors of all tokens, or `cls`, the first token's.
        normalize: Whether vectors get the length 1.
        dtype: `float32`, or `float16` for half of the space and three digits.
        batch_size: The most rows that go through the model at once; 0 leaves it to the device.
        max_length: The most tokens of a text that are read; 0 reads as many as the model can.
        backend: `auto`, `torch` or `openvino`; see `EngineSettings`.
        precision: `auto`, `fp32`, `bf16` or `fp16`; see `EngineSettings`.
        device: A torch device, or several with commas between them; "" takes all GPUs, or the CPU where there is none.
        checkpoint_uri: A folder or `gs://` prefix for the vectors so far, which another run with the same model, data
            and settings goes on from. They are removed when all rows are embedded.
        job_folder: Where they are kept without a checkpoint_uri; "" for nowhere.
        checkpoint_seconds: The least seconds between two times that they are kept.
        dataset_digest: The Dataset's digest, where it is known.
        model_digest: The Model's digest; it is computed where it is not known.

    Returns:
        The Embeddings' metadata: rows, columns, dimension, shard, digests, and how they were made.

    Raises:
        InputError: The Dataset already has embeddings, a setting is wrong, there is no model, or a vector holds
            something that is no number.
    """
    refuse_absent(model, "Give a model that exists, or leave this step out while there is none.")
    if dtype not in TYPES:
        raise InputError(f"There is no dtype {dtype!r}.", f"Give one of {', '.join(TYPES)}.")
    if precision == "int8":
        raise InputError("int8 is for classification, where its cost shows in labels.", "Give bf16 or fp32.")
    rows = count_rows(dataset)
    start, stop = parse_shard(shard, rows)
    if EMBEDDING in (names := read_schema(dataset)).names:
        raise InputError(f"The Dataset already has a column {EMBEDDING!r}.", "Rename it or leave it out.")
    model_digest = model_digest or digest_of_model(Path(model))
    settings = EngineSettings(batch_size, max_length, backend, precision, compiled=stop - start >= COMPILED_ROWS)
    pooled: dict[str, Any] = {"pooling": pooling, "normalize": normalize}
    facts = {"model": model_digest, "rows": [start, stop], "settings": {**asdict(settings), **pooled}}
    finished = open_state(checkpoint_uri, job_folder, dataset, dataset_digest, checkpoint_seconds, **facts)
    dimension = dimension_of(model)
    schema = names.append(pa.field(EMBEDDING, pa.list_(TYPES[dtype], dimension)))
    given = {name: value for name, value in asdict(settings).items() if name != "device"}
    with opened(partial(TextEmbedder, model, **given, **pooled), device) as embedder:
        answers = RowAnswers(embedder, dataset, start, stop, "embed_text", finished)
        with DatasetWriter(embeddings, schema) as writer:
            for batch, vectors in answers:
                writer.write(add_embeddings(batch, vectors, schema))
    if finished:
        finished.remove()
    return metadata_of(
        writer,
        dimension=dimension,
        pooling=pooling,
        normalized=normalize,
        dtype=dtype,
        shard=f"{start}:{stop}",
        dataset_rows=rows,
        dataset_digest=dataset_digest,
        model_digest=model_digest,
        **answers.metadata(),
    )


def dimension_of(model: str | Path) -> int:
    """Returns how many numbers a model's vectors have.

    Raises:
        InputError: Its configuration does not say.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model, local_files_only=True, trust_remote_code=False)
    dimension = getattr(config, "hidden_size", None)
    if not isinstance(dimension, int):
        raise InputError(f"{CONFIG} of {str(model)!r} has no hidden_size.", "Take a text encoder.")
    return dimension


def add_embeddings(batch: pa.RecordBatch, vectors: np.ndarray, schema: pa.Schema) -> pa.RecordBatch:
    """Returns a batch with its embeddings.

    Args:
        batch: Rows of a Dataset.
        vectors: (rows, dimension).
        schema: The columns to return; `embedding` is the last one.

    Raises:
        InputError: A vector holds something that is no number, or too large for the type.
    """
    kind = schema.field(EMBEDDING).type
    with np.errstate(over="ignore"):
        numbers = vectors.astype(kind.value_type.to_pandas_dtype())
    broken = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
    if len(broken):
        raise InputError(
            f"The embeddings of {len(broken)} of {len(numbers)} rows hold something that is no number, first that of "
            f"the row with id {batch.column(ID)[int(broken[0])].as_py()!r}.",
            "Check the model's weights; with dtype=float16 give normalize=True.",
        )
    column = pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel(), kind.value_type), type=kind)
    return pa.RecordBatch.from_arrays([*batch.columns, column], schema=schema)
