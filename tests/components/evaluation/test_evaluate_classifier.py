import json
import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp import dsl
from scipy.stats import binomtest
from sklearn import metrics as sklearn_metrics

from components.datasets import DatasetWriter, part_files
from components.errors import InputError
from components.evaluation.evaluate_classifier import slices as slices_module
from components.evaluation.evaluate_classifier.component import evaluate_classifier
from components.evaluation.evaluate_classifier.evaluate import evaluate
from components.evaluation.evaluate_classifier.intervals import macro_f1, macro_f1_interval, wilson_interval
from components.evaluation.evaluate_classifier.latency import sample_texts
from components.evaluation.evaluate_predictions.evaluate import evaluate as evaluate_predictions
from components.inference.classify_text.classify import classify
from components.models import write_absent
from tests.local_run import run_pipeline
from tests.readme_example import readme_pipeline
from tests.tiny_model import build_tiny_model

LABELS = ["billing", "error", "praise"]
WORDS = ["the", "invoice", "was", "charged", "twice", "printer", "shows", "error", "after", "update", "thanks", "help"]
SCHEMA = pa.schema(
    [("id", pa.string()), ("text", pa.string()), ("label", pa.string())]
    + [("source", pa.string()), ("stars", pa.int64()), ("tags", pa.list_(pa.string()))]
)


def make_texts(count):
    rng = np.random.default_rng(7)
    return [" ".join(rng.choice(WORDS, size=int(rng.integers(1, 60)))) for _ in range(count)]


def write_dataset(folder, rows):
    with DatasetWriter(folder, SCHEMA) as writer:
        if rows:
            writer.write(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
    return folder


def read(folder):
    return pa.concat_tables(pq.read_table(part) for part in part_files(folder))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("evaluate") / "model", LABELS, make_texts(100))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, model):
    """Rows whose labels are the model's own answers, except every other row from `mail`: what is right is known."""
    folder = tmp_path_factory.mktemp("evaluate")
    texts = make_texts(240)
    rows = [
        {"id": f"row-{n}", "text": text, "source": "mail" if n % 3 == 0 else "web", "stars": n % 2}
        for n, text in enumerate(texts)
    ]
    classify(write_dataset(folder / "unlabelled", rows), model, folder / "answers")
    for number, (row, answer) in enumerate(zip(rows, read(folder / "answers")["prediction"].to_pylist(), strict=True)):
        wrong = row["source"] == "mail" and number % 2 == 0
        row["label"] = LABELS[(LABELS.index(answer) + wrong) % 3]
    rows[1]["label"] = rows[1]["source"] = None
    return write_dataset(folder / "dataset", rows)


def run(folder, dataset, model, **settings_):
    paths = {name: folder / name for name in ("predictions_path", "metrics_path", "classification_path", "report_path")}
    return evaluate(dataset, model, **paths, **settings_)


def test_the_numbers_are_those_of_evaluate_predictions_and_of_the_speed(tmp_path, dataset, model):
    result = run(tmp_path, dataset, model, batch_size=16)
    other = evaluate_predictions(tmp_path / "predictions_path", LABELS, tmp_path / "m", tmp_path / "c", tmp_path / "r")
    speed = {"latency_p50_ms", "latency_p95_ms", "rows_per_second"}
    assert set(result.metrics) - set(other.metrics) == speed
    assert {name: result.metrics[name] for name in other.metrics} == other.metrics
    assert result.classification == other.classification
    assert (tmp_path / "classification_path").read_text() == (tmp_path / "c").read_text()
    assert 0 < result.metrics["latency_p50_ms"] <= result.metrics["latency_p95_ms"]
    assert result.metrics["accuracy"] == pytest.approx(199 / 239)
    assert result.predictions["labels"] == LABELS and result.predictions["rows"] == 240
    assert read(tmp_path / "predictions_path").column_names == [*SCHEMA.names, "prediction", "score", "probabilities"]
    latency = json.loads((tmp_path / "metrics_path").read_text())["latency"]
    assert (latency["texts"], latency["device"], latency["precision"]) == (64, "cpu", "fp32")


