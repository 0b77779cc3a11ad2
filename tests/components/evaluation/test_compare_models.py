import json
import math
import re
import textwrap
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp import dsl
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_score, recall_score

import components.evaluation.compare_models.compare as compare_module
from components.datasets import DatasetWriter
from components.errors import InputError
from components.evaluation.compare_models.compare import compare, write_comparison
from components.evaluation.compare_models.component import compare_models
from components.evaluation.compare_models.decide import Rules
from components.evaluation.compare_models.metrics import LOSS_GROUPS, ConfusionGain, LossGain
from components.evaluation.compare_models.pairs import Pairs
from components.evaluation.compare_models.resample import mcnemar_p_value, measure_certainty
from tests.local_run import run_pipeline

LABELS = ["bad", "good", "ugly"]
METRICS = ["accuracy", "macro_f1", "weighted_f1", "macro_recall", "macro_precision", "f1:good", "recall:bad"]


def write(folder, labels, predictions, probabilities=None, ids=None, texts=None, batch_rows=1000):
    """Writes predictions; ids are numbers unless given."""
    rows = len(labels)
    table = pa.table(
        {
            "id": pa.array(ids or [f"r{number}" for number in range(rows)], pa.string()),
            "text": pa.array(texts or [f"text {number}" for number in range(rows)], pa.string()),
            "label": pa.array(labels, pa.string()),
            "prediction": pa.array(predictions, pa.string()),
            "score": pa.array([0.5] * rows, pa.float32()),
        }
    )
    if probabilities is not None:
        table = table.append_column("probabilities", pa.array(probabilities, pa.list_(pa.float32())))
    with DatasetWriter(folder, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=batch_rows):
            writer.write(batch)
    return folder


def gate(folder, labels, candidate, champion, seed=0, **rules):
    """Compares two lists of predictions; a champion of None is absent."""
    absent = champion is None
    paths = write(folder / "a", labels, candidate), write(folder / "b", [] if absent else labels, champion or [])
    return compare(*paths, Rules(**rules), seed=seed, champion_absent=absent)


def pairs_of(labels, candidate, champion):
    """Counts lists of codes, which are all labels."""
    cells, counts = np.unique(np.stack([labels, candidate, champion], axis=1), axis=0, return_counts=True)
    return Pairs([str(code) for code in range(np.max(cells) + 1)], cells, counts, len(labels))


def noisy(truth, accuracy, rng, classes=3):
    return np.where(rng.random(len(truth)) < accuracy, truth, (truth + rng.integers(1, classes, len(truth))) % classes)


TRIPLES = st.lists(
    st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, "else"]), st.sampled_from([*LABELS, "else"])),
    min_size=1,
    max_size=40,
)
CONFIDENCES, GAINS = st.sampled_from([0.0, 0.5, 0.9, 0.95]), st.sampled_from([0.0, 0.05])
FEW = settings(max_examples=12, deadline=None)


@FEW
@given(TRIPLES, st.sampled_from(METRICS[:5]), CONFIDENCES, GAINS)
def test_identical_models_are_never_blessed_and_of_two_at_most_one(
    tmp_path_factory, triples, metric, confidence, minimum_gain
):
    folder = tmp_path_factory.mktemp("gate")
    labels, first, second = (list(column) for column in zip(*triples, strict=True))
    rules = {"metric": metric, "confidence": confidence, "minimum_gain": minimum_gain, "resamples": 400}
    same = gate(folder, labels, first, first, **rules)
    assert not same.verdict.blessed and "is a tie" in same.verdict.reason
    one, other = gate(folder, labels, first, second, **rules), gate(folder, labels, second, first, **rules)
    assert not (one.verdict.blessed and other.verdict.blessed)
    assert one.difference == pytest.approx(-other.difference)


