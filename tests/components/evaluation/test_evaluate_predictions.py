import json
import math
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp import dsl
from sklearn import metrics as sklearn_metrics

from components import evaluate_predictions
from components.datasets import DatasetWriter
from components.errors import InputError
from components.evaluation.evaluate_predictions.evaluate import evaluate
from components.evaluation.evaluate_predictions.scores import score
from components.evaluation.evaluate_predictions.tally import EXTRA_LABELS, Tally, tally
from components.reports import unique_names
from tests.local_run import run_pipeline

LABELS = ["billing", "delivery", "login"]


def write_predictions(path, labels, predictions, scores=None, probabilities=None, texts=None):
    columns = {
        "id": pa.array([f"row-{n}" for n in range(len(labels))], pa.string()),
        "text": pa.array(texts or [f"text {n}" for n in range(len(labels))], pa.string()),
        "label": pa.array(labels, pa.string()),
        "prediction": pa.array(predictions, pa.string()),
        "score": pa.array([0.9] * len(labels) if scores is None else scores, pa.float32()),
    }
    if probabilities is not None:
        columns["probabilities"] = pa.array(probabilities, pa.list_(pa.float32()))
    batch = pa.RecordBatch.from_pydict(columns)
    with DatasetWriter(path, batch.schema) as writer:
        writer.write(batch)
    return path


def random_predictions(path, labels, rows, seed=0, sharpness=2.0, unlabelled=0.0):
    random = np.random.default_rng(seed)
    actual = random.integers(len(labels), size=rows)
    logits = random.normal(size=(rows, len(labels)))
    logits[np.arange(rows), actual] += sharpness
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    probabilities = probabilities.astype(np.float32)
    predicted = probabilities.argmax(axis=1)
    hidden = random.random(rows) < unlabelled
    write_predictions(
        path,
        [None if hide else labels[code] for code, hide in zip(actual, hidden, strict=True)],
        [labels[code] for code in predicted],
        probabilities.max(axis=1),
        list(probabilities),
    )
    return actual[~hidden], predicted[~hidden], probabilities[~hidden]


def run(folder, labels=None, title=""):
    return evaluate(folder / "p", labels, folder / "metrics", folder / "classification", folder / "report.html", title)


def finite_numbers(value):
    if isinstance(value, dict):
        return all(finite_numbers(one) for one in value.values())
    if isinstance(value, list):
        return all(finite_numbers(one) for one in value)
    return not isinstance(value, float) or math.isfinite(value)


class PageParser(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.sources, self.words = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data):
        self.words.append(data)


def test_numbers_are_those_of_scikit_learn(tmp_path):
    actual, predicted, probabilities = random_predictions(tmp_path / "p", LABELS, 5000, unlabelled=0.1)
    result = run(tmp_path, LABELS).metrics
    assert result["rows"] == 5000 and result["labelled_rows"] == len(actual)
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(actual, predicted),
        "macro_precision": sklearn_metrics.precision_score(actual, predicted, average="macro"),
        "macro_recall": sklearn_metrics.recall_score(actual, predicted, average="macro"),
        "macro_f1": sklearn_metrics.f1_score(actual, predicted, average="macro"),
        "weighted_f1": sklearn_metrics.f1_score(actual, predicted, average="weighted"),
        "log_loss": sklearn_metrics.log_loss(actual, probabilities),
    }
    assert {name: result[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    one_hot = np.eye(3)[actual]
    assert result["roc_auc_macro"] == pytest.approx(sklearn_metrics.roc_auc_score(one_hot, probabilities), abs=1e-3)
    micro = sklearn_metrics.roc_auc_score(one_hot, probabilities, average="micro")
    assert result["roc_auc_micro"] == pytest.approx(micro, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcx"), st.sampled_from("abc")), min_size=1, max_size=30), st.booleans())
def test_averages_are_those_of_scikit_learn_for_any_rows(pairs, labels_are_known):
    counts = Tally(list("abc") if labels_are_known else [])
    counts.add(batch_of(pairs))
    result = score(counts).metrics
    actual, predicted = zip(*pairs, strict=True)
    for average in ("macro", "weighted"):
        expected = sklearn_metrics.f1_score(actual, predicted, average=average, zero_division=0)
        assert result[f"{average}_f1"] == pytest.approx(expected)
    assert result["accuracy"] == pytest.approx(np.mean([a == b for a, b in pairs]))


def batch_of(pairs):
    labels, predictions = zip(*pairs, strict=True)
    ids = [str(number) for number in range(len(pairs))]
    return pa.RecordBatch.from_pydict(
        {
            "id": ids,
            "text": ids,
            "label": pa.array(labels, pa.string()),
            "prediction": pa.array(predictions, pa.string()),
            "score": pa.array([0.5] * len(pairs), pa.float32()),
        }
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1, width=32)), min_size=2, max_size=60))
def test_an_area_is_within_its_stated_error(rows):
    actual, positive = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    if actual.all() or not actual.any():
        return
    batch = batch_of([("yes" if one else "no", "yes") for one in actual])
    probabilities = pa.array([[1 - p, p] for p in positive.tolist()], pa.list_(pa.float32()))
    counts = Tally(["no", "yes"])
    counts.add(batch.append_column("probabilities", probabilities))
    roc = score(counts).roc
    exact = sklearn_metrics.roc_auc_score(actual, positive)
    assert abs(roc.area - exact) <= roc.area_error + 1e-9
    for rates in (roc.false_positive_rates, roc.true_positive_rates):
        assert rates[0] == 0 and rates[-1] == 1 and (np.diff(rates) >= 0).all()
    assert np.isfinite(roc.thresholds).all() and (np.diff(roc.thresholds) < 0).all()


