import gzip
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp import dsl

from components import read_dataset
from components.data.read_dataset import formats
from components.data.read_dataset.checks import MAX_LABELS, LabelCounts, SeenIds
from components.data.read_dataset.columns import as_text, make_ids
from components.data.read_dataset.read import read
from components.datasets import read_batches, read_schema
from components.errors import InputError
from components.storage import filesystem
from tests.local_run import run_pipeline


@pytest.fixture
def source(tmp_path):
    """Writes a file below tmp_path/source and returns its path."""

    def write(name, content):
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def rows_of(path):
    return [row for batch in read_batches(path) for row in batch.to_pylist()]


def read_rows(uri, tmp_path, *arguments, **named):
    metadata = read(uri, tmp_path / "dataset", *arguments, **named)
    rows = rows_of(tmp_path / "dataset")
    assert metadata["rows"] == len(rows)
    return rows


def texts_of(uri, tmp_path, **named):
    return [row["text"] for row in read_rows(uri, tmp_path, **named)]


def test_other_columns_are_carried_along_untouched(source, tmp_path):
    uri = source("a.csv", "zip,title,key,sentiment,n\n007,Hello,k1,pos,1.0\n,World,k2,,\n")
    assert read_rows(uri, tmp_path, "title", "key", "sentiment") == [
        {"id": "k1", "text": "Hello", "label": "pos", "zip": "007", "n": "1.0"},
        {"id": "k2", "text": "World", "label": None, "zip": None, "n": None},
    ]


def test_metadata_says_what_was_read(source, tmp_path):
    uri = source("a.csv", "text,label\na,2\nb,10\n,2\nd,\n")
    metadata = read(uri, tmp_path / "dataset", label_column="label")
    digest = metadata.pop("digest")
    assert len(digest) == 64
    assert metadata == {
        "rows": 4, "columns": ["id", "text", "label"], "source_uri": uri, "files": 1, "empty_texts": 1,
        "unlabelled": 1, "labels": ["10", "2"], "label_counts": {"10": 1, "2": 2},
    }  # fmt: skip
    assert read(uri, tmp_path / "again", label_column="label")["digest"] == digest


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b'text,n\n"two\nlines",1\n"a ""quote"", yes",2\n', ["two\nlines", 'a "quote", yes']),
        (b"\xef\xbb\xbftext,n\nfirst,1\n", ["first"]),
        (b'text,n\r\none,1\r\n"a\r\nb",2\r\n', ["one", "a\r\nb"]),
        (b"text,n\rone,1\rtwo,2", ["one", "two"]),
        (b'text,n\n,1\n"",2\n" ",3\n', ["", "", " "]),
        (b"text,n\n\n\none,1\n\n", ["one"]),
        (b"text,n\n", []),
        (b"text,n", []),
        (b"text\none\ntwo", ["one", "two"]),
        (b'text\n5" disk, no\n'.replace(b",", b";"), ['5" disk; no']),
        ("text,n\nação 😀\u2028x,1\n".encode(), ["ação 😀\u2028x"]),
        (b'n,text\n1,"ends with a quoted line\n"\n', ["ends with a quoted line\n"]),
        (b"text,n\nnull,1\nNA,2\nNone,3\n", ["null", "NA", "None"]),
    ],
)
def test_csv(source, tmp_path, content, texts):
    assert texts_of(source("a.csv", content), tmp_path) == texts
    assert texts_of(source("b.csv.gz", gzip.compress(content)), tmp_path) == texts


def test_tsv_is_csv_with_tabs(source, tmp_path):
    uri = source("A.TSV", 'text\tn\nwith, comma\t1\n"tab\there"\t2\n')
    assert texts_of(uri, tmp_path) == ["with, comma", "tab\there"]