@FEW
@given(TRIPLES, st.randoms(use_true_random=False), st.integers(1, 9), st.sampled_from(METRICS[:5]))
def test_the_order_of_rows_and_batches_changes_nothing(tmp_path_factory, triples, random, batch_rows, metric):
    folder = tmp_path_factory.mktemp("gate")
    found = []
    for size in (1000, batch_rows):
        labels, first, second = (list(column) for column in zip(*triples, strict=True))
        paths = write(folder / "a", labels, first, batch_rows=size), write(folder / "b", labels, second)
        result = compare(*paths, Rules(metric, resamples=400), seed=3)
        found.append((result.verdict, result.metrics))
        random.shuffle(triples)
    assert found[0] == found[1]


@FEW
@given(TRIPLES, st.sampled_from(METRICS[:5]), st.floats(0.01, 1.0), st.booleans())
def test_a_candidate_below_the_minimum_is_never_blessed(tmp_path_factory, triples, metric, minimum, first_run):
    labels, first, second = (list(column) for column in zip(*triples, strict=True))
    champion = None if first_run else second
    folder = tmp_path_factory.mktemp("gate")
    result = gate(folder, labels, first, champion, metric=metric, minimum=minimum, confidence=0.0)
    if result.candidate < minimum - 1e-6:
        assert not result.verdict.blessed and "less than the minimum" in result.verdict.reason
    elif first_run:
        assert result.verdict.blessed and "no champion yet" in result.verdict.reason


@FEW
@given(TRIPLES)
def test_the_metrics_are_those_of_scikit_learn_over_the_labels_of_the_rows(tmp_path_factory, triples):
    labels, first, second = (list(column) for column in zip(*triples, strict=True))
    folder, present = tmp_path_factory.mktemp("gate"), sorted(set(labels))
    expected = {
        "accuracy": lambda said: accuracy_score(labels, said),
        "macro_f1": lambda said: f1_score(labels, said, labels=present, average="macro", zero_division=0),
        "weighted_f1": lambda said: f1_score(labels, said, labels=present, average="weighted", zero_division=0),
        "macro_recall": lambda said: recall_score(labels, said, labels=present, average="macro", zero_division=0),
        "macro_precision": lambda said: precision_score(labels, said, labels=present, average="macro", zero_division=0),
        f"f1:{present[0]}": lambda said: f1_score(labels, said, labels=present[:1], average="macro", zero_division=0),
    }
    for metric, function in expected.items():
        result = gate(folder, labels, first, second, metric=metric, confidence=0.0)
        assert result.candidate == pytest.approx(function(first)) and result.champion == pytest.approx(function(second))


def test_a_better_candidate_is_blessed_and_a_worse_one_is_not(tmp_path):
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 3, 800)
    good, bad = ([LABELS[code] for code in noisy(truth, share, rng)] for share in (0.9, 0.8))
    labels = [LABELS[code] for code in truth]
    better = gate(tmp_path, labels, good, bad)
    assert better.verdict.blessed and better.metrics["blessed"] == 1
    assert better.verdict.reason.startswith("Blessed: macro_f1 0.8963 against the champion's 0.8163 is a gain of")
    assert "with a 95% interval from 0.04" in better.verdict.reason
    assert better.verdict.reason.endswith("(800 rows).") and better.verdict.reason.count(". ") == 0
    assert better.metrics["gain_low"] < better.metrics["gain"] < better.metrics["gain_high"]
    worse = gate(tmp_path, labels, bad, good)
    assert not worse.verdict.blessed and "is worse by" in worse.verdict.reason
    asked = gate(tmp_path, labels, good, bad, minimum_gain=better.metrics["gain_low"] + 0.001)
    assert not asked.verdict.blessed and "whose lower end is not above" in asked.verdict.reason
    more = gate(tmp_path, labels, good, bad, minimum_gain=0.5)
    assert not more.verdict.blessed and "not more than the 0.5 asked for" in more.verdict.reason
    assert gate(tmp_path, labels, good, bad, seed=1).metrics["gain_low"] != better.metrics["gain_low"]
    assert gate(tmp_path, labels, good, bad).metrics == better.metrics