def test_slices_are_what_scikit_learn_computes_on_their_rows(tmp_path, dataset, model):
    run(tmp_path, dataset, model, slice_columns=["source", "stars", "source"])
    found = json.loads((tmp_path / "metrics_path").read_text())["slices"]
    assert {one["column"] for one in found} == {"text length", "source", "stars"}
    table = read(tmp_path / "predictions_path").to_pylist()
    for one in found:
        if one["column"] == "text length":
            low, _, high = one["value"].removesuffix(" characters").partition(" to ")
            rows = [row for row in table if int(low) <= len(row["text"]) <= int(high)]
        else:
            rows = [
                row
                for row in table
                if str(row[one["column"]] or "(none)") == one["value"] or str(row[one["column"]]) == one["value"]
            ]
        labelled = [row for row in rows if row["label"]]
        assert (one["rows"], one["labelled_rows"]) == (len(rows), len(labelled))
        if not labelled:
            assert one["accuracy"] is None and one["macro_f1_interval"] is None
            continue
        actual, said = [row["label"] for row in labelled], [row["prediction"] for row in labelled]
        assert one["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(actual, said))
        assert one["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(actual, said, average="macro"))
        for name in ("accuracy", "macro_f1"):
            low, high = one[f"{name}_interval"]
            assert 0 <= low <= one[name] <= high <= 1
    by_value = {one["value"]: one for one in found if one["column"] == "source"}
    assert by_value["mail"]["accuracy"] == 0.5 and by_value["web"]["accuracy"] == 1
    assert [one["value"] for one in found if one["column"] == "source"] == ["web", "mail", "(none)"]
    page = (tmp_path / "report_path").read_text()
    assert "Clearly less accurate than the whole" in page and "source “mail” 0.500 (80 rows)" in page
    assert page.index("Slices by text length") < page.index("Slices by source")


def test_of_many_values_the_largest_are_shown_and_the_others_together(tmp_path, dataset, model, monkeypatch):
    # Few enough to be forgotten on the way, were they not frequent.
    monkeypatch.setattr(slices_module, "COUNTED_VALUES", 30)
    rows = read(dataset).to_pylist()
    for number, row in enumerate(rows):
        row["source"] = f"shop {number % 25}" if number % 2 else f"once {number}"
    run(tmp_path, write_dataset(tmp_path / "data", rows), model, slice_columns=["source"])
    found = [one for one in json.loads((tmp_path / "metrics_path").read_text())["slices"] if one["column"] == "source"]
    assert len(found) == 21 and found[-1]["value"] == "(other)"
    assert sum(one["rows"] for one in found) == 240
    assert all(one["value"].startswith("shop") for one in found[:-1])
    # Slices of five rows are shown, and not called worse than the whole.
    page = (tmp_path / "report_path").read_text()
    assert "few rows" in page and "source “shop" not in page


def test_a_long_value_is_known_by_its_beginning(tmp_path, dataset, model):
    rows = read(dataset).to_pylist()
    for number, row in enumerate(rows):
        row["source"] = "long " * 1000 + str(number)
    run(tmp_path, write_dataset(tmp_path / "data", rows), model, slice_columns=["source"])
    found = [one for one in json.loads((tmp_path / "metrics_path").read_text())["slices"] if one["column"] == "source"]
    assert [one["rows"] for one in found] == [240] and len(found[0]["value"]) == 200


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"slice_columns": ["sauce"]}, "no column 'sauce' to slice by. Did you mean 'source'?"),
        ({"slice_columns": ["tags"]}, "of the type list"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"max_length": 1}, "max_length is 1"),
    ],
)
def test_a_wrong_setting_is_refused_and_nothing_is_written(tmp_path, dataset, model, setting, message):
    with pytest.raises(InputError, match=message):
        run(tmp_path, dataset, model, **setting)
    assert not list(tmp_path.iterdir())


def test_a_dataset_without_rows_says_so(tmp_path, model):
    result = run(tmp_path, write_dataset(tmp_path / "data", []), model, slice_columns=["source"])
    assert result.metrics == {"rows": 0, "labelled_rows": 0} and result.classification == {}
    assert "has no rows" in (tmp_path / "report_path").read_text()
    assert read(tmp_path / "predictions_path").num_rows == 0


def test_without_labels_there_are_predictions_and_speed_but_no_slices(tmp_path, dataset, model):
    rows = [row | {"label": None} for row in read(dataset).to_pylist()[:20]]
    result = run(tmp_path, write_dataset(tmp_path / "data", rows), model)
    assert set(result.metrics) == {"rows", "labelled_rows", "latency_p50_ms", "latency_p95_ms", "rows_per_second"}
    assert json.loads((tmp_path / "metrics_path").read_text())["slices"] == []
    assert "No row has a label" in (tmp_path / "report_path").read_text()


def test_the_absent_model_gives_predictions_without_rows(tmp_path, dataset):
    write_absent(tmp_path / "model", "models/tickets@champion")
    result = run(tmp_path, dataset, tmp_path / "model", dataset_digest="d1")
    assert result.metrics == {"rows": 0} and result.classification == {}
    assert result.predictions["absent"] is True and result.predictions["rows"] == 0
    assert result.predictions["reference"] == "models/tickets@champion"
    assert (result.predictions["dataset_rows"], result.predictions["dataset_digest"]) == (240, "d1")
    assert read(tmp_path / "predictions_path").column_names == [*SCHEMA.names, "prediction", "score", "probabilities"]
    assert "There is no champion yet" in (tmp_path / "report_path").read_text()
    assert json.loads((tmp_path / "metrics_path").read_text())["rows"] == 0


