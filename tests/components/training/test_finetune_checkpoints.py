import signal
import subprocess
import sys
from pathlib import Path

import pytest

from components.training.finetune_classifier.checkpoints import CheckpointStore
from tests.components.training.training_runs import FAST, train, weights

pytestmark = pytest.mark.usefixtures("one_thread")

KILLED = """
import os, signal, sys
from components.training.finetune_classifier import checkpoints, trainer
from components.training.finetune_classifier import callbacks
from components.training.finetune_classifier.component import finetune_classifier
from components.training.finetune_classifier.finetune import finetune
from components.training.hyperparameters import parse_hyperparameters

folder, output, uri, settings, where = sys.argv[1:]
if where.startswith("step"):
    step = trainer.ClassifierTrainer.training_step

    def training_step(self, *arguments):
        if self.state.global_step == int(where.split()[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *arguments)

    trainer.ClassifierTrainer.training_step = training_step
else:
    describe = checkpoints._describe

    def killing(path):
        # In the middle of the second checkpoint's upload.
        if path.name == "optimizer.pt" and "checkpoint-12" in str(path):
            os.kill(os.getpid(), signal.SIGKILL)
        return describe(path)

    checkpoints._describe = killing
finetune(f"{folder}/train", f"{folder}/validation", f"{folder}/base", output,
         parse_hyperparameters(eval(settings)), checkpoint_uri=uri)
"""


# An epoch has 6 steps: killed in the third epoch, in an upload, and after a checkpoint in the middle of an epoch.
@pytest.mark.parametrize(("where", "resumed", "per_epoch"), [("step 15", 12, 1), ("upload", 6, 1), ("step 10", 9, 2)])
def test_a_killed_run_goes_on_where_it_was(data, tmp_path, capsys, where, resumed, per_epoch):
    # Dropout, masking and the best checkpoint before the end: everything that has a state.
    settings = {**FAST, "epochs": 4, "dropout": 0.2, "token_masking": 0.2, "learning_rate": 1e-2}
    settings["evaluations_per_epoch"] = per_epoch
    uri, killed = tmp_path / "checkpoints", tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(data), str(killed), str(uri), repr(settings), where]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not killed.exists()

    expected = train(data, tmp_path / "expected", **settings)
    result = train(data, killed, checkpoint_uri=str(uri), **settings)
    assert f"resumes after step {resumed}" in capsys.readouterr().out
    assert result.metadata["resumed_after_step"] == resumed
    assert result.evaluations == expected.evaluations and len(result.evaluations) == 4 * per_epoch
    for name in ("steps", "epochs", "best_step", "train_loss"):
        assert result.metrics[name] == pytest.approx(expected.metrics[name], rel=1e-9)
    assert weights(killed) == weights(tmp_path / "expected")

    # Finished: nothing is left to train, and what was trained is found again.
    again = train(data, tmp_path / "again", checkpoint_uri=str(uri), **settings)
    assert again.metadata["resumed_after_step"] == 24 and again.metrics["rows_per_second"] == 0
    assert weights(tmp_path / "again") == weights(killed)
    # Other settings are another run.
    assert (
        train(data, tmp_path / "other", checkpoint_uri=str(uri), **{**settings, "seed": 1}).metadata[
            "resumed_after_step"
        ]
        == 0
    )


def test_a_run_that_was_stopped_early_stays_stopped(data, tmp_path):
    settings = {"epochs": 12, "early_stopping_patience": 2, "learning_rate": 3e-2, "schedule": "constant"}
    first = train(data, tmp_path / "one", checkpoint_uri=str(tmp_path / "checkpoints"), **settings)
    scores = [one["macro_f1"] for one in first.evaluations]
    best = scores.index(max(scores))
    assert len(scores) == best + 3 < 12
    assert first.metrics["best_step"] == 6 * (best + 1)
    second = train(data, tmp_path / "two", checkpoint_uri=str(tmp_path / "checkpoints"), **settings)
    assert second.metrics["steps"] == first.metrics["steps"]
    assert weights(tmp_path / "one") == weights(tmp_path / "two")


def test_a_broken_checkpoint_is_passed_over(data, tmp_path, capsys):
    uri = tmp_path / "checkpoints"
    first = train(data, tmp_path / "one", checkpoint_uri=str(uri), epochs=3)
    (folder,) = uri.iterdir()
    last = folder / "checkpoint-18"
    (last / "optimizer.pt").write_bytes((last / "optimizer.pt").read_bytes()[:-9])
    second = train(data, tmp_path / "two", checkpoint_uri=str(uri), epochs=3)
    assert "checkpoint of step 18 is incomplete" in capsys.readouterr().out
    assert second.metadata["resumed_after_step"] == 12
    assert second.evaluations == first.evaluations
    assert weights(tmp_path / "one") == weights(tmp_path / "two")


@pytest.mark.parametrize("manifest", ['["optimizer.pt"]', '{"../secret": {}}', '{"a/b": {}}', "{"])
def test_a_manifest_names_files_of_its_own_folder_only(tmp_path, manifest):
    (tmp_path / "kept" / "checkpoint-6").mkdir(parents=True)
    (tmp_path / "kept" / "secret").write_text("secret")
    (tmp_path / "kept" / "checkpoint-6" / "manifest.json").write_text(manifest)
    assert not CheckpointStore(str(tmp_path / "kept")).fetch(6, tmp_path / "here")
    assert not [path for path in (tmp_path / "here").rglob("*") if path.is_file()]


def test_two_checkpoints_and_the_best_are_kept_and_the_jobs_own_are_removed(data, tmp_path):
    result = train(
        data,
        tmp_path / "one",
        checkpoint_uri=str(tmp_path / "checkpoints"),
        epochs=6,
        learning_rate=3e-2,
        warmup_share=0,
    )
    (folder,) = (tmp_path / "checkpoints").iterdir()
    kept = {int(path.name.split("-")[1]) for path in folder.iterdir()}
    assert kept == {30, 36, int(result.metrics["best_step"])}
    assert not list(folder.rglob("training_args.bin"))
    seen = []
    train(
        data,
        tmp_path / "two",
        job_folder=str(tmp_path / "job"),
        on_evaluation=lambda step, _: seen.append(
            len(list((tmp_path / "job" / "checkpoints").glob("*/*/manifest.json")))
        ),
    )
    assert seen == [0, 1]
    assert not list((tmp_path / "job").rglob("checkpoint-*"))


def test_checkpoints_at_cloud_storage(data, tmp_path, storage_emulator):
    uri = "gs://bucket/checkpoints"

    def stop(step, metrics):
        if step == 18:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "one", checkpoint_uri=uri, epochs=4, on_evaluation=stop)
    result = train(data, tmp_path / "one", checkpoint_uri=uri, epochs=4)
    assert result.metadata["resumed_after_step"] == 12
    train(data, tmp_path / "expected", epochs=4)
    assert weights(tmp_path / "one") == weights(tmp_path / "expected")