def test_a_gain_equal_to_the_one_asked_for_is_not_enough_in_spite_of_rounding(tmp_path):
    labels = ["good"] * 100
    candidate, champion = ["good"] * 92 + ["bad"] * 8, ["good"] * 90 + ["bad"] * 10
    rules = {"metric": "accuracy", "confidence": 0.0}
    assert 0.92 - 0.90 > 0.02
    assert not gate(tmp_path, labels, candidate, champion, minimum_gain=0.02, **rules).verdict.blessed
    assert gate(tmp_path, labels, candidate, champion, minimum_gain=0.019, **rules).verdict.blessed
    assert gate(tmp_path, labels, candidate, champion, minimum=0.92, **rules).verdict.blessed


def test_four_rows_are_too_few_although_the_interval_says_otherwise(tmp_path):
    labels = ["good", "bad"] * 15
    champion = [{"good": "bad", "bad": "good"}[label] if row < 4 else label for row, label in enumerate(labels)]
    result = gate(tmp_path, labels, labels, champion, metric="accuracy")
    assert result.certainty.low > 0 and result.certainty.p_value == pytest.approx(1 / 16, abs=0.02)
    assert not result.verdict.blessed and "by chance with probability 0.0" in result.verdict.reason
    assert gate(tmp_path, labels, labels, champion, metric="accuracy", confidence=0.0).verdict.blessed


@pytest.mark.parametrize(("rows", "metric"), [(40, "accuracy"), (40, "macro_f1"), (300, "recall")])
def test_equally_good_models_are_seldom_promoted(rows, metric):
    """At a confidence of 0.9 chance may promote one in 20 times; the bound is four standard deviations above that."""
    rng = np.random.default_rng(11)
    trials, promoted = 200, 0
    for trial in range(trials):
        truth = rng.choice(3, rows, p=[0.6, 0.3, 0.1])
        pairs = pairs_of(truth, noisy(truth, 0.8, rng), noisy(truth, 0.8, rng))
        gain = ConfusionGain(pairs, metric, label=1)
        certainty = measure_certainty(gain, 0.9, 200, trial)
        promoted += gain.candidate > gain.champion and certainty.low > 0 and certainty.p_value <= 0.05
    assert promoted / trials <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / trials)


def test_models_that_differ_are_found_to_differ():
    rng = np.random.default_rng(12)
    found = 0
    for trial in range(20):
        truth = rng.integers(0, 3, 500)
        gain = ConfusionGain(pairs_of(truth, noisy(truth, 0.9, rng), noisy(truth, 0.8, rng)), "macro_f1")
        certainty = measure_certainty(gain, 0.95, 400, trial)
        found += certainty.low > 0 and certainty.p_value <= 0.025
    assert found >= 18


def macro_f1(labels, said):
    hits, predicted, support = (np.bincount(codes, minlength=3) for codes in (labels[labels == said], said, labels))
    return np.mean(2 * hits / (predicted + support))


def test_resampling_counts_is_resampling_rows():
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 3, 200)
    ours, theirs = noisy(truth, 0.85, rng), noisy(truth, 0.8, rng)
    certainty = measure_certainty(ConfusionGain(pairs_of(truth, ours, theirs), "macro_f1"), 0.95, 4000, 0)

    def gain(labels, one, other):
        return macro_f1(labels, one) - macro_f1(labels, other)

    gains, swapped = [], []
    for _ in range(2000):
        drawn = rng.integers(0, 200, 200)
        gains.append(gain(truth[drawn], ours[drawn], theirs[drawn]))
        coins = rng.random(200) < 0.5
        swapped.append(gain(truth, np.where(coins, theirs, ours), np.where(coins, ours, theirs)))
    observed = gain(truth, ours, theirs)
    assert observed == pytest.approx(f1_score(truth, ours, average="macro") - f1_score(truth, theirs, average="macro"))
    assert np.mean(certainty.gains) == pytest.approx(np.mean(gains), abs=0.005)
    assert np.std(certainty.gains) == pytest.approx(np.std(gains), rel=0.1)
    assert certainty.p_value == pytest.approx(np.mean(np.array(swapped) >= observed), abs=0.05)


