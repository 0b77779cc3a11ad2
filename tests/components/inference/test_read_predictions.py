"""The answers of a program of any language become Predictions, or an error that says what is wrong with them."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.datasets import DatasetWriter, part_files
from components.errors import InputError
from components.inference.read_predictions.read import read
from components.models import digest_of_model, inspect_model, labels_of_model, write_absent

LABELS = ["no", "yes"]
SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("label", pa.string())])
HEADER = ["id", "prediction", "score"]


def write_dataset(folder, ids):
    with DatasetWriter(folder, SCHEMA) as writer:
        if ids:
            rows = [{"id": name, "text": f"text of {name}", "label": "yes"} for name in ids]
            writer.write(pa.RecordBatch.from_pylist(rows, SCHEMA))
    return folder


def write_csv(folder, rows):
    folder.mkdir(exist_ok=True)
    with (folder / "predictions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def table(folder):
    return pa.concat_tables(pq.read_table(part) for part in part_files(folder))


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "container.json").write_text(json.dumps({"labels": LABELS}))
    (folder / "container-weights.bin").write_bytes(b"\0\1\2")
    return folder


def test_csv_with_probabilities(tmp_path, model):
    # Numbers, and what other readers take for a missing value, are ids like any other.
    ids = ["1", "007", "NA", "", "a,b\nc"]
    data = write_dataset(tmp_path / "data", ids)
    rows = [["p:yes", "id", "prediction", "p:no"], *([0.75, name, "yes", 0.25] for name in ids)]
    about = read(data, model, write_csv(tmp_path / "answers", rows), tmp_path / "out", dataset_digest="d")
    written = table(tmp_path / "out")
    assert written["id"].to_pylist() == ids and written["label"].to_pylist() == ["yes"] * 5
    assert written["probabilities"].to_pylist() == [[0.25, 0.75]] * 5
    assert written["score"].to_pylist() == [0.75] * 5 and written["score"].type == pa.float32()
    assert {name: about[name] for name in ("labels", "rows", "dataset_rows", "dataset_digest", "model_digest")} == {
        "labels": LABELS,
        "rows": 5,
        "dataset_rows": 5,
        "dataset_digest": "d",
        "model_digest": digest_of_model(model),
    }


@pytest.mark.parametrize("rows", [1, 5000])
def test_parquet_without_scores(tmp_path, model, rows):
    ids = [f"row-{number}" for number in range(rows)]
    data, answers = write_dataset(tmp_path / "data", ids), tmp_path / "answers"
    answers.mkdir()
    pq.write_table(
        pa.table({"id": ids, "prediction": ["no"] * rows}), answers / "predictions.parquet", row_group_size=700
    )
    read(data, model, answers, tmp_path / "out")
    written = table(tmp_path / "out")
    assert written["id"].to_pylist() == ids and written["score"].null_count == rows


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), unique=True, max_size=20))
def test_whatever_the_ids_are_the_rows_stay_together(tmp_path_factory, ids):
    folder = tmp_path_factory.mktemp("any")
    (folder / "container.json").write_text(json.dumps({"labels": LABELS}))
    data, answers = write_dataset(folder / "data", ids), folder / "answers"
    answers.mkdir()
    chosen = [LABELS[len(name) % 2] for name in ids]
    columns = {"id": pa.array(ids, pa.string()), "prediction": pa.array(chosen, pa.string())}
    pq.write_table(pa.table(columns), answers / "predictions.parquet")
    read(data, folder, answers, folder / "out")
    assert table(folder / "out")["prediction"].to_pylist() == chosen


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([HEADER, ["b", "yes", 1], ["a", "yes", 1]], "answered for the row 'b' where 'a' was expected"),
        ([HEADER, ["a", "yes", 1]], "answered for no row after 'a'"),
        ([HEADER], "answered for no row"),
        ([HEADER, ["a", "yes", 1], ["b", "yes", 1], ["c", "yes", 1]], "more rows than it was given"),
        ([HEADER, ["a", "perhaps", 1], ["b", "yes", 1]], "'perhaps', which is none of the model's labels: no, yes"),
        ([HEADER, ["a", "yes", "much"], ["b", "yes", 1]], "cannot be read"),
        ([["id", "label"], ["a", "yes"], ["b", "yes"]], "no column 'prediction'"),
        ([["id", "prediction", "p:no"], ["a", "yes", 0], ["b", "yes", 0]], "the model's labels are no, yes"),
        ([["id", "prediction", "p:no", "p:yes"], ["a", "yes", 0.5, 0.5], ["b", "yes", 0.9, 0.9]], "row 'b'"),
        ([["id", "prediction", "p:no", "p:yes"], ["a", "yes", 0.5, 0.5], ["b", "yes", "nan", 0.9]], "row 'b'"),
        ([], "cannot be read"),
    ],
)
def test_answers_that_do_not_fit_are_refused_and_leave_nothing(tmp_path, model, rows, said):
    data = write_dataset(tmp_path / "data", ["a", "b"])
    with pytest.raises(InputError, match=said):
        read(data, model, write_csv(tmp_path / "answers", rows), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_answers_at_all(tmp_path, model):
    data = write_dataset(tmp_path / "data", ["a"])
    (tmp_path / "answers").mkdir()
    with pytest.raises(InputError, match="neither predictions.csv nor predictions.parquet"):
        read(data, model, tmp_path / "answers", tmp_path / "out")


def test_the_absent_model_gives_predictions_without_rows(tmp_path):
    write_absent(tmp_path / "model", "store/tickets@champion")
    data = write_dataset(tmp_path / "data", ["a"])
    about = read(data, tmp_path / "model", tmp_path / "none", tmp_path / "out", reference="store/tickets@champion")
    assert about["absent"] and about["rows"] == 0 and table(tmp_path / "out").num_rows == 0


def test_only_its_image_can_use_a_containers_model(model):
    facts = inspect_model(model, "tickets", any_architecture=True)
    assert (facts.architecture, facts.labels, facts.digest) == ("container", LABELS, digest_of_model(model))
    with pytest.raises(InputError, match="only that image"):
        inspect_model(model, "tickets")


@pytest.mark.parametrize("content", ['{"labels": []}', '{"labels": ["a", "a"]}', '{"labels": "a"}', "[]", "no"])
def test_labels_that_cannot_be(tmp_path, content):
    (tmp_path / "container.json").write_text(content)
    with pytest.raises(InputError, match="container.json"):
        labels_of_model(tmp_path)
