import tempfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components import datasets
from components.datasets import (
    DatasetWriter,
    count_rows,
    metadata_of,
    parse_shard,
    part_files,
    read_batches,
    read_schema,
)
from components.errors import InputError

SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("label", pa.string()), ("n", pa.int64())])


def batch(start, stop, text="t"):
    rows = [{"id": f"{n}", "text": f"{text}{n}", "label": None, "n": n} for n in range(start, stop)]
    return pa.RecordBatch.from_pylist(rows, SCHEMA)


def numbers(path, **arguments):
    return [n for part in read_batches(path, ["n"], **arguments) for n in part.column("n").to_pylist()]


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 23), max_size=8),
    start=st.integers(0, 120),
    length=st.integers(0, 120),
    batch_rows=st.integers(1, 9),
)
def test_any_range_is_read_in_order_over_parts_and_row_groups(sizes, start, length, batch_rows):
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(datasets, "ROW_GROUP_ROWS", 5)
        patch.setattr(datasets, "PART_ROWS", 11)
        with DatasetWriter(f"{folder}/data", SCHEMA) as writer:
            for size in sizes:
                writer.write(batch(writer.rows, writer.rows + size))
        total = sum(sizes)
        assert writer.rows == count_rows(f"{folder}/data") == total
        assert numbers(f"{folder}/data") == list(range(total))
        stop = start + length
        found = list(read_batches(f"{folder}/data", ["n"], batch_rows, start, stop))
        assert [n for part in found for n in part.column("n").to_pylist()] == list(range(total))[start:stop]
        assert all(0 < part.num_rows <= batch_rows for part in found)


def test_long_texts_make_small_row_groups_and_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "ROW_GROUP_BYTES", 10_000)
    monkeypatch.setattr(datasets, "PART_BYTES", 30_000)
    with DatasetWriter(tmp_path / "data", SCHEMA) as writer:
        for start in range(0, 100, 5):
            writer.write(batch(start, start + 5, "x" * 1000))
    parts = part_files(tmp_path / "data")
    assert len(parts) > 2 and numbers(tmp_path / "data") == list(range(100))
    assert max(pq.read_metadata(parts[0]).row_group(i).num_rows for i in range(2)) <= 15


def test_an_error_leaves_what_was_there_before(tmp_path):
    with DatasetWriter(tmp_path / "data", SCHEMA) as writer:
        writer.write(batch(0, 3))
    with pytest.raises(RuntimeError), DatasetWriter(tmp_path / "data", SCHEMA) as writer:
        writer.write(batch(0, 9))
        raise RuntimeError
    assert numbers(tmp_path / "data") == [0, 1, 2]


def test_the_digest_is_the_contents(tmp_path):
    digests = []
    for name, stop in (("a", 3), ("b", 3), ("c", 4)):
        with DatasetWriter(tmp_path / name, SCHEMA) as writer:
            writer.write(batch(0, stop))
        digests.append(writer.digest)
    assert digests[0] == digests[1] != digests[2]
    assert metadata_of(writer, more=1) == {
        "rows": 4, "columns": SCHEMA.names, "digest": digests[2], "more": 1,
    }  # fmt: skip


def test_an_empty_dataset_has_columns_and_no_rows(tmp_path):
    with DatasetWriter(tmp_path / "data", SCHEMA):
        pass
    assert count_rows(tmp_path / "data") == 0 and read_schema(tmp_path / "data").names == SCHEMA.names
    assert list(read_batches(tmp_path / "data")) == []


@pytest.mark.parametrize("schema", [SCHEMA.remove(1), SCHEMA.set(0, pa.field("id", pa.int64()))])
def test_a_schema_without_the_contracts_columns_is_refused(tmp_path, schema):
    with pytest.raises(ValueError, match="A Dataset needs a string column"):
        DatasetWriter(tmp_path / "data", schema)


def test_a_folder_without_parts_is_no_dataset(tmp_path):
    with pytest.raises(InputError, match="There is no Dataset"):
        count_rows(tmp_path)


@pytest.mark.parametrize(
    ("shard", "rows", "expected"), [("", 5, (0, 5)), ("0:5", 5, (0, 5)), ("2:2", 5, (2, 2)), ("0:0", 0, (0, 0))]
)
def test_a_shard_is_a_range_of_rows(shard, rows, expected):
    assert parse_shard(shard, rows) == expected


@pytest.mark.parametrize(
    "shard", ["5", "a:b", "-1:2", "1:", ":", "0:6", "3:2", "0:5:1", "0:5\n", " 0:5", "٣:٤", "0:" + "9" * 99]
)
def test_what_is_no_shard_is_refused(shard):
    with pytest.raises(InputError, match="is not"):
        parse_shard(shard, 5)