def test_resampling_in_chunks_gives_no_other_certainty(monkeypatch):
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 3, 200)
    gain = ConfusionGain(pairs_of(truth, noisy(truth, 0.85, rng), noisy(truth, 0.8, rng)), "macro_f1")
    whole = measure_certainty(gain, 0.95, 300, 0)
    monkeypatch.setattr("components.evaluation.compare_models.resample.CHUNK_NUMBERS", 500)
    pieces = measure_certainty(gain, 0.95, 300, 0)
    assert (whole.gains == pieces.gains).all() and whole.p_value == pieces.p_value


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 40))
def test_mcnemar_is_the_exact_binomial_test(ours, theirs, both):
    cells = np.array([[0, 0, 1], [0, 1, 0], [0, 0, 0]])
    pairs = Pairs(["a", "b"], cells, np.array([ours, theirs, both]), ours + theirs + both)
    expected = binomtest(ours, ours + theirs).pvalue if ours + theirs else 1.0
    assert mcnemar_p_value(pairs) == pytest.approx(expected)


def test_a_first_model_is_blessed_when_it_reaches_the_minimum(tmp_path):
    labels = ["good"] * 8 + ["bad"] * 2
    result = gate(tmp_path, labels, ["good"] * 10, None, metric="accuracy", minimum=0.8)
    assert result.verdict.blessed and "there is no champion yet" in result.verdict.reason
    assert result.champion is None and "gain" not in result.metrics and "gain_low" not in result.metrics
    refused = gate(tmp_path, labels, ["good"] * 10, None, metric="accuracy", minimum=0.81)
    assert not refused.verdict.blessed and "0.8 is less than the minimum 0.81" in refused.verdict.reason
    write_comparison(result, tmp_path / "decision", tmp_path / "report.html")
    assert json.loads((tmp_path / "decision").read_text())["interval"] is None
    assert "champion" not in (tmp_path / "report.html").read_text().split("<table>", 1)[1].split("</table>")[0]


def test_a_champion_without_rows_that_is_not_said_to_be_absent_is_refused(tmp_path):
    paths = write(tmp_path / "a", ["good"], ["good"]), write(tmp_path / "b", [], [])
    with pytest.raises(InputError, match="1 predictions and the champion 0"):
        compare(*paths, Rules())


@pytest.mark.parametrize("champion", [None, ["good"] * 3])
def test_without_labelled_rows_nothing_is_blessed(tmp_path, champion):
    result = gate(tmp_path, [None] * 3, ["good"] * 3, champion)
    assert not result.verdict.blessed and "no row has a label" in result.verdict.reason
    assert result.metrics["rows"] == 3 and result.metrics["labelled_rows"] == 0
    write_comparison(result, tmp_path / "decision", tmp_path / "report.html")
    assert json.loads((tmp_path / "decision").read_text())["candidate"] is None


def test_no_rows_at_all_are_not_blessed(tmp_path):
    assert not gate(tmp_path, [], [], []).verdict.blessed
    assert not gate(tmp_path, [], [], None).verdict.blessed


def test_rows_without_a_label_are_left_out(tmp_path):
    labels = ["good", None, "bad", None]
    result = gate(tmp_path, labels, ["good"] * 4, ["bad"] * 4, metric="accuracy", confidence=0.0)
    assert result.metrics["rows"] == 4 and result.metrics["labelled_rows"] == 2 and result.candidate == 0.5


def test_labels_that_a_model_does_not_know_count_as_wrong_and_are_said(tmp_path):
    labels = ["good", "bad", "new"] * 60
    champion = ["good", "bad", "bad"] * 60
    paths = write(tmp_path / "a", labels, labels), write(tmp_path / "b", labels, champion)
    result = compare(
        *paths,
        Rules(),
        candidate_labels=["good", "bad", "new"],
        champion_labels=["good", "bad", "never"],
    )
    assert result.verdict.blessed and result.candidate == 1.0
    assert "60 with “new”, which the champion does not know, count as wrong for it" in result.verdict.reason
    assert "candidate does not know" not in result.verdict.reason and "never" not in result.verdict.reason


def with_probabilities(folder, labels, probabilities):
    return write(folder, labels, ["good"] * len(labels), probabilities)


