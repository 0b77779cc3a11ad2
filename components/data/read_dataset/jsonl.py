"""Reads JSON Lines. Column types come from all rows, because the first block of rows says too little."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from components.errors import InputError

LINE_BYTES = 64 * 1024 * 1024
NESTED_LINE = b"nested_line"


def schema_of(stream: io.RawIOBase, uri: str) -> pa.Schema:
    """Finds the columns of JSON Lines and the one type that all values of a column have.

    Args:
        stream: The file's bytes, as UTF-8.
        uri: The file's name, for errors.

    Returns:
        A column for every key, in order of appearance: `bool`, `int64`, `float64` or `string`, or `null` where it has
        no value. Lists and objects, and values of several types, are strings (of JSON, where they are not texts); the
        field's metadata then names the first line with a list or object under `nested_line`.

    Raises:
        InputError: A line is not a JSON object.
    """
    kinds: dict[str, set[str]] = {}
    nested: dict[str, int] = {}
    for number, row, _ in _rows(stream, uri):
        for name, value in row.items():
            kind = _kind(value)
            kinds.setdefault(name, set()).add(kind)
            if kind == "nested":
                nested.setdefault(name, number)
    metadata = {name: {NESTED_LINE: str(number).encode()} for name, number in nested.items()}
    return pa.schema([pa.field(name, _type(found), metadata=metadata.get(name)) for name, found in kinds.items()])


def batches_of(
    stream: io.RawIOBase, uri: str, schema: pa.Schema, batch_rows: int, batch_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Reads JSON Lines with the columns that `schema_of` found.

    Args:
        stream: The file's bytes, as UTF-8.
        uri: The file's name, for errors.
        schema: The columns.
        batch_rows: The most rows in a batch.
        batch_bytes: The size in JSON after which a batch ends.

    Yields:
        Batches; none is empty.
    """
    rows: list[dict[str, Any]] = []
    size = 0
    for _, row, length in _rows(stream, uri):
        rows.append(row)
        size += length
        if len(rows) == batch_rows or size >= batch_bytes:
            yield _batch(rows, schema)
            rows, size = [], 0
    if rows:
        yield _batch(rows, schema)


def _rows(stream: io.RawIOBase, uri: str) -> Iterator[tuple[int, dict[str, Any], int]]:
    lines = io.BufferedReader(stream, 1024 * 1024)
    number = 0
    while line := lines.readline(LINE_BYTES + 1):
        number += 1
        if len(line) > LINE_BYTES:
            raise InputError(
                f"Line {number} of {uri!r} is longer than {LINE_BYTES // 1024**2} MiB.",
                "Write one JSON object per line.",
            )
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"Line {number} of {uri!r} is not JSON: {error}.", "Write one JSON object per line."
            ) from error
        if not isinstance(row, dict):
            raise InputError(f"Line {number} of {uri!r} is not a JSON object.", "Write one JSON object per line.")
        if b"\\ud" in line.lower():
            _refuse_half_characters(row, number, uri)
        yield number, row, len(line)


def _refuse_half_characters(row: dict[str, Any], number: int, uri: str) -> None:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"Line {number} of {uri!r} holds half of a character, the lone surrogate {error.object[error.start]!a}.",
            "Write the line again with whole characters.",
        ) from error


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        # A float holds integers exactly up to 2^53, and Parquet up to 2^63.
        return "int" if abs(value) <= 2**53 else "long" if -(2**63) <= value < 2**63 else "text"
    if isinstance(value, float):
        return "float"
    return "text" if isinstance(value, str) else "nested"


def _type(kinds: set[str]) -> pa.DataType:
    kinds = kinds - {"null"}
    if not kinds:
        return pa.null()
    if kinds == {"bool"}:
        return pa.bool_()
    if kinds <= {"int", "long"}:
        return pa.int64()
    return pa.float64() if kinds <= {"int", "float"} else pa.string()


def _batch(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for field in schema:
        values = [row.get(field.name) for row in rows]
        if pa.types.is_string(field.type):
            values = [value if value is None or isinstance(value, str) else _json(value) for value in values]
        columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _json(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)