def test_batches_of_any_size_give_the_same_numbers(tmp_path):
    random_predictions(tmp_path / "p", LABELS, 1000, unlabelled=0.2)
    whole = tally(tmp_path / "p", LABELS)
    pieces = Tally(LABELS)
    from components.datasets import read_batches

    for batch in read_batches(tmp_path / "p", batch_rows=7):
        pieces.add(batch)
    assert score(pieces).metrics == pytest.approx(score(whole).metrics)
    assert sorted(pieces.errors) == sorted(whole.errors)


def test_two_labels_take_the_second_as_the_positive_class(tmp_path):
    actual, _, probabilities = random_predictions(tmp_path / "p", ["no", "yes"], 2000)
    result = run(tmp_path, ["no", "yes"])
    assert result.metrics["roc_auc"] == pytest.approx(
        sklearn_metrics.roc_auc_score(actual, probabilities[:, 1]), abs=1e-3
    )
    assert "Positive class: yes" in (tmp_path / "report.html").read_text()


def test_calibration_error_is_the_gap_between_score_and_accuracy(tmp_path):
    write_predictions(tmp_path / "p", ["a", "a", "b", "b"], ["a", "a", "a", "a"], [0.9, 0.9, 0.9, 0.9])
    assert run(tmp_path).metrics["expected_calibration_error"] == pytest.approx(0.4)


def test_unlabelled_rows_are_counted_and_left_out(tmp_path, capsys):
    write_predictions(tmp_path / "p", ["billing", None, None], ["billing", "login", "login"])
    result = run(tmp_path, LABELS)
    assert result.metrics["accuracy"] == 1 and result.metrics["labelled_rows"] == 1
    assert "2 of 3 rows have no label" in capsys.readouterr().out


def test_a_label_that_the_model_does_not_know_is_named_and_wrong(tmp_path):
    write_predictions(tmp_path / "p", ["billing", "returns", "returns"], ["billing", "login", "billing"])
    result = run(tmp_path, LABELS)
    assert result.metrics["accuracy"] == pytest.approx(1 / 3)
    assert "“returns” (2)" in (tmp_path / "report.html").read_text()
    classes = {one["label"]: one for one in json.loads((tmp_path / "metrics").read_text())["classes"]}
    assert classes["returns"]["known"] is False and classes["returns"]["support"] == 2