def losses(tmp_path, candidate, champion, labels=("good", "bad"), absent=False, **rules):
    paths = with_probabilities(tmp_path / "a", labels, candidate), tmp_path / "b"
    with_probabilities(paths[1], [] if absent else labels, [] if absent else champion)
    known = {"candidate_labels": ["bad", "good"], "champion_labels": ["bad", "good"]}
    return compare(*paths, Rules("log_loss", **rules), champion_absent=absent, **known)


def test_less_log_loss_is_better_and_its_minimum_is_the_most_allowed(tmp_path):
    labels = ["good", "bad"] * 40
    sure, unsure = [[0.1, 0.9], [0.8, 0.2]] * 40, [[0.4, 0.6], [0.5, 0.5]] * 40
    result = losses(tmp_path, sure, unsure, labels)
    assert result.candidate == pytest.approx(log_loss(labels, np.array(sure), labels=["bad", "good"]), rel=1e-5)
    assert result.champion == pytest.approx(log_loss(labels, np.array(unsure), labels=["bad", "good"]), rel=1e-5)
    assert result.verdict.blessed and result.difference > 0
    assert not losses(tmp_path, unsure, sure, labels).verdict.blessed
    assert not losses(tmp_path, sure, sure, labels).verdict.blessed
    assert losses(tmp_path, sure, unsure, labels, minimum=0.2).verdict.blessed
    refused = losses(tmp_path, sure, unsure, labels, minimum=0.1)
    assert not refused.verdict.blessed and "more than the most that is allowed" in refused.verdict.reason
    assert losses(tmp_path, sure, None, labels, absent=True).verdict.blessed


@pytest.mark.parametrize("broken", [[math.nan, math.nan], None, [math.inf, 0.0]])
def test_a_log_loss_that_is_not_a_number_blesses_nothing(tmp_path, broken):
    fine = [[0.1, 0.9], [0.8, 0.2]]
    candidate = losses(tmp_path, [fine[0], broken], fine)
    assert not candidate.verdict.blessed and "the candidate's log_loss is not a number" in candidate.verdict.reason
    first = losses(tmp_path, [fine[0], broken], None, absent=True)
    assert not first.verdict.blessed
    champion = losses(tmp_path, fine, [fine[0], broken])
    assert not champion.verdict.blessed and "compare by another metric" in champion.verdict.reason
    for result in (candidate, first, champion):
        assert all(math.isfinite(value) for value in result.metrics.values())
        write_comparison(result, tmp_path / "decision", tmp_path / "report.html")


def test_a_label_that_a_model_does_not_know_costs_it_the_largest_log_loss(tmp_path):
    result = losses(tmp_path, [[0.1, 0.9]], [[0.1, 0.9]], labels=["new"], confidence=0.0)
    assert result.candidate == pytest.approx(-math.log(np.finfo(np.float32).eps))


@pytest.mark.parametrize("rows", [50, LOSS_GROUPS, LOSS_GROUPS + 1, 20_000])
def test_losses_of_many_rows_are_resampled_in_groups_with_the_same_mean_and_spread(rows):
    rng = np.random.default_rng(2)
    sample = np.stack([rng.exponential(1.0, rows), rng.exponential(1.1, rows)])
    gain = LossGain(sample[:, np.lexsort(sample)])
    assert gain.counts.sum() == rows and len(gain.counts) <= LOSS_GROUPS and gain.counts.min() >= 1
    whole = gain.counts[None, :]
    assert gain.resampled(whole)[0] == pytest.approx((sample[1] - sample[0]).mean())
    assert gain.swapped(whole)[0] == pytest.approx(-gain.swapped(whole * 0)[0])
    certainty = measure_certainty(gain, 0.95, 1000, 0)
    assert np.std(certainty.gains) == pytest.approx((sample[1] - sample[0]).std() / math.sqrt(rows), rel=0.1)


def test_the_log_loss_without_probabilities_says_what_to_do(tmp_path):
    paths = write(tmp_path / "a", ["good"], ["good"]), write(tmp_path / "b", ["good"], ["good"])
    with pytest.raises(InputError, match="include_probabilities"):
        compare(*paths, Rules("log_loss"), candidate_labels=["good"], champion_labels=["good"])
    paths = (with_probabilities(tmp_path / "c", ["good"], [[0.5, 0.5]]), paths[1])
    with pytest.raises(InputError, match="predictions of the champion have none"):
        compare(*paths, Rules("log_loss"), candidate_labels=["bad", "good"], champion_labels=["bad", "good"])