@pytest.mark.parametrize(("rows", "count"), [(0, 0), (1, 1), (63, 63), (64, 64), (240, 64)])
def test_the_sample_is_spread_over_the_rows(tmp_path, rows, count):
    write_dataset(tmp_path / "data", [{"id": str(n), "text": str(n)} for n in range(rows)])
    numbers = [int(text) for text in sample_texts(tmp_path / "data")]
    assert len(numbers) == count and numbers == sorted(set(numbers))
    if rows:
        assert numbers[0] == 0 and numbers[-1] == rows - 1


@given(st.integers(1, 500), st.data())
def test_wilson_is_what_scipy_says(rows, data):
    right = data.draw(st.integers(0, rows))
    expected = binomtest(right, rows).proportion_ci(0.95, method="wilson")
    assert wilson_interval(right, rows) == pytest.approx((expected.low, expected.high), abs=1e-9)
    low, high = wilson_interval(right, rows)
    assert 0 <= low <= right / rows <= high <= 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=60))
def test_the_macro_f1_of_counts_is_that_of_rows(pairs):
    actual, said = zip(*pairs, strict=True)
    assert macro_f1(Counter(pairs)) == pytest.approx(
        sklearn_metrics.f1_score(actual, said, average="macro", zero_division=0)
    )
    low, high = macro_f1_interval(Counter(pairs))
    assert 0 <= low <= high <= 1 and math.isfinite(low + high)


def test_the_interval_of_the_macro_f1_is_that_of_resampled_rows():
    rng = np.random.default_rng(1)
    actual = rng.integers(3, size=300)
    said = np.where(rng.random(300) < 0.7, actual, rng.integers(3, size=300))
    drawn = [rng.integers(300, size=300) for _ in range(400)]
    scores = [sklearn_metrics.f1_score(actual[rows], said[rows], average="macro") for rows in drawn]
    counted = Counter(zip(actual.tolist(), said.tolist(), strict=True))
    assert macro_f1_interval(counted) == pytest.approx(np.quantile(scores, [0.025, 0.975]), abs=0.015)
    assert macro_f1_interval(counted) == macro_f1_interval(counted)


@dsl.pipeline
def evaluation(dataset_uri: str, model_uri: str, columns: list = []):  # noqa: B006
    data = dsl.importer(artifact_uri=dataset_uri, artifact_class=dsl.Dataset, metadata={"digest": "d1"})
    model_ = dsl.importer(artifact_uri=model_uri, artifact_class=dsl.Model, metadata={"digest": "m1"})
    evaluate_classifier(dataset=data.output, model=model_.output, slice_columns=columns, title="Held-out tickets")


def test_the_component_runs(tmp_path, dataset, model):
    local = run_pipeline(evaluation, tmp_path, dataset_uri=str(dataset), model_uri=str(model), columns=["source"])
    path, metadata = local.artifact("evaluate-classifier", "metrics")
    assert metadata["accuracy"] == pytest.approx(199 / 239) and metadata["latency_p95_ms"] > 0
    assert json.loads(path.read_text())["accuracy"] == metadata["accuracy"]
    path, metadata = local.artifact("evaluate-classifier", "predictions")
    assert metadata["labels"] == LABELS and read(path).num_rows == 240
    assert (metadata["dataset_digest"], metadata["model_digest"]) == ("d1", "m1")
    _, metadata = local.artifact("evaluate-classifier", "classification_metrics")
    assert len(metadata["confusionMatrix"]["rows"]) == 3
    path, _ = local.artifact("evaluate-classifier", "report")
    assert path.name == "report.html" and "<h1>Held-out tickets</h1>" in path.read_text()


def test_the_component_bears_the_absent_model(tmp_path, dataset):
    write_absent(tmp_path / "model", "models/tickets@champion")
    local = run_pipeline(evaluation, tmp_path, dataset_uri=str(dataset), model_uri=str(tmp_path / "model"))
    _, metadata = local.artifact("evaluate-classifier", "metrics")
    assert metadata == {"rows": 0}
    _, metadata = local.artifact("evaluate-classifier", "predictions")
    assert metadata["absent"] is True


def test_the_example_of_the_readme_compiles():
    assert "comp-evaluate-classifier" in readme_pipeline("evaluate_classifier").pipeline_spec.components
