import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data.infer_schema.infer import infer, infer_from
from components.data.profile_dataset.profile import describe
from components.data.schema import Schema, load_schema, parse_schema
from components.data.validate_dataset.validate import find_anomalies
from components.datasets import DatasetWriter
from components.errors import InputError
from components.storage import filesystem
from tests.local_run import run_pipeline
from tests.readme_example import readme_pipeline

README = Path(__file__).parents[3] / "components/data/infer_schema/README.md"


def write_dataset(path, texts, labels=None, **columns):
    arrays = {
        "id": pa.array([f"row-{number}" for number in range(len(texts))], pa.string()),
        "text": pa.array(texts, pa.string()),
        "label": pa.array(labels or [None] * len(texts), pa.string()),
        **columns,
    }
    batch = pa.RecordBatch.from_pydict(arrays)
    with DatasetWriter(path, batch.schema) as writer:
        writer.write(batch)
    return path


def write_statistics(folder, *arguments, **columns):
    path = folder / "statistics.json"
    path.write_text(describe(write_dataset(folder / "ds", *arguments, **columns)).model_dump_json())
    return path


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.text(max_size=20), st.sampled_from(["", "a b", "A  b"])), max_size=20),
    st.data(),
    st.floats(0, 3),
    st.floats(0, 1),
    st.floats(0.001, 1),
)
def test_a_dataset_satisfies_the_schema_inferred_from_it(texts, data, length_slack, share_slack, rows_share):
    size = len(texts)
    labels = data.draw(st.lists(st.one_of(st.none(), st.text(max_size=3)), min_size=size, max_size=size))
    numbers = data.draw(st.lists(st.one_of(st.none(), st.floats()), min_size=size, max_size=size))
    with tempfile.TemporaryDirectory() as folder:
        columns = {"number": pa.array(numbers, pa.float64()), "nothing": pa.nulls(size)}
        path = write_dataset(Path(folder) / "ds", texts, labels, **columns)
        statistics = describe(path)
        schema = infer_from(statistics, length_slack, share_slack, rows_share)
        assert find_anomalies(path, statistics, schema) == []
        # What is written is what is read: no number is lost on the way through the file.
        assert parse_schema(schema.to_json().encode(errors="surrogatepass"), "file") == schema


def test_what_is_inferred(tmp_path):
    texts = ["ten chars.", "x" * 40, " ", "ten chars."]
    statistics = write_statistics(tmp_path, texts, ["b", "a", None, "b"], year=pa.array([1, None, 2, 3]))
    schema = infer(statistics, tmp_path / "schema.json")
    assert load_schema(tmp_path / "schema.json") == schema
    assert schema.rows.minimum == 2 and schema.rows.maximum_duplicate_share == 0.3
    assert (schema.text.minimum_characters, schema.text.maximum_characters) == (5, 60)
    assert schema.text.maximum_blank_share == 0.3
    assert schema.label.values == ["a", "b"] and schema.label.minimum_rows == 1
    assert schema.label.maximum_imbalance == 4 and schema.label.maximum_missing_share == 0.3
    assert schema.columns["year"].type == "integer" and schema.columns["year"].maximum_missing_share == 0.3


def test_a_dataset_without_labels_allows_any(tmp_path):
    schema = infer(write_statistics(tmp_path, ["a", "b"]), tmp_path / "schema.json")
    assert schema.label.values is None and schema.label.maximum_missing_share == 1


@pytest.mark.parametrize(
    "slack", [{"length_slack": -1}, {"share_slack": 1.5}, {"rows_share": 0}, {"rows_share": float("nan")}]
)
def test_a_slack_out_of_range_is_refused(tmp_path, slack):
    with pytest.raises(InputError, match=next(iter(slack))):
        infer(write_statistics(tmp_path, ["a"]), tmp_path / "schema.json", **slack)
    assert not (tmp_path / "schema.json").exists()


