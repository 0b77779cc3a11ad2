"""Maps a source's columns to those of the Dataset contract."""

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from components.data.read_dataset.jsonl import NESTED_LINE
from components.datasets import ID, LABEL, TEXT
from components.errors import InputError


@dataclass(frozen=True)
class Columns:
    """Which source columns become which Dataset columns.

    Attributes:
        text: The source's column that becomes `text`.
        id: The one that becomes `id`; empty where ids are made.
        label: The one that becomes `label`; empty where no label is known.
        carried: The source's column for each other column of the Dataset.
        schema: The Dataset's columns.
    """

    text: str
    id: str
    label: str
    carried: dict[str, str]
    schema: pa.Schema


def plan_columns(
    schemas: Sequence[tuple[str, pa.Schema]], text_column: str, id_column: str, label_column: str
) -> Columns:
    """Brings the columns of all files together.

    Args:
        schemas: Every file's name and columns.
        text_column: The column with the texts.
        id_column: The column with the ids, or empty.
        label_column: The column with the labels, or empty.

    Returns:
        The chosen columns, and after them all other columns of any file. One that is itself named `id`, `text` or
        `label` is carried as `source_id`, `source_text` or `source_label`. Where files disagree on a type, it is a
        wider number, or else a string.

    Raises:
        InputError: A chosen column is missing or holds lists, a name occurs twice, or types cannot be brought together.
    """
    chosen = {"text_column": text_column, "id_column": id_column, "label_column": label_column}
    types: dict[str, pa.DataType] = {}
    for uri, schema in schemas:
        _check_columns(uri, schema, chosen)
        for field in schema:
            if field.name not in chosen.values():
                kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
                types[field.name] = _common_type(types.get(field.name, kind), kind, field.name)
    carried = {}
    for name in types:
        target = name
        while target in (ID, TEXT, LABEL) or (target != name and target in types):
            target = f"source_{target}"
        carried[target] = name
    schema = pa.schema(
        [(ID, pa.string()), (TEXT, pa.string()), (LABEL, pa.string())]
        + [(target, types[name]) for target, name in carried.items()]
    )
    return Columns(text_column, id_column, label_column, carried, schema)


def to_dataset(batch: pa.RecordBatch, columns: Columns, name: str, first_row: int) -> pa.RecordBatch:
    """Turns rows of a source into rows of a Dataset.

    Args:
        batch: Rows of the source.
        columns: What `plan_columns` said.
        name: The file's name within the source, from which ids are made where there are none.
        first_row: The number of the batch's first row in its file, from 0.

    Returns:
        The rows, in which a text is never null and an empty label is null. An id from a column may still be null.
    """
    texts = as_text(batch.column(columns.text))
    if columns.id:
        ids = as_text(batch.column(columns.id))
    else:
        ids = pa.array(make_ids(name, first_row, batch.num_rows), pa.string())
    labels = pa.nulls(batch.num_rows, pa.string())
    if columns.label:
        labels = as_text(batch.column(columns.label))
        labels = pc.if_else(pc.equal(labels, ""), None, labels)
    others = [
        _carry(batch.column(source), columns.schema.field(target).type)
        if source in batch.schema.names
        else pa.nulls(batch.num_rows, columns.schema.field(target).type)
        for target, source in columns.carried.items()
    ]
    arrays = [ids, pc.fill_null(texts, ""), labels, *others]
    return pa.RecordBatch.from_arrays(arrays, schema=columns.schema)


def make_ids(name: str, first_row: int, count: int) -> list[str]:
    """Makes ids for rows without: the first 32 hexadecimal digits of SHA-256 of file name, NUL and row number.

    Args:
        name: The file's name within the source.
        first_row: The first row's number in its file, from 0.
        count: The number of ids.
    """
    prefix = hashlib.sha256(name.encode(errors="surrogateescape") + b"\0")
    ids = []
    for row in range(first_row, first_row + count):
        digest = prefix.copy()
        digest.update(str(row).encode())
        ids.append(digest.hexdigest()[:32])
    return ids


def as_text(array: pa.Array) -> pa.Array:
    """Writes values as a person would: 2 and 2.0 as `2`, True as `true`; NaN is null, as pandas means it."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_float16(array.type):
        array = array.cast(pa.float32())
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), None, array)
        whole = pc.and_(pc.equal(pc.floor(array), array), pc.less(pc.abs(array.cast(pa.float64())), 2.0**53))
        integers = pc.if_else(whole, array, None).cast(pa.int64()).cast(pa.string())
        return pc.if_else(whole, integers, array.cast(pa.string()))
    return array.cast(pa.string())


def _carry(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if array.type == kind:
        return array
    return as_text(array) if pa.types.is_string(kind) else array.cast(kind)


def _check_columns(uri: str, schema: pa.Schema, chosen: dict[str, str]) -> None:
    names = schema.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{uri!r} has more than one column named {twice[0]!r}.", "Give each column a name of its own.")
    for parameter, name in chosen.items():
        if not name and parameter != "text_column":
            continue
        if name not in names:
            folded = {known.strip().lower(): known for known in names}
            near = difflib.get_close_matches(name.strip().lower(), folded, n=1)
            remedy = f"Did you mean {folded[near[0]]!r}?" if near else f"Give {parameter} the name of one of them."
            raise InputError(f"{uri!r} has no column {name!r}; it has: {', '.join(map(repr, names))}.", remedy)
        field = schema.field(name)
        line = (field.metadata or {}).get(NESTED_LINE)
        if line or pa.types.is_nested(field.type):
            where = f" in line {line.decode()}" if line else ""
            raise InputError(
                f"The column {name!r} of {uri!r} holds lists or objects{where}.",
                f"Give {parameter} a column of texts or numbers.",
            )


def _common_type(left: pa.DataType, right: pa.DataType, name: str) -> pa.DataType:
    if left == right:
        return left
    if pa.types.is_null(left) or pa.types.is_null(right):
        return right if pa.types.is_null(left) else left
    if pa.types.is_nested(left) or pa.types.is_nested(right):
        raise InputError(
            f"The column {name!r} is {left} in one file and {right} in another.", "Write it alike in all files."
        )
    try:
        schemas = [pa.schema([(name, kind)]) for kind in (left, right)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.string()