def test_what_is_not_the_same_rows_is_refused(tmp_path):
    first = write(tmp_path / "a", ["good", "bad"], ["good", "bad"])
    others = {
        "2 predictions and the champion 1": write(tmp_path / "b", ["good"], ["good"]),
        "Row 1 has the id 'r1'.*'x'": write(tmp_path / "c", ["good", "bad"], ["good", "bad"], ids=["r0", "x"]),
        "Row 0 has the label 'good'.*'bad'": write(tmp_path / "d", ["bad", "bad"], ["good", "bad"]),
        "Row 1 has the label 'bad'.*None": write(tmp_path / "e", ["good", None], ["good", "bad"]),
        "champion have no prediction": write(tmp_path / "f", ["good", "bad"], ["good", None]),
    }
    for message, other in others.items():
        with pytest.raises(InputError, match=message):
            compare(first, other, Rules())


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"metric": "loss"}, "no metric 'loss'.*macro_f1"),
        ({"metric": "f1:"}, "no metric 'f1:'"),
        ({"minimum": 90}, "minimum is 90.*from 0 to 1"),
        ({"minimum_gain": -0.1}, "minimum_gain is -0.1"),
        ({"minimum": math.nan}, "minimum is nan"),
        ({"confidence": 95}, "confidence is 95"),
        ({"confidence": 0.999}, "10,000 resamples or more"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rules, message):
    with pytest.raises(InputError, match=message):
        Rules(**rules)


def test_a_metric_of_a_label_without_rows_is_refused(tmp_path):
    with pytest.raises(InputError, match="No row has the label 'ugly'.*bad, good"):
        gate(tmp_path, ["good", "bad"], ["good", "ugly"], ["good", "bad"], metric="recall:ugly")


def test_a_label_column_of_free_text_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("components.evaluation.compare_models.pairs.MOST_LABELS", 50)
    labels = [f"label {number}" for number in range(60)]
    with pytest.raises(InputError, match="more than 50 labels"):
        gate(tmp_path, labels, labels, labels)


def test_counting_in_pieces_gives_the_same(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 300)
    columns = [[LABELS[code] for code in codes] for codes in (truth, noisy(truth, 0.8, rng), noisy(truth, 0.7, rng))]
    whole = gate(tmp_path, *columns)
    monkeypatch.setattr("components.evaluation.compare_models.pairs.MERGE_CELLS", 3)
    monkeypatch.setattr("components.datasets.ROW_GROUP_ROWS", 11)
    assert gate(tmp_path, *columns).metrics == whole.metrics


def test_the_decision_is_written_whole_to_a_folder(tmp_path):
    result = gate(tmp_path, ["good", "bad"] * 30, ["good", "bad"] * 30, ["good", "good"] * 30)
    target = tmp_path / "out" / "deep"
    for _ in range(2):
        write_comparison(result, tmp_path / "decision", tmp_path / "report.html", str(target))
    assert [path.name for path in target.iterdir()] == ["decision.json"]
    decision = json.loads((target / "decision.json").read_text())
    assert decision == json.loads((tmp_path / "decision").read_text())
    assert decision["version"] == 1 and decision["blessed"] is True and decision["metric"] == "macro_f1"
    assert decision["interval"] == [result.metrics["gain_low"], result.metrics["gain_high"]]
    assert decision["gain"] == pytest.approx(decision["candidate"] - decision["champion"])
    assert decision["rows"] == 60 and decision["time"].endswith("Z") and decision["reason"] == result.verdict.reason


def test_the_decision_is_written_to_cloud_storage(tmp_path, storage_emulator):
    result = gate(tmp_path, ["good"], ["good"], None)
    write_comparison(result, tmp_path / "decision", tmp_path / "report.html", "gs://bucket/run/out/")
    fs = fsspec.filesystem("gs", token="anon")
    fs.invalidate_cache()
    assert fs.find("bucket") == ["bucket/run/out/decision.json"]
    assert json.loads(fs.cat_file("bucket/run/out/decision.json"))["blessed"] is True


