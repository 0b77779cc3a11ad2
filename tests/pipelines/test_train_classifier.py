"""Training from rows to a champion, through the runner: what is promoted, refused and taken from the cache."""

import json
from pathlib import Path

import pytest

from components.deployment.store.store import ModelStore
from emulator.records import LOG_FILE
from emulator.runner import run_job
from pipelines.compile import compile_pipeline
from tests.training_rows import LABELS, TRAINING, write_rows

# Nothing but what cannot be known beforehand, or must happen each time, may run again.
NEVER_CACHED = {
    "fingerprint-source",
    "fingerprint-source-2",
    "read-hyperparameters",
    "pin-model",
    "pin-model-2",
    "compare-models",
    "push-model",
    "publish-outcome",
}


class Trainings:
    """Runs of train_classifier over the same rows, with one store and one cache."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.spec = compile_pipeline("train_classifier")
        self.store = ModelStore(str(folder / "models"))
        write_rows(folder / "rows.csv")

    def run(self, check=True, **parameters):
        number = len(list(self.folder.glob("job-*")))
        job = self.folder / f"job-{number}"
        given = {
            "input_uri": str(self.folder / "rows.csv"),
            "store_uri": str(self.folder / "models"),
            "model_name": "tickets",
            "output_uri": str(self.folder / "decision"),
            **TRAINING,
        }
        record = run_job(self.spec, given | parameters, job, cache_folder=self.folder / "cache")
        assert not check or record.state == "SUCCEEDED", (job / LOG_FILE).read_text()
        return record

    def decision(self):
        return json.loads((self.folder / "decision" / "decision.json").read_text())


def steps(record):
    return {task.name: task for task in record.tasks if not task.dag}


def executed(record):
    """The names of the steps that ran, rather than taking their outputs from the cache."""
    return {name for name, task in steps(record).items() if task.state == "SUCCEEDED" and not task.cached}


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    return Trainings(tmp_path_factory.mktemp("trainings"))


@pytest.fixture(scope="module")
def first(trainings):
    """The first run, and the version that it made the champion."""
    record = trainings.run()
    (version,) = trainings.store.versions("tickets")
    return record, version


def test_a_first_model_becomes_the_champion_and_its_card_says_what_it_comes_from(trainings, first):
    record, version = first
    assert trainings.store.aliases("tickets") == {"champion": version}
    metrics = steps(record)["evaluate-classifier"].outputs.artifacts["metrics"][0].metadata
    assert metrics["accuracy"] > 0.9
    details = trainings.store.find("tickets", "champion").details
    assert details["labels"] == sorted(LABELS)
    assert details["metrics"]["macro_f1"] == pytest.approx(metrics["macro_f1"])


def test_a_second_run_trains_nothing_and_a_tie_leaves_the_champion(trainings, first):
    _, version = first
    record = trainings.run()
    # The champion is new since the first run, and judged once.
    assert executed(record) <= NEVER_CACHED | {"resolve-model-2", "evaluate-classifier-2"}
    assert steps(record)["finetune-classifier"].cached
    decision = trainings.decision()
    assert not decision["blessed"] and decision["gain"] == 0
    assert "push-model" not in executed(record)
    assert trainings.store.aliases("tickets") == {"champion": version}


def test_a_worse_candidate_is_refused_with_the_reason(trainings, first):
    _, version = first
    record = trainings.run(hyperparameters={"epochs": 1, "learning_rate": 1e-8})
    assert "finetune-classifier" in executed(record) and steps(record)["split-dataset"].cached
    decision = trainings.decision()
    assert not decision["blessed"] and decision["gain"] < 0
    assert decision["reason"] == steps(record)["compare-models"].outputs.parameters["reason"]
    assert trainings.store.aliases("tickets") == {"champion": version}


def test_a_search_gives_the_hyperparameters_that_are_trained_with(trainings, first):
    record = trainings.run(tune_trials=2, hyperparameters={"epochs": 1})
    best = steps(record)["tune-hyperparameters"].outputs.parameters["best"]
    assert best["epochs"] == 1 and "learning_rate" in best
    trained = steps(record)["finetune-classifier"]
    assert trained.inputs.parameters["hyperparameters"] == best
    assert "read-hyperparameters-2" not in executed(record)


def test_rows_that_break_a_reviewed_schema_end_the_run_before_anything_is_trained(trainings, first):
    schema = Path(steps(first[0])["infer-schema"].outputs.artifacts["schema"][0].path)
    reviewed = json.loads(schema.read_text())
    reviewed["label"]["values"] = ["billing", "access"]
    (trainings.folder / "schema.json").write_text(json.dumps(reviewed))
    record = trainings.run(check=False, schema_uri=str(trainings.folder / "schema.json"))
    assert (
        record.state == "FAILED"
        and "validate-dataset" in record.error["message"]
        and "delivery" in record.error["message"]
    )
    assert "finetune-classifier" not in executed(record)