@pytest.mark.parametrize("rows", [0, 5])
def test_without_labelled_rows_there_is_a_report_and_no_score(tmp_path, rows):
    write_predictions(tmp_path / "p", [None] * rows, ["billing"] * rows, None, [[0.2, 0.3, 0.5]] * rows)
    result = run(tmp_path, LABELS)
    assert result.metrics == {"rows": rows, "labelled_rows": 0} and result.classification == {}
    page = (tmp_path / "report.html").read_text()
    assert ("No row has a label" if rows else "has no rows") in page
    assert ("What was predicted" in page) == bool(rows)
    assert (tmp_path / "metrics").exists() and (tmp_path / "classification").exists()


@pytest.mark.parametrize("scores", [[math.nan] * 3, [None] * 3, [math.inf, -math.inf, 7.5]])
def test_odd_scores_and_probabilities_leave_all_numbers_finite(tmp_path, scores):
    probabilities = [[math.nan, 0.5, 0.5], None, [0.0, 1.0, 0.0]]
    write_predictions(tmp_path / "p", ["billing"] * 3, ["login"] * 3, scores, probabilities)
    result = run(tmp_path, LABELS)
    assert finite_numbers(result.metrics) and finite_numbers(result.classification)
    assert "expected_calibration_error" not in result.metrics
    assert "2 labelled rows have no finite probabilities" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_certain_probabilities_keep_the_loss_finite(tmp_path, value):
    write_predictions(tmp_path / "p", ["no", "yes"], ["no", "yes"], [1.0, 1.0], [[value, 1 - value]] * 2)
    assert 0 < run(tmp_path, ["no", "yes"]).metrics["log_loss"] < 20


def test_probabilities_without_labels_are_left_aside(tmp_path):
    random_predictions(tmp_path / "p", LABELS, 50)
    assert not any("roc" in name or "loss" in name for name in run(tmp_path).metrics)


def test_labels_of_another_model_are_refused_and_nothing_is_written(tmp_path):
    random_predictions(tmp_path / "p", LABELS, 50)
    with pytest.raises(InputError, match="3 probabilities, and the model has 2 labels"):
        run(tmp_path, ["billing", "delivery"])
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_probabilities_of_different_lengths_are_refused(tmp_path):
    write_predictions(tmp_path / "p", ["a", "b"], ["a", "b"], None, [[0.5, 0.5, 0.0], [1.0]])
    with pytest.raises(InputError, match="probabilities"):
        run(tmp_path, ["a", "b"])


def test_a_dataset_without_predictions_is_refused(tmp_path):
    batch = pa.RecordBatch.from_pydict({"id": ["1"], "text": ["a"], "label": ["x"]})
    with DatasetWriter(tmp_path / "p", batch.schema) as writer:
        writer.write(batch)
    with pytest.raises(InputError, match="no column 'prediction', 'score'"):
        run(tmp_path)


def test_a_missing_prediction_and_equal_labels_are_refused(tmp_path):
    write_predictions(tmp_path / "p", ["a"], [None])
    with pytest.raises(InputError, match="no prediction"):
        run(tmp_path)
    with pytest.raises(InputError, match="not all different"):
        run(tmp_path, ["a", "a"])


def test_a_label_column_of_free_text_stays_bounded(tmp_path):
    rows = EXTRA_LABELS + 500
    write_predictions(tmp_path / "p", [f"text {n}" for n in range(rows)], [f"other {n}" for n in range(rows)])
    result = run(tmp_path)
    assert result.metrics["accuracy"] == 0
    assert len(json.loads((tmp_path / "classification").read_text())["labels"]) <= EXTRA_LABELS + 2
    assert "Is the label column the right one?" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("name", ["intent {}", "意图" * 80 + "{}", '"\\' * 60 + "{}", "{}" + "x" * 500])
def test_five_hundred_labels_stay_within_the_limit_of_vertex(tmp_path, name):
    labels = [name.format(number) for number in range(500)]
    random_predictions(tmp_path / "p", labels, 3000, sharpness=6.0)
    result = run(tmp_path, labels)
    assert len(json.dumps({**result.classification, **result.metrics})) < 115_000
    curve, matrix = result.classification["confidenceMetrics"], result.classification["confusionMatrix"]
    assert 2 < len(curve) <= 500 and finite_numbers(curve)
    assert curve[0] == {"confidenceThreshold": 1.0, "recall": 0.0, "falsePositiveRate": 0.0}
    assert curve[-1]["recall"] == 1 and curve[-1]["falsePositiveRate"] == 1
    names = [one["displayName"] for one in matrix["annotationSpecs"]]
    assert 10 <= len(names) <= 100 and len(set(names)) == len(names) and names[-1].endswith("other labels)")
    assert all(len(one["row"]) == len(names) for one in matrix["rows"])
    assert sum(sum(one["row"]) for one in matrix["rows"]) == 3000
    assert "are joined to keep 100" in (tmp_path / "report.html").read_text()


