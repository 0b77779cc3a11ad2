import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp import dsl

from components import export_dataset
from components.data.export_dataset import formats
from components.data.export_dataset.export import export
from components.data.read_dataset.read import read
from components.datasets import DatasetWriter, part_files, read_batches
from components.errors import InputError
from components.storage import filesystem
from tests.local_run import run_pipeline

BASE = [("id", pa.string()), ("text", pa.string()), ("label", pa.string())]


def write_dataset(path, rows, extra=()):
    schema = pa.schema([*BASE, *extra])
    with DatasetWriter(path, schema) as writer:
        writer.write(pa.RecordBatch.from_pylist(rows, schema))
    return path


def rows_of(path):
    return [row for batch in read_batches(path) for row in batch.to_pylist()]


def some_rows(count, text="text"):
    return [{"id": str(n), "text": f"{text} {n}", "label": None if n % 3 else "a"} for n in range(count)]


def names_in(folder):
    return sorted(file.name for file in Path(folder).iterdir())


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    ["", '"', '""', "\r", "\n", "\r\n", ",", 'a,"b"\n', "\ufeff", "\0", " ", "\u2028", "=1+1", "null", "007"]
)


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(TEXTS, st.none() | TEXTS.filter(bool), st.none() | TEXTS), min_size=1, max_size=8))
def test_what_is_exported_reads_back_identically(format, rows):
    dataset = [{"id": f"{n}", "text": t, "label": la, "note": no} for n, (t, la, no) in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(f"{folder}/in", dataset, [("note", pa.string())])
        export(f"{folder}/in", f"{folder}/out", format)
        read(f"{folder}/out", f"{folder}/back", "text", "id", "label")
        assert rows_of(f"{folder}/back") == dataset


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
def test_predictions_keep_their_numbers_and_lists(tmp_path, format):
    extra = [("prediction", pa.string()), ("score", pa.float32()), ("probabilities", pa.list_(pa.float32()))]
    rows = [
        {"id": "1", "text": "a,\nb", "label": None, "prediction": "x", "score": 0.9, "probabilities": [0.9, 0.1]},
        {"id": "2", "text": "", "label": "y", "prediction": "y", "score": None, "probabilities": None},
        {"id": "3", "text": "", "label": "y", "prediction": "y", "score": 1.0, "probabilities": []},
    ]
    export(write_dataset(tmp_path / "in", rows, extra), str(tmp_path / "out"), format)
    if format == "csv":
        assert (tmp_path / "out/part-00000.csv").read_text() == (
            '"id","text","label","prediction","score","probabilities"\n'
            '"1","a,\nb",,"x",0.9,"[0.9, 0.1]"\n"2","","y","y",,\n"3","","y","y",1,"[]"\n'
        )
    elif format == "jsonl":
        lines = (tmp_path / "out/part-00000.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == rows
    else:
        assert pq.read_table(tmp_path / "out/part-00000.parquet") == pq.read_table(part_files(tmp_path / "in")[0])


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_every_type_can_be_exported(tmp_path, format):
    import datetime
    from decimal import Decimal

    columns = {
        "binary": (pa.binary(), b"\xff\0"),
        "half": (pa.float16(), 0.5),
        "nan": (pa.float32(), float("nan")),
        "embedding": (pa.list_(pa.float32(), 2), [0.1, float("inf")]),
        "struct": (pa.struct([("x", pa.int8()), ("y", pa.list_(pa.string()))]), {"x": 1, "y": ["é"]}),
        "time": (pa.timestamp("ms"), datetime.datetime(2024, 1, 2, 3, 4, 5)),
        "day": (pa.date32(), datetime.date(2024, 1, 2)),
        "money": (pa.decimal128(10, 2), Decimal("12.50")),
        "big": (pa.int64(), 2**62),
        "large": (pa.large_string(), "é,"),
        "flag": (pa.bool_(), True),
        "nothing": (pa.null(), None),
        "kind": (pa.dictionary(pa.int8(), pa.string()), "k"),
    }
    row = {"id": "1", "text": "t", "label": None} | {name: value for name, (_, value) in columns.items()}
    dataset = write_dataset(tmp_path / "in", [row], [(name, kind) for name, (kind, _) in columns.items()])
    export(dataset, str(tmp_path / "out"), format)
    read(str(tmp_path / "out"), tmp_path / "back", "text", "id")
    back = rows_of(tmp_path / "back")[0]
    assert back["binary"] == "/wA=" and back["struct"] == '{"x": 1, "y": ["é"]}' and back["kind"] == "k"
    assert back["embedding"] == "[0.1, null]" and back["large"] == "é," and str(back["money"]) == "12.50"
    assert str(back["big"]) == str(2**62) and back["nothing"] is None and back["day"] == "2024-01-02"


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
def test_an_empty_dataset_is_exported_as_one_file_without_rows(tmp_path, format):
    export(write_dataset(tmp_path / "in", []), str(tmp_path / "out"), format)
    assert names_in(tmp_path / "out") == ["_SUCCESS", "_manifest.json", f"part-00000.{format}"]
    if format != "jsonl":
        assert read(str(tmp_path / "out"), tmp_path / "back", "text", "id", "label")["rows"] == 0


def test_large_exports_are_divided_into_files_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "PART_ROWS", 5)
    monkeypatch.setattr(formats, "BATCH_ROWS", 2)
    rows = some_rows(15)
    export(write_dataset(tmp_path / "in", rows), str(tmp_path / "out"), "csv")
    assert len(list((tmp_path / "out").glob("part-*.csv"))) == 3
    read(str(tmp_path / "out"), tmp_path / "back", "text", "id", "label")
    assert rows_of(tmp_path / "back") == rows


@pytest.fixture(params=["local", "gs"])
def output_uri(request, tmp_path):
    if request.param == "gs":
        request.getfixturevalue("storage_emulator")
        return "gs://bucket/exports/one"
    return str(tmp_path / "deep" / "out")


def listing(uri):
    fs, path = filesystem(uri)
    fs.invalidate_cache()
    return sorted(name.removeprefix(path).strip("/") for name in fs.find(path))


def test_exporting_again_replaces_the_export_and_nothing_else(tmp_path, output_uri, monkeypatch):
    monkeypatch.setattr(formats, "PART_ROWS", 2)
    many = write_dataset(tmp_path / "many", some_rows(6))
    few = write_dataset(tmp_path / "few", some_rows(1, "new"))
    monkeypatch.setattr(formats, "BATCH_ROWS", 2)
    assert export(many, output_uri + "/", "csv") == output_uri
    fs, path = filesystem(output_uri)
    fs.pipe_file(f"{path}/notes.csv", b"mine")
    assert listing(output_uri) == [
        "_SUCCESS", "_manifest.json", "notes.csv", "part-00000.csv", "part-00001.csv", "part-00002.csv",
    ]  # fmt: skip
    export(few, output_uri, "csv")
    assert listing(output_uri) == ["_SUCCESS", "_manifest.json", "notes.csv", "part-00000.csv"]
    assert b"new 0" in fs.cat_file(f"{path}/part-00000.csv") and fs.cat_file(f"{path}/notes.csv") == b"mine"
    export(few, output_uri, "jsonl")
    assert listing(output_uri) == ["_SUCCESS", "_manifest.json", "notes.csv", "part-00000.jsonl"]


def test_a_file_that_no_export_wrote_is_never_replaced(tmp_path, output_uri):
    dataset = write_dataset(tmp_path / "in", some_rows(2))
    fs, path = filesystem(output_uri)
    fs.makedirs(path, exist_ok=True)
    fs.pipe_file(f"{path}/part-00000.csv", b"mine")
    with pytest.raises(InputError, match="no earlier export lists it"):
        export(dataset, output_uri, "csv")
    assert listing(output_uri) == ["part-00000.csv"] and fs.cat_file(f"{path}/part-00000.csv") == b"mine"


def test_a_manifest_cannot_have_other_files_removed(tmp_path, output_uri):
    dataset = write_dataset(tmp_path / "in", some_rows(2))
    fs, path = filesystem(output_uri)
    fs.makedirs(path, exist_ok=True)
    fs.pipe_file(f"{path}/notes.csv", b"mine")
    fs.pipe_file(f"{path}/_manifest.json", json.dumps({"files": ["notes.csv", "../in", "part-00007.csv"]}).encode())
    export(dataset, output_uri, "csv")
    assert listing(output_uri) == ["_SUCCESS", "_manifest.json", "notes.csv", "part-00000.csv"]
    fs.pipe_file(f"{path}/_manifest.json", b"[]")
    with pytest.raises(InputError, match="not the manifest"):
        export(dataset, output_uri, "csv")


def test_an_interrupted_export_has_no_success_marker_and_is_mended_by_the_next(tmp_path, output_uri, monkeypatch):
    from components.data.export_dataset.export import Output

    monkeypatch.setattr(formats, "PART_ROWS", 2)
    monkeypatch.setattr(formats, "BATCH_ROWS", 2)
    export(write_dataset(tmp_path / "few", some_rows(1)), output_uri, "csv")
    many = write_dataset(tmp_path / "many", some_rows(6))
    put = Output._put

    def break_off(self, file, name):
        if name == "part-00001.csv":
            raise ConnectionError("broken off")
        put(self, file, name)

    with monkeypatch.context() as patch:
        patch.setattr(Output, "_put", break_off)
        with pytest.raises(ConnectionError):
            export(many, output_uri, "csv")
    assert "_SUCCESS" not in listing(output_uri)
    export(write_dataset(tmp_path / "few2", some_rows(1)), output_uri, "jsonl")
    assert listing(output_uri) == ["_SUCCESS", "_manifest.json", "part-00000.jsonl"]


def test_a_writer_that_fails_leaves_an_earlier_export_as_it_was(tmp_path, output_uri):
    good = write_dataset(tmp_path / "good", some_rows(3))
    export(good, output_uri, "csv")
    before = listing(output_uri)
    bad = write_dataset(tmp_path / "bad", some_rows(3))
    part = part_files(bad)[0]
    content = bytearray(part.read_bytes())
    content[8:60] = b"\0" * 52
    part.write_bytes(content)
    with pytest.raises((OSError, pa.ArrowInvalid)):
        export(bad, output_uri, "csv")
    assert listing(output_uri) == before


@pytest.mark.parametrize(
    ("uri", "format", "message"),
    [
        ("out", "xlsx", "'xlsx' is not a format to export to. Give one of parquet, csv, jsonl."),
        ("", "csv", "output_uri is empty."),
        ("  ", "csv", "output_uri is empty."),
        ("s3://bucket/out", "csv", "Give a local path or a gs:// URI."),
        ("gs://", "csv", "Give a local path or a gs:// URI."),
        ("in/part-00000.parquet", "csv", "is a file."),
        ("in", "parquet", "no earlier export lists it"),
    ],
)
def test_a_wrong_request_writes_nothing(tmp_path, monkeypatch, uri, format, message):
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "in", some_rows(2))
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        export("in", uri, format)
    assert names_in(tmp_path) == ["in"] and names_in(tmp_path / "in") == ["part-00000.parquet"]


def test_a_link_to_a_folder_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    export(write_dataset(tmp_path / "in", some_rows(2)), str(tmp_path / "link"), "csv")
    assert "part-00000.csv" in names_in(tmp_path / "real")


def test_the_folder_can_be_read_by_others(tmp_path):
    (tmp_path / "plain").mkdir()
    export(write_dataset(tmp_path / "in", some_rows(2)), str(tmp_path / "out"), "csv")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


@dsl.pipeline
def export_only(path: str, output_uri: str, format: str) -> str:
    data = dsl.importer(artifact_uri=path, artifact_class=dsl.Dataset)
    return export_dataset(dataset=data.output, output_uri=output_uri, format=format).output


def test_component_exports(tmp_path):
    write_dataset(tmp_path / "in", some_rows(2))
    run = run_pipeline(export_only, tmp_path, path=str(tmp_path / "in"), output_uri=str(tmp_path / "out"), format="csv")
    assert run.parameter("export-dataset") == str(tmp_path / "out")
    assert "part-00000.csv" in names_in(tmp_path / "out") and "2 rows in 1 file at" in run.log
