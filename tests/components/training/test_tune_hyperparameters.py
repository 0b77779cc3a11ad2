import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp import dsl
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from components.errors import InputError
from components.models import write_absent
from components.training.hyperparameters import load_hyperparameters, parse_hyperparameters
from components.training.tune_hyperparameters.component import tune_hyperparameters
from components.training.tune_hyperparameters.report import Searched, build_page, find_importance
from components.training.tune_hyperparameters.search import HOPELESS_TRIALS, finished_trials, search
from components.training.tune_hyperparameters.space import DEFAULT_SPACE, build_space, default_point
from components.training.tune_hyperparameters.storage import FILE, STUDY, TrialFile
from components.training.tune_hyperparameters.tune import tune
from tests.components.training.corpus import build_base, make_rows, write_dataset
from tests.local_run import run_pipeline
from tests.readme_example import readme_pipeline


def quality(hyperparameters):
    """A landscape with one summit: rate 4e-5, no dropout."""
    return 0.9 - 0.2 * abs(math.log10(hyperparameters.learning_rate / 4e-5)) - 0.3 * (hyperparameters.dropout or 0)


def train(hyperparameters, on_evaluation):
    for epoch in range(1, int(hyperparameters.epochs) + 1):
        value = quality(hyperparameters) - 0.3 / epoch
        on_evaluation(epoch * 10, {"macro_f1": value, "loss": 1 - value})
    return {"macro_f1": value, "loss": 1 - value}


def run_search(trials=12, uri="", train=train, fixed=None, seconds=0.0):
    fixed = fixed or {}
    return search(TrialFile(uri), build_space({}, fixed), fixed, trials, seconds, train)


def trials_of(study):
    return [(trial.number, trial.state, trial.params, trial.value) for trial in study.trials]


def test_the_default_space_holds_the_defaults():
    space = build_space({}, {})
    assert list(space) == ["learning_rate", "epochs", "batch_size", "warmup_share", "dropout"]
    assert set(space) == set(DEFAULT_SPACE)
    point = {"learning_rate": 5e-5, "epochs": 3, "batch_size": 16, "warmup_share": 0.1, "dropout": 0.1}
    assert default_point(space) == point


def test_a_space_is_laid_over_the_default_name_by_name():
    space = build_space(
        {
            "learning_rate": {"low": 1e-6, "high": 1e-3, "log": True},
            "batch_size": [8.0, 4.0],
            "max_length": {"low": 32.0, "high": 128.0, "step": 32.0},
            "schedule": ["linear", "cosine"],
            "dropout": [None, 0.1],
        },
        {"epochs": 2.0},
    )
    assert space == {
        "learning_rate": FloatDistribution(1e-6, 1e-3, log=True),
        "batch_size": CategoricalDistribution([8, 4]),
        "max_length": IntDistribution(32, 128, step=32),
        "schedule": CategoricalDistribution(["linear", "cosine"]),
        "warmup_share": FloatDistribution(0.0, 0.2),
        "dropout": CategoricalDistribution([None, 0.1]),
    }
    assert default_point(space) == {"learning_rate": 5e-5, "schedule": "linear", "warmup_share": 0.1, "dropout": None}


@pytest.mark.parametrize(
    ("space", "fixed", "message"),
    [
        ({"lerning_rate": [1e-5]}, {}, "no hyper-parameter 'lerning_rate' to search. Did you mean learning_rate?"),
        ({"metric": ["loss", "accuracy"]}, {}, "metric cannot be searched"),
        ({"epochs": [1, 2]}, {"epochs": 3}, "epochs is both searched and fixed"),
        ({"epochs": 3}, {}, "The space of epochs is 3"),
        ({"epochs": []}, {}, "The space of epochs is \\[\\]"),
        ({"batch_size": [8, 8.0]}, {}, "names a value twice"),
        ({"batch_size": [8, 0]}, {}, "batch_size is 0"),
        ({"dropout": {"low": 0, "high": 2}}, {}, "dropout is 2"),
        ({"dropout": {"low": 0}}, {}, "lacks low or high"),
        ({"dropout": {"low": 0, "high": 0.5, "lgo": True}}, {}, "has 'lgo'"),
        ({"dropout": {"low": 0.5, "high": 0.1}}, {}, "goes from 0.5 to 0.1"),
        ({"dropout": {"low": 0, "high": 0.5, "log": True}}, {}, "cannot be logarithmic"),
        ({"dropout": {"low": 0, "high": 0.5, "step": 1}}, {}, "step of dropout is 1"),
        ({"batch_size": {"low": 8, "high": 32, "step": 0.5}}, {}, "its values are whole"),
        ({"schedule": {"low": "cosine", "high": "linear"}}, {}, "have no order"),
        ({}, dict.fromkeys(DEFAULT_SPACE, 0.1), "Every hyper-parameter that would be searched is fixed"),
    ],
)
def test_a_wrong_space_is_refused(space, fixed, message):
    with pytest.raises(InputError, match=message):
        build_space(space, fixed)


