"""Writes a Dataset's rows as Parquet, CSV or JSON Lines files, in bounded memory."""

import base64
import datetime
import json
import math
import shutil
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from components.datasets import PART_ROWS, part_files, read_batches, read_schema

BATCH_ROWS = 4096


def write_parquet(dataset: str | Path, folder: Path) -> None:
    """Copies a Dataset's own files: the export is a Dataset, byte for byte."""
    for part in part_files(dataset):
        shutil.copyfile(part, folder / part.name)


def write_csv(dataset: str | Path, folder: Path) -> None:
    """Writes CSV as RFC 4180 quotes it, with lists as JSON; an empty text is `""` and a null is nothing."""
    schema = pa.schema([(field.name, _csv_type(field.type)) for field in read_schema(dataset)])
    options = pa_csv.WriteOptions(quoting_style="needed")
    for number, batches in _parts(dataset):
        with pa_csv.CSVWriter(folder / f"part-{number:05d}.csv", schema, write_options=options) as writer:
            for batch in batches:
                arrays = [_csv_array(batch.column(i), field.type) for i, field in enumerate(schema)]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def write_jsonl(dataset: str | Path, folder: Path) -> None:
    """Writes one JSON object per line; a number that is not finite is null, because JSON has none."""
    for number, batches in _parts(dataset):
        with (folder / f"part-{number:05d}.jsonl").open("w", encoding="utf-8", newline="\n") as file:
            for batch in batches:
                columns = [_short_floats(column).to_pylist() for column in batch.columns]
                for values in zip(*columns, strict=True):
                    file.write(_json(dict(zip(batch.schema.names, values, strict=True))) + "\n")


WRITERS: dict[str, Callable[[str | Path, Path], None]] = {
    "parquet": write_parquet,
    "csv": write_csv,
    "jsonl": write_jsonl,
}


def _parts(dataset: str | Path) -> Iterator[tuple[int, Iterator[pa.RecordBatch]]]:
    """Divides the rows into files of PART_ROWS rows; an empty Dataset has one file without rows."""
    batches = read_batches(dataset, batch_rows=BATCH_ROWS)
    following = next(batches, None)
    number = 0

    def part() -> Iterator[pa.RecordBatch]:
        nonlocal following
        rows = 0
        while following is not None and rows < PART_ROWS:
            rows += following.num_rows
            yield following
            following = next(batches, None)

    while following is not None or number == 0:
        yield number, part()
        number += 1


def _csv_type(kind: pa.DataType) -> pa.DataType:
    # What Arrow's writer does not know, or writes as bytes that are no text, becomes JSON in a string.
    plain = pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    return kind if plain and not pa.types.is_float16(kind) else pa.string()


def _csv_array(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if array.type == kind:
        return array
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        return array.cast(kind)
    values = _short_floats(array).to_pylist()
    return pa.array([None if v is None else _cell(v) for v in values], kind)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return _jsonable(value) if isinstance(value, bytes) else _json(value)


def _short_floats(array: pa.Array) -> pa.Array:
    """Turns 32-bit floats into the 64-bit ones that print alike: 0.1, not 0.10000000149011612."""
    if pa.types.is_float16(array.type):
        array = array.cast(pa.float32())
    if pa.types.is_float32(array.type):
        return array.cast(pa.string()).cast(pa.float64())
    if pa.types.is_list(array.type) and pa.types.is_floating(array.type.value_type):
        values = _short_floats(array.flatten())
        lengths = pc.fill_null(pc.list_value_length(array), 0)
        offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
        return pa.ListArray.from_arrays(offsets, values, mask=array.is_null())
    if pa.types.is_fixed_size_list(array.type) and pa.types.is_floating(array.type.value_type):
        return _short_floats(array.cast(pa.list_(array.type.value_type)))
    return array


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_jsonable)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, default=_jsonable)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _jsonable(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal | datetime.timedelta):
        return str(value)
    raise TypeError(f"A value of type {type(value).__name__} cannot be written as JSON.")
