import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kfp import dsl
from safetensors.numpy import load_file, save_file
from transformers import pipeline

from components import classify_text
from components.datasets import DatasetWriter, part_files
from components.errors import InputError
from components.inference.classify_text.classify import classify
from components.models import digest_of_model, write_absent
from tests.local_run import run_pipeline
from tests.tiny_model import build_tiny_model

LABELS = ["billing", "error", "praise"]
WORDS = [
    *("the", "invoice", "was", "charged", "twice", "and", "printer", "shows", "error"),
    *("after", "update", "thanks", "for", "great", "quick", "help", "today"),
]
SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("label", pa.string()), ("stars", pa.int64())])


def make_texts(count: int, seed: int = 0, longest: int = 150) -> list[str]:
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, size=int(rng.integers(0, longest)))) for _ in range(count)]
    return [text + (" ação?" if number % 7 == 0 else "") for number, text in enumerate(texts)]


def write_dataset(folder: Path, texts: list[str], schema: pa.Schema = SCHEMA) -> Path:
    with DatasetWriter(folder, schema) as writer:
        for start in range(0, len(texts), 50):
            rows = [
                {"id": f"row-{number}", "text": text, "label": None, "stars": number, "score": 0.0, "prediction": ""}
                for number, text in list(enumerate(texts))[start : start + 50]
            ]
            writer.write(pa.RecordBatch.from_pylist(rows, schema=schema))
    return folder


def read(folder: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(part) for part in part_files(folder))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("classify") / "model", LABELS, make_texts(100))


@pytest.fixture(scope="module")
def texts():
    return [*make_texts(160), "", " ", "\n", "🙂 ação", "word " * 3000]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, texts):
    return write_dataset(tmp_path_factory.mktemp("classify") / "dataset", texts)


@pytest.fixture(scope="module")
def expected(model, texts):
    """What a user who knows only transformers computes."""
    answers = pipeline("text-classification", model=str(model), top_k=None)(texts, truncation=True)
    return np.array(
        [[next(a["score"] for a in answer if a["label"] == label) for label in LABELS] for answer in answers]
    )


@pytest.mark.parametrize("batch_size", [1, 7, 32, 1000])
def test_predictions_are_those_of_the_transformers_pipeline(tmp_path, model, dataset, texts, expected, batch_size):
    metadata = classify(dataset, model, tmp_path / "out", batch_size=batch_size, include_probabilities=True)
    table = read(tmp_path / "out")
    probabilities = np.array(table["probabilities"].to_pylist())
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert table["prediction"].to_pylist() == [LABELS[best] for best in expected.argmax(axis=1)]
    assert len(set(table["prediction"].to_pylist())) > 1
    np.testing.assert_array_equal(table["score"].to_numpy(), probabilities.max(axis=1).astype(np.float32))
    assert table["text"].to_pylist() == texts
    assert table["stars"].to_pylist() == list(range(len(texts)))
    assert table.schema.types[-3:] == [pa.string(), pa.float32(), pa.list_(pa.float32())]
    assert metadata["rows"] == metadata["dataset_rows"] == len(texts)
    assert metadata["columns"] == table.column_names
    assert metadata["labels"] == LABELS
    assert metadata["shard"] == f"0:{len(texts)}"
    assert metadata["model_digest"] == digest_of_model(model)
    assert (metadata["device"], metadata["precision"]) == ("cpu", "fp32")
    assert metadata["rows_per_second"] > 0


@pytest.mark.parametrize("cuts", [[0, 165], [0, 1, 165], [0, 80, 80, 165], [0, 0, 33, 100, 165, 165]])
def test_shards_together_are_the_whole(tmp_path, model, dataset, texts, cuts):
    assert cuts[-1] == len(texts)
    classify(dataset, model, tmp_path / "whole", include_probabilities=True)
    for number, (start, stop) in enumerate(zip(cuts, cuts[1:], strict=False)):
        metadata = classify(dataset, model, tmp_path / str(number), shard=f"{start}:{stop}", include_probabilities=True)
        assert metadata["shard"] == f"{start}:{stop}" and metadata["rows"] == stop - start
    whole, union = read(tmp_path / "whole"), pa.concat_tables(read(tmp_path / str(n)) for n in range(len(cuts) - 1))
    for column in ("id", "text", "prediction", "stars"):
        assert union[column].to_pylist() == whole[column].to_pylist()
    np.testing.assert_allclose(
        np.array(union["probabilities"].to_pylist()), np.array(whole["probabilities"].to_pylist()), atol=1e-5
    )