def test_metric_names_are_plain(tmp_path):
    random_predictions(tmp_path / "p", LABELS, 50)
    assert all(name.replace("_", "").isalnum() and name.isascii() for name in run(tmp_path, LABELS).metrics)


@given(st.lists(st.text(max_size=90), max_size=20, unique=True))
def test_shortened_names_stay_distinct(labels):
    names = unique_names(labels)
    assert len(set(names)) == len(labels)
    assert all(0 < len(name) <= 60 and name.isprintable() for name in names)


def test_the_report_escapes_what_users_wrote_and_needs_no_network(tmp_path):
    evil = "<script>alert('x')</script> & $a_b$ </svg>"
    labels = [evil, "ok\n\x00 then"]
    write_predictions(tmp_path / "p", [labels[0]] * 3, [labels[1]] * 3, None, [[0.4, 0.6]] * 3, [evil * 20] * 3)
    run(tmp_path, labels, title=f"Title {evil}")
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page
    parsed = PageParser(page)
    assert "script" not in parsed.tags and {"h1", "svg", "table"} <= set(parsed.tags)
    assert all(source.startswith(("data:", "#")) for source in parsed.sources)


def test_the_report_shows_the_most_confident_errors_first_and_cuts_their_text(tmp_path):
    scores = [0.5 + number / 200 for number in range(60)]
    texts = [f"text-{number} " + "long " * 100 for number in range(60)]
    write_predictions(tmp_path / "p", ["a"] * 60, ["b"] * 60, scores, None, texts)
    counts = tally(tmp_path / "p", ["a", "b"])
    errors = sorted(counts.errors, reverse=True)
    assert [error.id for error in errors] == [f"row-{number}" for number in range(59, 39, -1)]
    assert all(len(error.text) <= 200 and error.text.endswith("…") for error in errors)


def test_the_same_predictions_give_the_same_bytes(tmp_path):
    random_predictions(tmp_path / "p", LABELS, 200)
    run(tmp_path, LABELS)
    first = [(tmp_path / name).read_bytes() for name in ("metrics", "classification", "report.html")]
    run(tmp_path, LABELS)
    assert first == [(tmp_path / name).read_bytes() for name in ("metrics", "classification", "report.html")]


@pytest.mark.parametrize("labels", [1, 2, 13, 31, 100])
def test_a_report_can_be_drawn_for_any_number_of_labels(tmp_path, labels):
    names = [f"label {number}" for number in range(labels)]
    random_predictions(tmp_path / "p", names, 400, sharpness=4.0)
    run(tmp_path, names)
    assert (tmp_path / "report.html").stat().st_size < 1_500_000


@dsl.pipeline
def evaluation(uri: str):
    predictions = dsl.importer(
        artifact_uri=uri, artifact_class=dsl.Dataset, metadata={"labels": ["billing", "delivery", "login"]}
    )
    evaluate_predictions(predictions=predictions.output, title="Tickets")


def test_the_component_logs_metrics_and_writes_every_file(tmp_path):
    random_predictions(tmp_path / "p", LABELS, 300)
    local = run_pipeline(evaluation, tmp_path, uri=str(tmp_path / "p"))
    path, metadata = local.artifact("evaluate-predictions", "metrics")
    assert metadata["labelled_rows"] == 300 and 0 < metadata["roc_auc_macro"] <= 1
    assert json.loads(path.read_text())["accuracy"] == metadata["accuracy"]
    path, metadata = local.artifact("evaluate-predictions", "classification_metrics")
    assert len(metadata["confusionMatrix"]["rows"]) == 3 and path.exists()
    path, _ = local.artifact("evaluate-predictions", "report")
    assert path.name == "report.html" and "<h1>Tickets</h1>" in path.read_text()
