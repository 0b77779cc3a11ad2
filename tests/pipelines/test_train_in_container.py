"""Training in an image of one's own: the example image, through the emulator's runner."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest

from components.deployment.store.store import ModelStore
from components.training.open_checkpoints.open import choose_folder
from emulator.records import LOG_FILE
from emulator.runner import run_job
from pipelines.compile import compile_pipeline
from tests.container_images import base_image, build, need_engine
from tests.training_rows import LABELS, write_rows
from triggers.training_image import with_training_image

EXAMPLE = Path(__file__).parents[2] / "examples" / "sklearn_training"
IMAGE = "localhost/kfp-transformers-test-sklearn:1"


class Trainings:
    """Runs of train_classifier_in_container over the same rows, with one store and one cache."""

    def __init__(self, folder):
        self.folder = folder
        self.store = ModelStore(str(folder / "models"))
        self.compiled = compile_pipeline("train_classifier_in_container")
        write_rows(folder / "rows.csv", rows_per_label=60)

    def log(self, record):
        return (self.folder / record.id / LOG_FILE).read_text()

    def run(self, check=True, enable_caching=None, **parameters):
        job = self.folder / f"job-{len(list(self.folder.glob('job-*')))}"
        given = {
            "training_image": IMAGE,
            "input_uri": str(self.folder / "rows.csv"),
            "store_uri": str(self.folder / "models"),
            "model_name": "tickets",
            "validation_fraction": 0.2,
            "test_fraction": 0.3,
            "output_uri": str(self.folder / "decision"),
        } | parameters
        spec = with_training_image(self.compiled, given, {IMAGE})
        record = run_job(spec, given, job, enable_caching=enable_caching, cache_folder=self.folder / "cache")
        assert not check or record.state == "SUCCEEDED", (job / LOG_FILE).read_text()
        return record

    def decision(self):
        return json.loads((self.folder / "decision" / "decision.json").read_text())


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    engine = need_engine()
    # Where packages come from is the machine's affair: BUILD_ARGS is what `make images` takes, too.
    arguments = ["--build-arg", f"BASE_IMAGE={base_image(engine)}", *shlex.split(os.environ.get("BUILD_ARGS", ""))]
    build(engine, IMAGE, EXAMPLE, *arguments)
    return Trainings(tmp_path_factory.mktemp("trainings"))


@pytest.fixture(scope="module")
def first(trainings):
    return trainings.run()


def test_a_program_of_another_framework_becomes_the_champion(trainings, first):
    trained = first.task("train-in-container")
    assert trained.container["image"] == IMAGE and trained.container["engine"] in ("docker", "podman", "buildah")
    assert trained.container["command"][:2] == ["train", "--train"]
    (version,) = trainings.store.versions("tickets")
    assert trainings.store.aliases("tickets") == {"champion": version}
    details = trainings.store.find("tickets", "champion").details
    assert (details["architecture"], details["labels"]) == ("container", sorted(LABELS))
    assert details["lineage"]["training_image"] == IMAGE
    metrics = first.task("evaluate-predictions").outputs.artifacts["metrics"][0].metadata
    assert metrics["accuracy"] > 0.9 and metrics["log_loss"] < 1
    assert details["metrics"]["accuracy"] == pytest.approx(metrics["accuracy"])
    assert trainings.decision()["blessed"]


def test_a_second_run_trains_nothing_and_compares_with_the_champion(trainings, first):
    record = trainings.run()
    assert record.task("train-in-container").cached
    decision = trainings.decision()
    assert not decision["blessed"] and decision["gain"] == 0 and decision["champion"] == decision["candidate"]


def test_what_the_program_refuses_is_the_steps_error_and_is_tried_once(trainings, first):
    record = trainings.run(check=False, hyperparameters={"learning_rate": 1})
    error = record.task("train-in-container").error
    assert error.startswith("InputError: There is no hyper-parameter 'learning_rate'; there are: strengths")
    assert record.state == "FAILED" and error in record.error["message"]
    assert trainings.log(record).count("train-in-container] InputError: ") == 1


def test_training_goes_on_from_what_an_earlier_attempt_kept(trainings, first):
    options = {"checkpoint_uri": str(trainings.folder / "kept"), "hyperparameters": {"strengths": [2.0, 5.0]}}
    trainings.run(**options)
    (folder,) = (trainings.folder / "kept").iterdir()
    # No training gets this result: it is the kept one when the program tells it again.
    (folder / "trials.json").write_text(json.dumps({"2.0": 0.125}))
    again = trainings.run(enable_caching=False, **options)
    assert re.search(r"strength 2\.0: macro F1 0\.1250", trainings.log(again))
    assert list(json.loads((folder / "trials.json").read_text())) == ["2.0", "5.0"]


def test_other_settings_have_other_checkpoints(tmp_path):
    facts = {"train": "a", "validation": "b", "hyperparameters": {"depth": 3}, "image": "i"}
    own, kept = str(tmp_path / "own"), str(tmp_path / "kept")
    assert choose_folder(own, **facts) == own and Path(own).is_dir()
    one = choose_folder(own, kept, **facts)
    assert one == choose_folder(own, kept, **dict(reversed(facts.items()))) and Path(one).is_dir()
    assert one != choose_folder(own, kept, **facts | {"hyperparameters": {"depth": 4}})
    assert choose_folder(own, "gs://bucket/kept", **facts).startswith("gs://bucket/kept/")