def test_quoted_line_ends_across_blocks(source, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "BLOCK_BYTES", 200)
    expected = [f"row {n}\n" * (n % 9) for n in range(500)]
    quoted = "".join(f'"{text}",{n}\n' for n, text in enumerate(expected))
    assert texts_of(source("a.csv", "text,n\n" + quoted), tmp_path) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'text,n\n\n\na,1\n\n"x\ny",1\nb,2,3\n', r"Data row 3 of '.*a.csv' has 3 values instead of 2: 'b,2,3'"),
        (b"text,n\na,1\nb,2,3\n", r"Data row 2 of '.*a.csv' has 3 values instead of 2: 'b,2,3'"),
        (b'n,text\n1,"never closed\n2,b\n3,c\n', r"ends within a quoted value that starts with 'never closed\\n2,b"),
        (b"", r"a.csv' is empty \(0 bytes\)"),
        (b"\xef\xbb\xbf", "has no header"),
        (b"\n\n", "has no header"),
        (b"text,n,n\na,1,2\n", "more than one column named 'n'"),
        (b"text,n\n" + b"a,1\n" * 5 + b"caf\xe9,1\n", r"not utf-8: byte 30 is b'\\xe9'. Give the file's encoding"),
        (b"\xef\xbb\xbftext\ncaf\xe9\n", r"not utf-8: byte 11 is b'\\xe9'"),
        ("text,n\na,1\n".encode("utf-16"), "not utf-8: byte 0 is"),
        (b"title,n\na,1\n", r"has no column 'text'; it has: 'title', 'n'. Give text_column the name of one of them."),
        (b"Text ,n\na,1\n", "Did you mean 'Text '?"),
        (b"texts,n\na,1\n", "Did you mean 'texts'?"),
    ],
)
def test_csv_that_cannot_be_read(source, tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read(source("a.csv", content), tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()


def test_a_row_longer_than_a_block_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "BLOCK_BYTES", 1000)
    uri = source("a.csv", 'text,n\na,1\n"b,2\n' + "c,3\n" * 1000)
    with pytest.raises(InputError, match="longer than 1,000 bytes, or a quote in it is never closed"):
        read(uri, tmp_path / "dataset")


@pytest.mark.parametrize("position", [0, 5, 1024 * 1024 - 8, 1024 * 1024, 3 * 1024 * 1024 + 1])
def test_the_position_of_a_bad_byte_is_exact(source, tmp_path, position):
    content = bytearray("é" * 2_000_000, "utf-8")
    position += position % 2  # where a character starts
    content[position] = 0xFF
    header = b"text\n"
    with pytest.raises(InputError, match=rf"byte {position + len(header)} is b'\\xff'"):
        read(source("a.csv", header + content), tmp_path / "dataset")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig", "UTF8"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_encodings(source, tmp_path, encoding, name):
    content = 'text,n\n"ação",1\n' if name == "a.csv" else '{"text": "ação"}\n'
    assert texts_of(source(name, content.encode(encoding)), tmp_path, encoding=encoding) == ["ação"]


def test_an_unknown_encoding(source, tmp_path):
    with pytest.raises(InputError, match="'utf-88' is no encoding"):
        read(source("a.csv", "text\na\n"), tmp_path / "dataset", encoding="utf-88")


@pytest.mark.parametrize(
    "bad", [b"text\nnot gzip\n", gzip.compress(b"text\nab\n" * 1000, mtime=0)[:-20]], ids=["not gzip", "cut off"]
)
def test_a_broken_gzip_file(source, tmp_path, bad):
    with pytest.raises(InputError, match="not readable as gzip"):
        read(source("a.csv.gz", bad), tmp_path / "dataset")


def test_jsonl_types_come_from_all_rows(source, tmp_path):
    lines = [
        {"text": "a", "n": 1, "x": 1, "flag": True, "when": "2024-01-01 00:00:00", "mixed": 1, "none": None},
        {"text": None, "n": 2.5, "x": 2**60, "mixed": "a", "deep": {"b": [1, "é"]}, "huge": 2**70},
        {"text": 5, "x": None, "mixed": 2.0, "late": "z"},
    ]
    uri = source("a.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    rows = read_rows(uri, tmp_path)
    assert [row["text"] for row in rows] == ["a", "", "5"]
    assert [row["n"] for row in rows] == [1.0, 2.5, None] and [row["x"] for row in rows] == [1, 2**60, None]
    assert [row["mixed"] for row in rows] == ["1", "a", "2"] and rows[1]["huge"] == str(2**70)
    assert rows[1]["deep"] == '{"b": [1, "é"]}' and rows[0]["when"] == "2024-01-01 00:00:00"
    assert rows[2]["late"] == "z" and rows[0]["flag"] is True


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{"text": \n', "Line 2 of '.*a.jsonl' is not JSON"),
        ('{"text": "a"}\n\n["b"]\n', "Line 3 of '.*a.jsonl' is not a JSON object"),
        ('{"text": "a"}\n{"text": ["b"]}\n', "column 'text' of '.*' holds lists or objects in line 2"),
        (
            '{"text": "a"}\n{"text": "\\ud83d"}\n',
            r"Line 2 of '.*' holds half of a character, the lone surrogate '.ud83d'",
        ),
        ("\n", "has no column 'text'"),
        ("", r"is empty \(0 bytes\)"),
        (b'{"text": "caf\xe9"}\n', "not utf-8: byte 13"),
    ],
)
def test_jsonl_that_cannot_be_read(source, tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read(source("a.jsonl", content), tmp_path / "dataset")


def test_whole_surrogate_pairs_are_characters(source, tmp_path):
    assert texts_of(source("a.ndjson", '{"text": "\\ud83d\\ude00"}'), tmp_path) == ["😀"]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([0, 1, None]), ["0", "1", None]),
        (pa.array([0.0, 1.0, float("nan"), 2.5, 123456789012.0, -0.0]), ["0", "1", None, "2.5", "123456789012", "0"]),
        (pa.array([0.1, 3.0], pa.float32()), ["0.1", "3"]),
        (pa.array([0.5, 3.0], pa.float16()), ["0.5", "3"]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array(["x", None]).dictionary_encode(), ["x", None]),
        (pa.array([1, 2]).dictionary_encode(), ["1", "2"]),
        (pa.array(["x"], pa.large_string()), ["x"]),
        (pa.array(["x"], pa.string_view()), ["x"]),
        (pa.array(["é".encode()], pa.binary()), ["é"]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_values_as_text(array, expected):
    assert as_text(array).to_pylist() == expected and as_text(array).type == pa.string()


@given(st.floats(allow_nan=False, allow_infinity=True))
def test_floats_as_text_are_the_same_number(value):
    assert float(as_text(pa.array([value])).to_pylist()[0]) == value


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_numeric_labels_and_ids_are_digits_in_every_format(source, tmp_path, name):
    table = pa.table({"text": ["a", "b"], "label": [0, 1], "key": [10, 11]})
    content = {
        "a.csv": "text,label,key\na,0,10\nb,1,11\n",
        "a.jsonl": "".join(json.dumps(row) + "\n" for row in table.to_pylist()),
        "a.parquet": table,
    }[name]
    rows = read_rows(source(name, content), tmp_path, "text", "key", "label")
    assert rows == [{"id": "10", "text": "a", "label": "0"}, {"id": "11", "text": "b", "label": "1"}]


def test_parquet_keeps_types_and_streams_row_groups(source, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "BATCH_BYTES", 2000)
    table = pa.table(
        {
            "text": [f"text {n}" for n in range(1000)],
            "vector": pa.array([[float(n), 0.5] for n in range(1000)], pa.list_(pa.float32(), 2)),
            "kind": pa.array(["a", "b"] * 500).dictionary_encode(),
            "day": pa.array(range(1000), pa.date32()),
        }
    )
    rows = read_rows(source("a.parquet", table), tmp_path)
    assert [{k: row[k] for k in table.column_names} for row in rows] == table.to_pylist()
    assert read_schema(tmp_path / "dataset").field("vector").type == pa.list_(pa.float32(), 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not parquet at all", "not readable as Parquet"),
        (pa.table({"text": [["a"]]}), "holds lists or objects"),
        (pa.table({"text": pa.array([b"\xff"])}), "near data row 1: Invalid UTF8"),
        (pa.table({"x": ["a"]}), "has no column 'text'"),
    ],
)
def test_parquet_that_cannot_be_read(source, tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read(source("a.parquet", content), tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()


def test_a_folder_may_mix_formats_and_columns(source, tmp_path):
    source("b/1.csv", "text,n,only_csv\ncsv,1,x\n")
    source("a.jsonl", '{"text": "jsonl", "n": 2, "m": 1}\n')
    source("c.parquet", pa.table({"text": ["parquet"], "n": [3], "m": [1.5]}))
    source("notes.txt", "not data")
    source("_SUCCESS", "")
    source(".hidden/x.csv", "text\nno\n")
    rows = read_rows(str(tmp_path / "source"), tmp_path)
    assert [(row["text"], row["n"], row["m"], row["only_csv"]) for row in rows] == [
        ("jsonl", "2", 1.0, None), ("csv", "1", None, "x"), ("parquet", "3", 1.5, None),
    ]  # fmt: skip
    assert texts_of(str(tmp_path / "source/*/*.csv"), tmp_path) == ["csv"]


def test_types_that_cannot_be_brought_together(source, tmp_path):
    source("a.parquet", pa.table({"text": ["a"], "n": [[1]]}))
    source("b.parquet", pa.table({"text": ["b"], "n": [1]}))
    with pytest.raises(InputError, match="column 'n' is list.* in one file and int64 in another"):
        read(str(tmp_path / "source"), tmp_path / "dataset")


def test_a_column_that_is_missing_in_one_file_names_the_file(source, tmp_path):
    source("a.csv", "text\na\n")
    source("b.csv", "title\nb\n")
    with pytest.raises(InputError, match="b.csv' has no column 'text'"):
        read(str(tmp_path / "source"), tmp_path / "dataset")


def test_columns_that_have_the_contracts_names_are_carried_as_source(source, tmp_path):
    uri = source("a.csv", "id,text,label,source_id,title\n1,old,x,s,new\n")
    (row,) = read_rows(uri, tmp_path, "title")
    row.pop("id")
    assert row == {
        "text": "new", "label": None,
        "source_text": "old", "source_label": "x", "source_id": "s", "source_source_id": "1",
    }  # fmt: skip


def test_made_ids_are_unique_and_stay_when_the_folder_moves(source, tmp_path):
    source("a.csv", "text\nsame\nsame\n")
    source("sub/a.csv", "text\nsame\n")
    first = [row["id"] for row in read_rows(str(tmp_path / "source"), tmp_path)]
    (tmp_path / "source").rename(tmp_path / "moved")
    again = [row["id"] for row in read_rows(str(tmp_path / "moved"), tmp_path)]
    assert first == again and len(set(first)) == 3
    assert first == [*make_ids("a.csv", 0, 2), *make_ids("sub/a.csv", 0, 1)]
    assert [row["id"] for row in read_rows(str(tmp_path / "moved/a.csv"), tmp_path)] == first[:2]


def test_made_ids_do_not_depend_on_batches(source, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "BLOCK_BYTES", 100)
    uri = source("a.csv", "text\n" + "x\n" * 500)
    assert [row["id"] for row in read_rows(uri, tmp_path)] == make_ids("a.csv", 0, 500)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"a.csv": "k,text\n1,a\n2,b\n1,c\n"},
            r"'k' occur more than once: '1' \(data row 1 of a.csv, data row 3 of a.csv\)",
        ),
        ({"a.csv": "k,text\n1,a\n", "b.jsonl": '{"k": 1, "text": "b"}'}, "data row 1 of a.csv, data row 1 of b.jsonl"),
        ({"a.csv": "k,text\n1,a\n,b\n"}, "Data row 2 of '.*a.csv' has no id in 'k'"),
        ({"a.csv": 'k,text\n1,a\n"",b\n'}, "Data row 2 of '.*a.csv' has no id in 'k'"),
        ({"a.jsonl": '{"k": 1, "text": "a"}\n{"text": "b"}'}, "Data row 2 of '.*a.jsonl' has no id in 'k'"),
    ],
)
def test_ids_that_are_not_unique(source, tmp_path, files, message):
    for name, content in files.items():
        source(name, content)
    with pytest.raises(InputError, match=message):
        read(str(tmp_path / "source"), tmp_path / "dataset", id_column="k")
    assert not (tmp_path / "dataset").exists()