@settings(max_examples=40, deadline=None)
@given(st.floats(1e-7, 1e-3), st.floats(1.5, 100), st.booleans(), st.integers(0, 2**32 - 1))
def test_what_is_drawn_lies_in_the_space(low, factor, log, seed):
    space = build_space({"learning_rate": {"low": low, "high": low * factor, "log": log}}, {})
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    params = study.ask(space).params
    assert low <= params["learning_rate"] <= low * factor
    drawn = parse_hyperparameters(params)
    assert 1 <= drawn.epochs <= 5 and drawn.batch_size in (8, 16, 32, 64)


def test_the_search_begins_with_the_defaults_and_finds_better_values(capsys):
    study = run_search(trials=25)
    first = study.trials[0]
    assert first.params == default_point(build_space({}, {}))
    assert study.best_value > first.value and study.best_trial.number > 0
    states = {trial.state for trial in study.trials}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    assert all(
        len(trial.intermediate_values) in (2, 3, 4) for trial in study.trials if trial.state == TrialState.PRUNED
    )
    said = capsys.readouterr().out
    assert said.count("tune_hyperparameters: trial ") == 25 and "trial 25 of 25: " in said
    assert "stopped early: worse than the median at evaluation" in said


def test_a_loss_is_minimized():
    study = run_search(fixed={"metric": "loss"})
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    assert study.best_value == min(trial.value for trial in study.trials if trial.state == TrialState.COMPLETE)


def test_the_seed_decides_the_trials():
    one, two = run_search(fixed={"seed": 5}), run_search(fixed={"seed": 5})
    other = run_search(fixed={"seed": 6})
    assert trials_of(one) == trials_of(two) != trials_of(other)


def test_a_search_that_was_ended_takes_the_same_way_as_one_that_was_not(tmp_path, capsys):
    whole = run_search(trials=14)
    kept = str(tmp_path / "kept")

    def breaks(hyperparameters, on_evaluation):
        if len(finished_trials(TrialFile(kept).open("maximize"))) == 7:
            raise ConnectionError("the machine is gone")
        return train(hyperparameters, on_evaluation)

    with pytest.raises(ConnectionError):
        run_search(trials=14, uri=kept, train=breaks)
    capsys.readouterr()
    resumed = run_search(trials=14, uri=kept)
    assert trials_of(resumed) == trials_of(whole)
    said = capsys.readouterr().out
    assert "going on after 7 finished trials" in said and said.count(" of 14: ") == 7
    # With all trials there nothing is trained, and a longer search goes on.
    assert trials_of(run_search(trials=14, uri=kept, train=None)) == trials_of(whole)
    assert len(run_search(trials=16, uri=kept).trials) == 16
    assert [path.name for path in Path(kept).iterdir()] == [FILE]
    # Optuna's own tools can read it.
    journal = JournalStorage(JournalFileBackend(f"{kept}/{FILE}"))
    assert trials_of(optuna.load_study(study_name=STUDY, storage=journal))[:14] == trials_of(whole)


def test_trials_are_kept_on_cloud_storage(storage_emulator):
    first = run_search(trials=3, uri="gs://bucket/search")
    assert fsspec.filesystem("gs", token="anon").find("bucket/search") == [f"bucket/search/{FILE}"]
    second = run_search(trials=4, uri="gs://bucket/search")
    assert trials_of(second)[:3] == trials_of(first) and len(second.trials) == 4


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(capsys):
    def fails_with_high_rates(hyperparameters, on_evaluation):
        if hyperparameters.learning_rate > 5e-5:
            raise InputError("The loss is no number.", "Give a smaller learning_rate.")
        if hyperparameters.batch_size == 64:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return train(hyperparameters, on_evaluation)

    study = run_search(trials=20, train=fails_with_high_rates)
    failed = [trial for trial in study.trials if trial.state == TrialState.FAIL]
    assert len(study.trials) == 20 and 0 < len(failed) < 20
    reasons = " ".join(trial.user_attrs["reason"] for trial in failed)
    assert "The loss is no number. Give a smaller learning_rate." in reasons and "can't allocate memory" in reasons
    assert "failed: The loss is no number" in capsys.readouterr().out
    assert study.best_params["learning_rate"] <= 5e-5


