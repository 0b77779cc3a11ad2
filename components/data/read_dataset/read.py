"""Reads texts from files of several formats into a Dataset, in bounded memory."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from components.data.read_dataset.checks import LabelCounts, SeenIds
from components.data.read_dataset.columns import Columns, as_text, plan_columns, to_dataset
from components.data.read_dataset.formats import Source, batches_of, list_sources, schema_of
from components.datasets import ID, LABEL, TEXT, DatasetWriter, metadata_of
from components.errors import InputError

PROGRESS_SECONDS = 10.0


def read(
    source_uri: str,
    path: str | Path,
    text_column: str = "text",
    id_column: str = "",
    label_column: str = "",
    encoding: str = "utf-8",
) -> dict[str, Any]:
    """Reads CSV, TSV, JSON Lines or Parquet into a Dataset.

    Args:
        source_uri: A file, a folder (with its sub-folders) or a glob; a local path or a `gs://` URI.
        path: The folder that the Dataset becomes. It appears whole or not at all.
        text_column: The column with the texts.
        id_column: The column with unique ids. Without it an id is a digest of the file's name within the source and the
            row's number.
        label_column: The column with the labels. Without it all labels are null.
        encoding: The encoding of the text formats; UTF-8 may begin with a byte order mark.

    Returns:
        The artifact's metadata: `rows`, `columns`, `digest`, `source_uri`, `files`, `empty_texts`, `unlabelled`,
        `labels` (sorted) and `label_counts`; the last two are empty where there are too many labels to be classes.

    Raises:
        InputError: The source cannot be read as asked; the message names the file, and the row where there is one.
    """
    sources = [(source, schema_of(source, encoding)) for source in list_sources(source_uri)]
    columns = plan_columns([(source.uri, schema) for source, schema in sources], text_column, id_column, label_column)
    labels, seen, empty_texts, starts = LabelCounts(), SeenIds(), 0, []
    shown = time.monotonic()
    with DatasetWriter(path, columns.schema) as writer:
        for number, (source, schema) in enumerate(sources, 1):
            start = writer.rows
            starts.append(start)
            for batch in batches_of(source, encoding, schema):
                rows = _convert(batch, columns, source, writer.rows - start)
                empty_texts += pc.sum(pc.equal(rows.column(TEXT), "")).as_py() or 0
                labels.add(rows.column(LABEL))
                if id_column:
                    seen.add(rows.column(ID))
                writer.write(rows)
                if time.monotonic() - shown >= PROGRESS_SECONDS:
                    shown = time.monotonic()
                    print(f"{writer.rows:,} rows, file {number} of {len(sources)}: {source.name}", flush=True)
        repeated = seen.repeated_rows(most=3)
        if repeated:
            raise _repeated_ids(repeated, sources, starts, encoding, id_column)
    metadata = metadata_of(
        writer,
        source_uri=source_uri,
        files=len(sources),
        empty_texts=empty_texts,
        unlabelled=labels.unlabelled,
        labels=sorted(labels.counts),
        label_counts=dict(sorted(labels.counts.items())),
    )
    print(_summary(metadata, labels.complete, bool(label_column)), flush=True)
    return metadata


def _convert(batch: pa.RecordBatch, columns: Columns, source: Source, first_row: int) -> pa.RecordBatch:
    try:
        rows = to_dataset(batch, columns, source.name, first_row)
    except pa.ArrowInvalid as error:
        raise InputError(
            f"{source.uri!r}, near data row {first_row + 1}: {error}.",
            "Write the column as text, or alike in all files.",
        ) from error
    ids = rows.column(ID)
    missing = pc.index(pc.or_kleene(pc.is_null(ids), pc.equal(pc.fill_null(ids, ""), "")), True).as_py()
    if missing >= 0:
        raise InputError(
            f"Data row {first_row + missing + 1} of {source.uri!r} has no id in {columns.id!r}.",
            "Give every row an id, or leave id_column empty to have ids made.",
        )
    return rows


def _repeated_ids(
    repeated: list[tuple[int, int]],
    sources: list[tuple[Source, pa.Schema]],
    starts: list[int],
    encoding: str,
    id_column: str,
) -> InputError:
    """Reads the ids again to name those that occur twice: only their digests were kept."""
    wanted = {row for pair in repeated for row in pair}
    places: dict[int, tuple[str, str]] = {}
    for (source, schema), start in zip(sources, starts, strict=True):
        for row, value in enumerate(_ids(source, schema, encoding, id_column), start):
            if row in wanted:
                places[row] = value, f"data row {row - start + 1} of {source.name}"
    examples = "; ".join(f"{places[a][0]!r} ({places[a][1]}, {places[b][1]})" for a, b in repeated)
    return InputError(
        f"Ids in {id_column!r} occur more than once: {examples}.",
        "Give every row an id of its own, or leave id_column empty to have ids made.",
    )


def _ids(source: Source, schema: pa.Schema, encoding: str, id_column: str) -> Iterator[str]:
    for batch in batches_of(source, encoding, schema):
        yield from as_text(batch.column(id_column)).to_pylist()


def _summary(metadata: dict[str, Any], complete: bool, labelled: bool) -> str:
    parts = [f"{metadata['rows']:,} rows from {metadata['files']:,} file{'s' * (metadata['files'] > 1)}"]
    if labelled:
        parts.append(f"{len(metadata['labels']):,} labels" if complete else "too many labels to list")
        if metadata["unlabelled"]:
            parts.append(f"{metadata['unlabelled']:,} rows without a label")
    if metadata["empty_texts"]:
        parts.append(f"{metadata['empty_texts']:,} empty texts")
    return ", ".join(parts)