@given(st.lists(st.integers(0, 30).map(str), max_size=60))
def test_repeated_ids_are_found_exactly(ids):
    seen = SeenIds()
    for start in range(0, len(ids), 7):
        seen.add(pa.array(ids[start : start + 7], pa.string()))
    found = seen.repeated_rows(most=len(ids))
    assert len(found) == len(ids) - len(set(ids))
    assert all(first < second and ids[first] == ids[second] for first, second in found)


def test_too_many_labels_are_not_listed():
    labels = LabelCounts()
    labels.add(pa.array([str(n) for n in range(MAX_LABELS)]))
    assert labels.complete and len(labels.counts) == MAX_LABELS
    labels.add(pa.array(["one more", None]))
    assert not labels.complete and labels.counts == {} and labels.unlabelled == 1


@pytest.mark.parametrize(
    ("uri", "message"),
    [("nowhere.csv", "There is no file"), ("", "names no place"), ("data.xlsx", "in no format known here")],
)
def test_a_source_that_is_not_there(tmp_path, monkeypatch, uri, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.xlsx").write_bytes(b"x")
    with pytest.raises(InputError, match=message):
        read(uri, tmp_path / "dataset")


def test_cloud_storage(storage_emulator, tmp_path):
    fs, _ = filesystem("gs://bucket")
    table = pa.table({"text": ["three"], "label": [1]})
    with fs.open("bucket/in/c.parquet", "wb") as file:
        pq.write_table(table, file)
    fs.pipe_file("bucket/in/a.csv.gz", gzip.compress(b"text,label\none,0\n"))
    fs.pipe_file("bucket/in/b/b.jsonl", b'{"text": "two", "label": 1}\n')
    rows = read_rows("gs://bucket/in", tmp_path, label_column="label")
    assert [(row["text"], row["label"]) for row in rows] == [("one", "0"), ("two", "1"), ("three", "1")]
    assert rows[0]["id"] == make_ids("a.csv.gz", 0, 1)[0]
    assert texts_of("gs://bucket/in/*.parquet", tmp_path) == ["three"]
    with pytest.raises(InputError, match="There is no file"):
        read("gs://no-such-bucket/in", tmp_path / "dataset")


def test_memory_is_bounded(tmp_path):
    path = tmp_path / "big.csv"
    with path.open("w") as file:
        file.write("key,text\n")
        file.writelines(f'{n},"{n} {"words and more words, " * 40}"\n' for n in range(150_000))
    assert path.stat().st_size > 120 * 1024**2
    code = (
        "import resource, sys; from components.data.read_dataset.read import read\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "read(sys.argv[1], sys.argv[2], id_column='key')\n"
        "print('KIB', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path, tmp_path / "dataset"], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout.split("KIB")[1]) < 400 * 1024


@dsl.pipeline
def read_only(uri: str):
    read_dataset(source_uri=uri, label_column="label", fingerprint="f")


def test_component_reads(source, tmp_path):
    run = run_pipeline(read_only, tmp_path, uri=source("a.csv", "text,label\na,x\nb,y\n"))
    path, metadata = run.artifact("read-dataset", "dataset")
    assert [row["text"] for row in rows_of(path)] == ["a", "b"]
    assert metadata["rows"] == 2 and metadata["labels"] == ["x", "y"]


def test_component_fails_with_the_reason(source, tmp_path):
    run = run_pipeline(read_only, tmp_path, check=False, uri=source("a.csv", "text\na\n"))
    assert run.code != 0 and "has no column 'label'; it has: 'text'" in run.log
