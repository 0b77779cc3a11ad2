"""Puts the predictions of all shards of a Dataset together."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.datasets import DatasetWriter, count_rows, metadata_of, read_batches, read_schema
from components.errors import InputError

_SHARD = re.compile("([0-9]{1,18}):([0-9]{1,18})")
# What must be the same in all shards, or the whole would mix answers to different questions.
SAME = ("labels", "dataset_rows", "dataset_digest", "model_digest")
REMEDY = "Collect the outputs of classify_text over all shards of one plan_shards, with one dataset and one model."


@dataclass(frozen=True)
class Shard:
    """The predictions of some rows.

    Attributes:
        path: Their folder.
        start: The first row's number in the dataset.
        stop: The number of the row behind the last one.
        metadata: What `classify_text` says about them.
    """

    path: Path
    start: int
    stop: int
    metadata: dict[str, Any]


def collect(shards: list[tuple[str | Path, dict[str, Any]]], predictions: str | Path) -> dict[str, Any]:
    """Writes the rows of all shards to one Dataset, in the dataset's order and in memory that does not grow with it.

    Args:
        shards: Each shard's folder and metadata, in any order.
        predictions: The folder that the Predictions become.

    Returns:
        The Predictions' metadata.

    Raises:
        InputError: Rows are missing or there twice, or the shards are not of one dataset and one model.
    """
    ordered = sorted((read_shard(path, metadata) for path, metadata in shards), key=lambda s: (s.start, s.stop))
    check_shards(ordered)
    schema = read_schema(ordered[0].path)
    with DatasetWriter(predictions, schema) as writer:
        for shard in ordered:
            for batch in read_batches(shard.path):
                writer.write(batch)
    first = ordered[0].metadata
    print(f"collect_predictions: {writer.rows:,} rows of {len(ordered)} shards.")
    return metadata_of(
        writer,
        labels=first["labels"],
        shard=f"0:{writer.rows}",
        dataset_rows=writer.rows,
        dataset_digest=first.get("dataset_digest", ""),
        model_digest=first.get("model_digest", ""),
        shards=len(ordered),
        device=_all_values(ordered, "device"),
        precision=_all_values(ordered, "precision"),
    )


def read_shard(path: str | Path, metadata: dict[str, Any]) -> Shard:
    """Reads which rows a shard holds.

    Raises:
        InputError: Its metadata does not say it, or says something else than its files.
    """
    match = _SHARD.fullmatch(str(metadata.get("shard", "")))
    if not match or "labels" not in metadata or "dataset_rows" not in metadata:
        raise InputError(f"The metadata of {str(path)!r} does not say which rows it holds.", REMEDY)
    shard = Shard(Path(path), int(match[1]), int(match[2]), metadata)
    rows = count_rows(path)
    if rows != shard.stop - shard.start:
        raise InputError(f"The shard {shard.start}:{shard.stop} holds {rows} rows.", REMEDY)
    return shard


def check_shards(shards: list[Shard]) -> None:
    """Checks that sorted shards are the whole of one dataset, classified by one model.

    Raises:
        InputError: They are not.
    """
    if not shards:
        raise InputError("There are no shards.", REMEDY)
    first, schema = shards[0], read_schema(shards[0].path)
    position = 0
    for shard in shards:
        name = f"{shard.start}:{shard.stop}"
        if shard.start != position:
            what = "are missing" if shard.start > position else "are there twice"
            rows = sorted((position, shard.start))
            raise InputError(f"Rows {rows[0]}:{rows[1]} {what}, before the shard {name}.", REMEDY)
        position = shard.stop
        if not read_schema(shard.path).equals(schema):
            raise InputError(f"The columns of the shard {name} differ from the first shard's.", REMEDY)
        for key in SAME:
            if shard.metadata.get(key) != first.metadata.get(key):
                raise InputError(f"The {key} of the shard {name} differs from the first shard's.", REMEDY)
    # A number that passed through kfp.local is a float.
    if position != int(first.metadata["dataset_rows"]):
        raise InputError(
            f"Rows {position}:{int(first.metadata['dataset_rows'])} are missing, after the last shard.", REMEDY
        )


def _all_values(shards: list[Shard], key: str) -> str:
    return ", ".join(sorted({str(shard.metadata.get(key, "")) for shard in shards}))