@pytest.fixture(params=["local", "gs"])
def folder(request, tmp_path):
    if request.param == "gs":
        request.getfixturevalue("storage_emulator")
        return "gs://bucket/schemas"
    (tmp_path / "schemas").mkdir()
    return str(tmp_path / "schemas")


def test_a_reviewed_schema_is_taken_as_it_is(tmp_path, folder):
    fs, path = filesystem(folder)
    given = {"version": 1, "note": "reviewed", "label": {"values": ["yes"]}, "columns": {}}
    fs.pipe_file(f"{path}/schema.json", b"\xef\xbb\xbf" + json.dumps(given).encode())
    schema = infer(write_statistics(tmp_path, ["a"]), tmp_path / "out.json", schema_uri=f"{folder}/schema.json")
    assert schema == Schema.model_validate(given) == load_schema(tmp_path / "out.json")
    with pytest.raises(InputError, match="There is no schema at"):
        infer(tmp_path / "statistics.json", tmp_path / "none.json", schema_uri=f"{folder}/other.json")
    assert not (tmp_path / "none.json").exists()


def changed(**changes):
    return {"version": 1, "columns": {"text": {"type": "string"}}, **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(txt={}), "unknown field 'txt'. Did you mean 'text'"),
        (changed(label={"minimum_row": 3}), "unknown field 'label.minimum_row'. Did you mean 'minimum_rows'"),
        (changed(columns={"year": {"typ": "string"}}), "'columns.year.typ'. Did you mean 'type'"),
        (changed(columns={"year": {"zzz": 1}}), "There are: type, required"),
        (changed(version=2), "'version' is 2. Give 1"),
        ({"columns": {}}, "has no 'version'"),
        (changed(rows={"minimum": -1}), "'rows.minimum' is -1"),
        (changed(text={"maximum_blank_share": 5}), "'text.maximum_blank_share' is 5. Give less than or equal to 1"),
        (changed(label={"values": [0, 1]}), "'label.values.0' is 0. Give a valid string"),
        (changed(columns={"year": {"type": "int"}}), "'columns.year.type' is 'int'"),
        (changed(severities={"too_few_row": "error"}), "too_few_row"),
        (changed(severities={"unexpected_column": "error"}), "belongs to unexpected_columns"),
        (changed(columns={"year": {"type": "integer", "values": ["1"]}}), "values need the type string"),
        (changed(columns={"year": {"minimum": 3}}), "need the type integer or number"),
        (changed(columns={"label": {"type": "string", "values": ["a"]}}), "belong to label.values"),
        (changed(text={"minimum_characters": 9, "maximum_characters": 3}), "minimum_characters is above"),
        ([1], "no JSON object"),
        ("{", "is not JSON"),
        ("\udcff", "is not JSON"),
    ],
)
def test_an_edited_schema_with_an_error_is_refused_with_a_sentence(content, message):
    text = content if isinstance(content, str) else json.dumps(content)
    with pytest.raises(InputError) as caught:
        parse_schema(text.encode(errors="surrogateescape"), "schema.json")
    assert message in str(caught.value)
    assert "schema.json" in str(caught.value) and "pydantic" not in str(caught.value)


def test_the_schema_in_the_readme_is_one():
    text = README.read_text()
    block = text[text.index('    {"version": 1,') :].split("\n\n")[0]
    schema = parse_schema(block.encode(), "README")
    assert schema.columns["year"].minimum == 1990 and schema.severity("duplicates") == "ignore"


def test_the_pipeline_of_the_readme_infers_a_schema_when_none_is_given(tmp_path):
    (tmp_path / "in.csv").write_text("text,team\na parcel,x\na login,y\n")
    local = run_pipeline(readme_pipeline("infer_schema"), tmp_path, input_uri=str(tmp_path / "in.csv"))
    path, metadata = local.artifact("infer-schema", "schema")
    assert load_schema(path).label.values == ["x", "y"] and metadata["reviewed"] is False
    assert path.name == "schema.json"