def test_a_place_for_the_decision_that_is_none_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InputError, match="s3"):
        write_comparison(
            gate(tmp_path, ["good"], ["good"], None), tmp_path / "decision", tmp_path / "report.html", "s3://bucket"
        )
    assert not (tmp_path / "decision").exists()


@pytest.mark.parametrize("labels", [1, 31, 120])
def test_a_report_can_be_drawn_for_any_number_of_labels(tmp_path, labels):
    rng = np.random.default_rng(1)
    truth = rng.integers(0, labels, 600)
    columns = [[f"label {code}" for code in codes] for codes in (truth, noisy(truth, 0.8, rng, max(2, labels)), truth)]
    result = gate(tmp_path, *columns, resamples=400)
    write_comparison(result, tmp_path / "decision", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "The candidate is not blessed" in page and len(page) < 1_000_000


def test_the_report_escapes_what_users_wrote_and_shows_rows_that_one_model_lost(tmp_path):
    evil = "<script>alert(1)</script>"
    paths = (
        write(tmp_path / "a", [evil] * 30, ["x"] * 30, texts=[f"{evil} {number}" for number in range(30)]),
        write(tmp_path / "b", [evil] * 30, [evil] * 30),
    )
    write_comparison(compare(*paths, Rules()), tmp_path / "decision", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page and page.count("&lt;script&gt;alert(1)&lt;/script&gt; ") == 10


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def promote(reason: str) -> str:
    return f"promoted: {reason}"


@dsl.pipeline
def promotion(candidate: str, champion: str, absent: bool, output_uri: str):
    labels = ["good", "bad"]
    ours = dsl.importer(artifact_uri=candidate, artifact_class=dsl.Dataset, metadata={"labels": labels})
    theirs = dsl.importer(
        artifact_uri=champion, artifact_class=dsl.Dataset, metadata={"labels": labels, "absent": absent}
    )
    compared = compare_models(candidate=ours.output, champion=theirs.output, output_uri=output_uri)
    with dsl.If(compared.outputs["blessed"] == True):  # noqa: E712
        promote(reason=compared.outputs["reason"])


@pytest.mark.parametrize("case", ["better", "worse", "first"])
def test_a_step_after_the_gate_runs_only_if_the_candidate_is_blessed(tmp_path, case):
    labels, poor = ["good", "bad"] * 40, ["good", "good"] * 40
    candidate = poor if case == "worse" else labels
    champion = ([], []) if case == "first" else (labels, labels if case == "worse" else poor)
    write(tmp_path / "a", labels, candidate)
    write(tmp_path / "b", *champion)
    arguments = {"candidate": str(tmp_path / "a"), "champion": str(tmp_path / "b"), "absent": case == "first"}
    local = run_pipeline(promotion, tmp_path, output_uri=str(tmp_path / "out"), **arguments)
    blessed = case != "worse"
    assert local.parameter("compare-models", "blessed") is blessed
    reason = local.parameter("compare-models", "reason")
    assert ("Executing task 'promote'" in local.log) is blessed
    path, metadata = local.artifact("compare-models", "decision")
    assert metadata["blessed"] == blessed and json.loads(path.read_text())["reason"] == reason
    assert json.loads((tmp_path / "out" / "decision.json").read_text())["blessed"] is blessed
    path, _ = local.artifact("compare-models", "report")
    assert path.name == "report.html" and reason.split("'")[0] in path.read_text()


def test_the_example_of_the_readme_compiles(tmp_path):
    text = (Path(compare_module.__file__).parent / "README.md").read_text()
    names: dict = {}
    exec(textwrap.dedent(re.search(r"^    .*\n(?:    .*\n|\n)*", text, re.MULTILINE)[0]), names)
    tasks = names["promote"].pipeline_spec.root.dag.tasks
    assert "compare-models" in tasks and any(name.startswith("condition") for name in tasks)
