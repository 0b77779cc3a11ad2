"""The Dataset contract: a folder of Parquet files with `id`, `text` and `label`, read and written in bounded memory.

Predictions and Embeddings are Datasets with more columns.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from components.errors import InputError
from components.storage import move_into_place

ID, TEXT, LABEL = "id", "text", "label"

# A row group is what a reader holds at once: bounded by rows for short texts and by bytes for long ones.
ROW_GROUP_ROWS = 16_384
ROW_GROUP_BYTES = 32 * 1024 * 1024
PART_ROWS = 1_000_000
PART_BYTES = 512 * 1024 * 1024


class DatasetWriter:
    """Writes a Dataset part by part, and puts it in place only when all of it is written.

    Args:
        path: The folder that the Dataset becomes. It appears when the `with` block ends without an error; until then
            everything is in a temporary folder.
        schema: The columns of every batch. `id` and `text` must be strings without nulls, `label` a string.

    Attributes:
        rows: The rows written so far.
        digest: Digest of all parts' bytes (64 hexadecimal digits), once the block has ended.

    Raises:
        ValueError: The schema is not a Dataset's.
    """

    def __init__(self, path: str | Path, schema: pa.Schema):
        for name in (ID, TEXT, LABEL):
            if name not in schema.names or not pa.types.is_string(schema.field(name).type):
                raise ValueError(f"A Dataset needs a string column {name!r}; the schema is {schema}.")
        self.rows = 0
        self.digest = ""
        self._path, self._schema = Path(path), schema
        self._buffer: list[pa.RecordBatch] = []
        self._buffered_rows = self._buffered_bytes = 0
        self._part_rows = self._part_bytes = 0
        self._parts: list[Path] = []
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        self._temporary = tempfile.TemporaryDirectory(prefix="dataset-")
        self._folder = Path(self._temporary.name) / "dataset"
        self._folder.mkdir()
        self._open_part()
        return self

    def write(self, batch: pa.RecordBatch) -> None:
        """Appends the rows of a batch, which must have the writer's schema."""
        # Copied by the writer only when a row group is full: slices keep small batches from becoming small row groups.
        for start in range(0, batch.num_rows, ROW_GROUP_ROWS):
            piece = batch.slice(start, ROW_GROUP_ROWS)
            self._buffer.append(piece)
            self._buffered_rows += piece.num_rows
            self._buffered_bytes += piece.nbytes
            if self._buffered_rows >= ROW_GROUP_ROWS or self._buffered_bytes >= ROW_GROUP_BYTES:
                self._flush()
        self.rows += batch.num_rows

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
            if self._writer:
                self._writer.close()
            if kind is None:
                self.digest = digest_of_files(self._parts)
                move_into_place(self._folder, self._path)
        finally:
            self._temporary.cleanup()

    def _flush(self) -> None:
        if not self._buffer:
            return
        if self._part_rows >= PART_ROWS or self._part_bytes >= PART_BYTES:
            self._open_part()
        assert self._writer
        table = pa.Table.from_batches(self._buffer, self._schema)
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._part_rows += self._buffered_rows
        self._part_bytes += self._buffered_bytes
        self._buffer, self._buffered_rows, self._buffered_bytes = [], 0, 0

    def _open_part(self) -> None:
        if self._writer:
            self._writer.close()
        part = self._folder / f"part-{len(self._parts):05d}.parquet"
        self._parts.append(part)
        self._writer = pq.ParquetWriter(part, self._schema, compression="zstd")
        self._part_rows = self._part_bytes = 0


def digest_of_files(files: list[Path]) -> str:
    """Digests the bytes of files in the given order (64 hexadecimal digits)."""
    sha = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            sha.update(hashlib.file_digest(stream, "sha256").digest())
    return sha.hexdigest()


def part_files(path: str | Path) -> list[Path]:
    """Lists a Dataset's Parquet files in order.

    Raises:
        InputError: The folder holds none.
    """
    parts = sorted(Path(path).glob("part-*.parquet"))
    if not parts:
        raise InputError(
            f"There is no Dataset in {str(path)!r}.",
            "Give a folder of part-*.parquet files, as read_dataset writes it.",
        )
    return parts


def read_schema(path: str | Path) -> pa.Schema:
    """Returns a Dataset's columns and their types."""
    return pq.read_schema(part_files(path)[0])


def count_rows(path: str | Path) -> int:
    """Counts a Dataset's rows from the Parquet footers, without reading the rows."""
    return sum(pq.read_metadata(part).num_rows for part in part_files(path))


def read_batches(
    path: str | Path, columns: list[str] | None = None, batch_rows: int = 4096, start: int = 0, stop: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Reads a Dataset's rows in order, holding one row group at a time.

    Args:
        path: The Dataset's folder.
        columns: The columns to read; all by default.
        batch_rows: The most rows in a batch.
        start: The first row to read, counted over all parts.
        stop: The row to stop before; the end by default.

    Yields:
        Batches of at most `batch_rows` rows; none is empty.
    """
    position = 0
    for part in part_files(path):
        with pq.ParquetFile(part, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                first, last = max(start - position, 0), rows if stop is None else min(stop - position, rows)
                position += rows
                if first >= last:
                    continue
                table = file.read_row_group(group, columns=columns, use_threads=False)
                yield from table.slice(first, last - first).to_batches(max_chunksize=batch_rows)


def parse_shard(shard: str, rows: int) -> tuple[int, int]:
    """Reads a shard as `plan_shards` writes it.

    Args:
        shard: `"start:stop"`, the first row and the row to stop before; `""` means all rows.
        rows: The Dataset's rows.

    Returns:
        The first row and the row to stop before.

    Raises:
        InputError: It is not `start:stop`, or not within the Dataset.
    """
    if not shard:
        return 0, rows
    match = re.fullmatch("([0-9]{1,18}):([0-9]{1,18})", shard)
    if not match:
        raise InputError(f"{shard!r} is not a shard.", "Give start:stop, as plan_shards writes it, or '' for all rows.")
    start, stop = int(match[1]), int(match[2])
    if not start <= stop <= rows:
        raise InputError(
            f"The shard {shard!r} is not within the Dataset's {rows} rows.",
            "Plan the shards with plan_shards from the same Dataset.",
        )
    return start, stop


def metadata_of(writer: DatasetWriter, **more: Any) -> dict[str, Any]:
    """Returns what a Dataset artifact's metadata says: rows, columns, content digest, and what the caller adds."""
    return {"rows": writer.rows, "columns": writer._schema.names, "digest": writer.digest, **more}