@pytest.mark.parametrize(("trials", "tried"), [(2, 2), (20, HOPELESS_TRIALS)])
def test_when_every_trial_fails_the_search_ends_and_keeps_nothing(tmp_path, trials, tried):
    calls = []

    def fails(hyperparameters, on_evaluation):
        calls.append(hyperparameters)
        raise InputError("The loss is no number.", "Give a smaller learning_rate.")

    with pytest.raises(InputError, match=f"All {tried} trials failed, the last because: The loss is no number"):
        run_search(trials=trials, uri=str(tmp_path / "kept"), train=fails)
    assert len(calls) == tried and not list((tmp_path / "kept").iterdir())


def test_an_error_that_may_pass_ends_the_search():
    def breaks(hyperparameters, on_evaluation):
        raise RuntimeError("NCCL: connection closed")

    with pytest.raises(RuntimeError, match="connection closed"):
        run_search(train=breaks)


def test_when_the_time_is_over_a_running_trial_ends_and_none_begins(capsys):
    trained = []

    def slow(hyperparameters, on_evaluation):
        trained.append(hyperparameters)
        for step in range(1000):
            # The first trial ends in time, and the second takes much longer than there is.
            time.sleep(0.0 if len(trained) == 1 else 0.02)
            on_evaluation(step, {"macro_f1": 0.5})
        return {"macro_f1": 0.5}

    study = run_search(trials=500, seconds=1.5, train=slow, fixed={"epochs": 1000})
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert study.trials[1].user_attrs["reason"] == "the time was over"
    assert "the time is over after 2 of 500 trials" in capsys.readouterr().out


def test_at_least_one_trial_is_completed_however_little_time_there_is():
    study = run_search(trials=500, seconds=1e-6)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE]


def test_the_report_shows_every_trial_and_what_mattered():
    def sometimes(hyperparameters, on_evaluation):
        if hyperparameters.batch_size == 8:
            raise InputError("<script>", "")
        return train(hyperparameters, on_evaluation)

    study = run_search(trials=40, train=sometimes, fixed={"max_length": 64})
    importance = find_importance(study)
    assert set(importance) == set(DEFAULT_SPACE) and sum(importance.values()) == pytest.approx(1)
    page = build_page(Searched(study, build_space({}, {"max_length": 64}), {"max_length": 64}, "macro_f1", 50))
    assert page.notes == ["The time was over after 40 of 50 trials."]
    assert [chart.heading for chart in page.charts] == ["History", "What mattered", *build_space({}, {})]
    html = page.render()
    assert "<script" not in html and "mathdefault" not in html and f"{study.best_value:.4f}" in html
    assert [len(table.rows) for table in page.tables] == [6, 40]


def test_a_single_trial_gives_a_report():
    study = run_search(trials=1)
    html = build_page(Searched(study, build_space({}, {}), {}, "macro_f1", 1)).render()
    assert "What mattered" not in html and "History" in html