@pytest.mark.parametrize(("texts_", "shard"), [([], ""), ([], "0:0"), (["a", "b"], "1:1")])
def test_nothing_to_classify_gives_predictions_without_rows(tmp_path, model, texts_, shard):
    data = write_dataset(tmp_path / "dataset", texts_)
    metadata = classify(data, model, tmp_path / "out", shard=shard, include_probabilities=True)
    assert metadata["rows"] == 0 and metadata["rows_per_second"] == 0
    assert read(tmp_path / "out").schema.names == [*SCHEMA.names, "prediction", "score", "probabilities"]


def test_probabilities_are_left_out_unless_asked_for(tmp_path, model, dataset):
    classify(dataset, model, tmp_path / "out", shard="0:3")
    assert read(tmp_path / "out").column_names == [*SCHEMA.names, "prediction", "score"]


def test_max_length_cuts_the_text(tmp_path, model):
    data = write_dataset(tmp_path / "dataset", ["the invoice was charged twice", "the invoice was lost", "the printer"])
    classify(data, model, tmp_path / "out", max_length=4, include_probabilities=True)
    first, second, third = read(tmp_path / "out")["probabilities"].to_pylist()
    assert first == pytest.approx(second, abs=1e-6) and first != pytest.approx(third, abs=1e-3)


@pytest.mark.parametrize("column", ["prediction", "score"])
def test_a_dataset_that_has_predictions_is_refused(tmp_path, model, column):
    data = write_dataset(
        tmp_path / "dataset",
        ["a"],
        SCHEMA.append(pa.field(column, pa.string() if column == "prediction" else pa.float32())),
    )
    with pytest.raises(InputError, match=f"already has a column '{column}'"):
        classify(data, model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"batch_size": -1}, "batch_size is -1"),
        ({"max_length": 2}, "max_length is 2"),
        ({"max_length": -5}, "max_length is -5"),
        ({"shard": "1-2"}, "not a shard"),
        ({"shard": "0:999"}, "not within"),
    ],
)
def test_a_setting_out_of_range_is_refused(tmp_path, model, dataset, setting, message):
    with pytest.raises(InputError, match=message):
        classify(dataset, model, tmp_path / "out", **setting)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem_type": "multi_label_classification"}, "any number of labels"),
        ({"problem_type": "regression"}, "a number, not a label"),
    ],
)
def test_a_model_that_chooses_no_single_label_is_refused(tmp_path, model, dataset, change, message):
    folder = shutil.copytree(model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(InputError, match=message):
        classify(dataset, folder, tmp_path / "out")


def test_a_regression_model_is_refused(tmp_path, dataset):
    folder = build_tiny_model(tmp_path / "model", ["stars"], ["a b c"])
    with pytest.raises(InputError, match="a number, not a label"):
        classify(dataset, folder, tmp_path / "out")


def test_no_model_is_refused(tmp_path, dataset):
    write_absent(tmp_path / "absent", "gs://bucket/models/tickets@champion")
    with pytest.raises(InputError, match="There is no model .*tickets@champion.* is not there yet"):
        classify(dataset, tmp_path / "absent", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_answer_that_is_no_number_is_an_error(tmp_path, model, dataset):
    folder = shutil.copytree(model, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] = np.full_like(weights["classifier.bias"], np.nan)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="165 of 165 rows is no number .* 'row-0'"):
        classify(dataset, folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@dsl.pipeline
def classify_pipeline(dataset_uri: str, model_uri: str):
    data = dsl.importer(artifact_uri=dataset_uri, artifact_class=dsl.Dataset, metadata={"digest": "d1"})
    model_ = dsl.importer(artifact_uri=model_uri, artifact_class=dsl.Model, metadata={"digest": "m1"})
    classify_text(dataset=data.output, model=model_.output, shard="10:60", include_probabilities=True)


def test_the_component_runs(tmp_path, model, dataset, expected):
    run = run_pipeline(classify_pipeline, tmp_path, dataset_uri=str(dataset), model_uri=str(model))
    path, metadata = run.artifact("classify-text", "predictions")
    table = read(path)
    np.testing.assert_allclose(np.array(table["probabilities"].to_pylist()), expected[10:60], atol=1e-5)
    assert metadata["labels"] == LABELS and metadata["shard"] == "10:60"
    assert (metadata["dataset_digest"], metadata["model_digest"]) == ("d1", "m1")
    assert "classify_text: 50 of 50 rows (100 %)" in run.log
