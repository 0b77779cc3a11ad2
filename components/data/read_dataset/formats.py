"""Reads a source file as record batches, whatever its format, holding a few megabytes at a time."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from components.data.read_dataset import jsonl
from components.data.read_dataset.utf8 import Utf8Stream
from components.errors import InputError
from components.storage import filesystem, list_files

FORMATS = {
    ".csv": "csv", ".csv.gz": "csv",
    ".tsv": "tsv", ".tsv.gz": "tsv",
    ".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".ndjson": "jsonl", ".ndjson.gz": "jsonl",
    ".parquet": "parquet",
}  # fmt: skip

BLOCK_BYTES = 4 * 1024 * 1024  # the CSV reader holds a few blocks; a row cannot be longer than one
BATCH_BYTES = 8 * 1024 * 1024
BATCH_ROWS = 8192


@dataclass(frozen=True)
class Source:
    """A file to read.

    Attributes:
        uri: Its absolute path or `gs://` URI.
        name: Its path within the source, the same wherever the source lies.
        format: One of the values of `FORMATS`.
    """

    uri: str
    name: str
    format: str


def list_sources(source_uri: str) -> list[Source]:
    """Lists the files that a source consists of, sorted by name.

    Raises:
        InputError: There is none, one is empty, or a file that was named has an ending that is not in `FORMATS`.
    """
    sources = []
    for file in list_files(source_uri, tuple(FORMATS)):
        # The longest ending decides: ".csv.gz" rather than ".gz".
        endings = [ending for ending in FORMATS if file.name.lower().endswith(ending)]
        if not endings:
            raise InputError(
                f"{file.uri!r} is in no format known here.", f"Give a file that ends in {', '.join(FORMATS)}."
            )
        if not file.size:
            raise InputError(f"{file.uri!r} is empty (0 bytes).", "Write it again, or take it out of the source.")
        sources.append(Source(file.uri, file.name, FORMATS[max(endings, key=len)]))
    return sources


def schema_of(source: Source, encoding: str) -> pa.Schema:
    """Finds a file's columns and their types: from the header, the footer, or for JSON Lines from all of its rows.

    Raises:
        InputError: The file cannot be read as what its name says.
    """
    if source.format == "parquet":
        with _open_parquet(source) as file:
            return file.schema_arrow
    with _open_text(source, encoding) as stream:
        if source.format == "jsonl":
            return jsonl.schema_of(stream, source.uri)
        with _csv_errors(source) as refused:
            names = _open_csv(source, stream, [], refused).schema.names
    return pa.schema([(name, pa.string()) for name in names])


def batches_of(source: Source, encoding: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Reads a file's rows in order.

    Args:
        source: The file.
        encoding: The encoding of a text format.
        schema: What `schema_of` said of the file.

    Yields:
        Batches of at most a few megabytes, except where a single row is longer.

    Raises:
        InputError: The file cannot be read as what its name says; the message names the row or the byte where known.
    """
    if source.format == "parquet":
        yield from _parquet_batches(source)
        return
    with _open_text(source, encoding) as stream:
        if source.format == "jsonl":
            yield from jsonl.batches_of(stream, source.uri, schema, BATCH_ROWS, BATCH_BYTES)
        else:
            yield from _csv_batches(source, stream, schema)


def _csv_batches(source: Source, stream: Utf8Stream, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    last = ""
    with _csv_errors(source) as refused:
        for batch in _open_csv(source, stream, schema.names, refused):
            if batch.num_rows:
                last = batch.column(batch.num_columns - 1)[-1].as_py() or ""
                yield batch
    # The parser takes the end of the file for the closing quote, and the last value has then swallowed all rows since.
    if ("\n" in last or "\r" in last) and not stream.tail.rstrip(b"\r\n").endswith(b'"'):
        raise InputError(
            f"{source.uri!r} ends within a quoted value that starts with {_quoted(last)}.", 'Close the quote (").'
        )


def _open_csv(
    source: Source, stream: Utf8Stream, names: list[str], refused: list[pa_csv.InvalidRow]
) -> pa_csv.CSVStreamingReader:
    def refuse(row: pa_csv.InvalidRow) -> str:
        refused.append(row)
        return "error"

    return pa_csv.open_csv(
        io.BufferedReader(stream, BLOCK_BYTES),  # Arrow takes what one read returns for a whole block
        read_options=pa_csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
        parse_options=pa_csv.ParseOptions(
            delimiter="\t" if source.format == "tsv" else ",", newlines_in_values=True, invalid_row_handler=refuse
        ),
        # Everything stays the text that it is in the file (007, 1.0), and "" is an empty text where nothing is a null.
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )


@contextmanager
def _csv_errors(source: Source) -> Iterator[list[pa_csv.InvalidRow]]:
    refused: list[pa_csv.InvalidRow] = []
    try:
        yield refused
    except pa.ArrowInvalid as error:
        for row in refused:
            # Arrow would name the row too, but not the file, and it would show all of a long row.
            raise InputError(
                f"Data row {row.number - 1} of {source.uri!r} has {row.actual_columns} values instead of"
                f" {row.expected_columns}: {_quoted(row.text)}.",
                'Put values that hold the separator, a quote or a line end in quotes ("), or remove the row.',
            ) from error
        if "straddling" in str(error):
            raise InputError(
                f"A row of {source.uri!r} is longer than {BLOCK_BYTES:,} bytes, or a quote in it is never closed.",
                "Close the quote, or give the data as Parquet.",
            ) from error
        if "Empty CSV" in str(error):
            raise InputError(
                f"{source.uri!r} has no header.", "Write the columns' names into its first row."
            ) from error
        raise InputError(
            f"{source.uri!r} is not readable as {source.format.upper()}: {error}.", "Mend the file."
        ) from error


def _parquet_batches(source: Source) -> Iterator[pa.RecordBatch]:
    with _open_parquet(source) as file:
        for group in range(file.num_row_groups):
            metadata = file.metadata.row_group(group)
            rows = BATCH_BYTES * metadata.num_rows // max(1, metadata.total_byte_size)
            yield from file.iter_batches(min(max(rows, 1), BATCH_ROWS), row_groups=[group], use_threads=False)


@contextmanager
def _open_parquet(source: Source) -> Iterator[pq.ParquetFile]:
    fs, path = filesystem(source.uri)
    try:
        # With a buffer and without pre_buffer, columns are streamed: a row group may be larger than memory.
        with fs.open(path, "rb") as raw, pq.ParquetFile(raw, buffer_size=1024 * 1024, pre_buffer=False) as file:
            yield file
    except pa.ArrowInvalid as error:
        raise InputError(f"{source.uri!r} is not readable as Parquet: {error}.", "Write the file again.") from error


@contextmanager
def _open_text(source: Source, encoding: str) -> Iterator[Utf8Stream]:
    try:
        "".encode(encoding)
    except LookupError:
        raise InputError(
            f"{encoding!r} is no encoding.", "Give one that Python knows, such as utf-8 or latin-1."
        ) from None
    fs, path = filesystem(source.uri)
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(fs.open(path, "rb"))
            if source.name.lower().endswith(".gz"):
                raw = stack.enter_context(gzip.GzipFile(fileobj=raw))
            yield Utf8Stream(raw, encoding, source.uri)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"{source.uri!r} is not readable as gzip: {error}.", "Compress or copy the file again."
        ) from error


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")