SMALL = {"batch_size": [16, 32], "learning_rate": {"low": 5e-4, "high": 5e-3, "log": True}, "epochs": [1, 2]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune")
    write_dataset(folder / "train", make_rows(60, seed=1))
    write_dataset(folder / "validation", make_rows(30, seed=2))
    build_base(folder / "base")
    return folder


def run_tune(data, output, **given):
    output.mkdir(exist_ok=True)
    paths = {"best_path": output / "best", "metrics_path": output / "metrics", "report_path": output / "report"}
    return tune(data / "train", data / "validation", data / "base", **paths, **{"space": SMALL, **given})


def test_models_are_trained_and_the_best_settings_written(data, tmp_path):
    result = run_tune(data, tmp_path / "out", trials=3, hyperparameters={"metric": "accuracy", "dropout": 0.0})
    assert set(result.best) == {"learning_rate", "epochs", "batch_size", "warmup_share", "dropout", "metric"}
    assert load_hyperparameters(tmp_path / "out" / "best") == result.best
    assert json.loads((tmp_path / "out" / "metrics").read_text()) == result.metrics
    assert result.metrics["trials"] == result.metrics["completed"] == 3
    assert 0.3 < result.metrics["best_accuracy"] <= 1
    assert "<h1>Search for hyper-parameters</h1>" in (tmp_path / "out" / "report").read_text()


def test_a_model_is_built_from_nothing(data, tmp_path):
    write_absent(tmp_path / "absent", "")
    config = {"model_type": "distilbert", "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16, "vocab_size": 200}
    paths = {name: tmp_path / name for name in ("best_path", "metrics_path", "report_path")}
    arguments = {"trials": 2, "space": SMALL, "model_config": config}
    result = tune(data / "train", data / "validation", tmp_path / "absent", **paths, **arguments)
    assert result.metrics["trials"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trials": 0}, "trials is 0"),
        ({"timeout_minutes": -1}, "timeout_minutes is -1"),
        ({"hyperparameters": {"epoch": 1}}, "no hyper-parameter 'epoch'"),
        ({"space": {"epoch": [1]}}, "no hyper-parameter 'epoch' to search"),
    ],
)
def test_a_wrong_setting_is_refused_and_nothing_is_written(data, tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        run_tune(data, tmp_path / "out", **arguments)
    assert not list((tmp_path / "out").iterdir())


def test_rows_without_labels_are_refused_before_a_trial(data, tmp_path):
    write_dataset(tmp_path / "train", [(text, None) for text, _ in make_rows(10)])
    paths = {name: tmp_path / name for name in ("best_path", "metrics_path", "report_path")}
    with pytest.raises(InputError) as refused:
        tune(tmp_path / "train", data / "validation", data / "base", **paths)
    assert "trials failed" not in str(refused.value)


SEARCH = """
import sys
from pathlib import Path
from tests.components.training.test_tune_hyperparameters import run_tune
run_tune(Path(sys.argv[1]), Path(sys.argv[2]), trials=200, checkpoint_uri=sys.argv[3])
"""


def test_a_search_that_was_killed_goes_on_where_it_was(data, tmp_path, capsys):
    kept = tmp_path / "kept"
    command = [sys.executable, "-c", SEARCH, str(data), str(tmp_path / "killed"), str(kept)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while count_finished(kept) < 3:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    finished = count_finished(kept)
    assert not list((tmp_path / "killed").iterdir())
    result = run_tune(data, tmp_path / "out", trials=finished + 1, checkpoint_uri=str(kept))
    said = capsys.readouterr().out
    assert f"going on after {finished} finished trials" in said
    assert said.count("tune_hyperparameters: trial ") == 1 and f"trial {finished + 1} of {finished + 1}: " in said
    assert result.metrics["trials"] == finished + 1
    # Other data or settings are another search.
    other = run_tune(data, tmp_path / "other", trials=1, checkpoint_uri=str(kept), hyperparameters={"seed": 1})
    assert other.metrics["trials"] == 1 and len(list(kept.iterdir())) == 2


def count_finished(kept):
    files = list(kept.glob(f"search-*/{FILE}"))
    return len(finished_trials(TrialFile(str(files[0].parent)).open("maximize"))) if files else 0


@dsl.pipeline
def tuning(train_uri: str, validation_uri: str, model_uri: str, space: dict, trials: int = 2) -> dict:
    train_ = dsl.importer(artifact_uri=train_uri, artifact_class=dsl.Dataset)
    validation = dsl.importer(artifact_uri=validation_uri, artifact_class=dsl.Dataset)
    model = dsl.importer(artifact_uri=model_uri, artifact_class=dsl.Model)
    task = tune_hyperparameters(
        train=train_.output,
        validation=validation.output,
        base_model=model.output,
        trials=trials,
        space=space,
        hyperparameters={"max_length": 32},
    )
    return task.outputs["best"]


def test_the_component_runs(data, tmp_path):
    uris = {f"{name}_uri": str(data / name) for name in ("train", "validation")}
    run = run_pipeline(tuning, tmp_path, **uris, model_uri=str(data / "base"), space=SMALL)
    best = run.parameter("tune-hyperparameters", "best")
    assert best["max_length"] == 32 and best["batch_size"] in (16, 32)
    path, metadata = run.artifact("tune-hyperparameters", "best_hyperparameters")
    assert load_hyperparameters(path) == best == metadata
    path, metadata = run.artifact("tune-hyperparameters", "metrics")
    assert json.loads(path.read_text()) == metadata and metadata["trials"] == 2
    path, _ = run.artifact("tune-hyperparameters", "report")
    assert path.name == "report.html" and "<svg" in path.read_text()


def test_the_example_of_the_readme_compiles():
    assert "comp-tune-hyperparameters" in readme_pipeline("tune_hyperparameters").pipeline_spec.components


def test_trials_are_kept_where_a_retry_finds_them_also_in_a_store_unknown_here(tmp_path, monkeypatch):
    """kfp on Kubernetes gives `minio://` URIs and mounts them; only the path can be written."""
    from components.training.tune_hyperparameters import component, tune

    class Stop(Exception):
        pass

    def stop(*paths, checkpoint_uri, **rest):
        raise Stop(checkpoint_uri)

    monkeypatch.setattr(tune, "tune", stop)
    names = ("train", "validation", "base_model", "best_hyperparameters", "metrics", "report")
    artifacts = {name: dsl.Artifact(uri=f"minio://bucket/job/step/{name}") for name in names}
    with pytest.raises(Stop, match="^/minio/bucket/job/checkpoints$"):
        component.tune_hyperparameters.python_func(**artifacts)
    for artifact in artifacts.values():
        artifact.uri = artifact.uri.replace("minio", "gs")
    with pytest.raises(Stop, match="^gs://bucket/job/checkpoints$"):
        component.tune_hyperparameters.python_func(**artifacts)
