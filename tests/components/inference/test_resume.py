"""A step that is ended at any moment goes on where it was, and what it writes is the same to the byte."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from components.datasets import part_files
from components.inference import rows as rows_module
from components.inference.classify_text.classify import classify
from components.inference.engine import windows
from components.inference.resume import FinishedWindows, digest_of_run
from tests.components.inference.test_classify_text import LABELS, make_texts, read, write_dataset
from tests.tiny_model import build_tiny_model

# Each window takes a while, so that there is a moment to kill the step in; small ones, so that there are many.
CHILD = """
import sys, time
from components.inference.engine import windows
windows.WINDOW_ROWS = 40
from components.inference.engine import streaming
compute = streaming.Engine._compute
def slowly(self, *given):
    time.sleep(0.15)
    compute(self, *given)
streaming.Engine._compute = slowly
from components.inference.classify_text.classify import classify
dataset, model, out, state = sys.argv[1:]
classify(dataset, model, out, include_probabilities=True, checkpoint_uri=state, checkpoint_seconds=0)
"""


@pytest.fixture(scope="module")
def texts():
    return make_texts(1200, seed=3, longest=40)


@pytest.fixture(scope="module")
def model(tmp_path_factory, texts):
    return build_tiny_model(tmp_path_factory.mktemp("resume") / "model", LABELS, texts[:100])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, texts):
    return write_dataset(tmp_path_factory.mktemp("resume") / "dataset", texts)


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(windows, "WINDOW_ROWS", 40)


def contents(folder: Path) -> list[bytes]:
    return [part.read_bytes() for part in part_files(folder)]


def test_a_killed_step_goes_on_and_writes_the_same_bytes(tmp_path, model, dataset, small_windows):
    classify(dataset, model, tmp_path / "whole", include_probabilities=True)
    state, out = tmp_path / "state", tmp_path / "out"
    command = [sys.executable, "-c", CHILD, str(dataset), str(model), str(out), str(state)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while child.poll() is None and time.monotonic() < deadline:
        manifests = list(state.glob("*/manifest.json"))
        if manifests and len(json.loads(manifests[0].read_text())) >= 3:
            break
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL and not out.exists()
    metadata = classify(dataset, model, out, include_probabilities=True, checkpoint_uri=str(state))
    assert 120 <= metadata["resumed_rows"] < 1200 and metadata["resumed_rows"] % 40 == 0
    assert metadata["rows"] == 1200
    assert contents(out) == contents(tmp_path / "whole")
    # Done: nothing is left for anyone to find.
    assert list(state.glob("*/*")) == []


@pytest.fixture
def interrupted(tmp_path, model, dataset, small_windows, monkeypatch):
    """The state of a step that was ended after 400 rows."""

    def add(finished, answers, keep=FinishedWindows.add):
        keep(finished, answers)
        if finished.rows >= 400:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FinishedWindows, "add", add)
        with pytest.raises(KeyboardInterrupt):
            classify(dataset, model, tmp_path / "out", checkpoint_uri=str(tmp_path / "state"), checkpoint_seconds=0)
    return tmp_path / "state"


def test_what_is_the_same_is_not_computed_again(tmp_path, model, dataset, interrupted, capsys):
    metadata = classify(dataset, model, tmp_path / "out", checkpoint_uri=str(interrupted))
    assert metadata["resumed_rows"] == 400
    assert "400 rows were answered by an earlier attempt" in capsys.readouterr().out
    assert read(tmp_path / "out")["id"].to_pylist() == [f"row-{number}" for number in range(1200)]


@pytest.mark.parametrize(
    "change",
    [{"max_length": 20}, {"batch_size": 3}, {"precision": "bf16"}, {"shard": "0:1000"}, {"dataset_digest": "other"},
     {"model_digest": "other"}],
)  # fmt: skip
def test_what_changed_starts_anew(tmp_path, model, dataset, interrupted, change):
    metadata = classify(dataset, model, tmp_path / "out", checkpoint_uri=str(interrupted), **change)
    assert metadata["resumed_rows"] == 0
    assert len(list(interrupted.glob("*/manifest.json"))) == 1


@pytest.mark.parametrize("damage", ["cut", "gone", "manifest"])
def test_what_is_not_as_the_manifest_says_is_computed_again(tmp_path, model, dataset, interrupted, damage):
    (folder,) = interrupted.iterdir()
    third = folder / "part-00002.npy"
    if damage == "cut":
        third.write_bytes(third.read_bytes()[:-8])
    elif damage == "gone":
        third.unlink()
    else:
        (folder / "manifest.json").write_text("[{")
    metadata = classify(dataset, model, tmp_path / "out", include_probabilities=True, checkpoint_uri=str(interrupted))
    assert metadata["resumed_rows"] == (0 if damage == "manifest" else 80)
    classify(dataset, model, tmp_path / "whole", include_probabilities=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_state_goes_to_the_jobs_folder_where_no_other_is_named(tmp_path):
    assert rows_module.open_state("", "", tmp_path, "d", 0.0) is None
    state = rows_module.open_state("", str(tmp_path / "job"), tmp_path, "d", 0.0, model="m")
    assert state and Path(state.uri).parent == tmp_path / "job" / "checkpoints"


@pytest.mark.parametrize("place", ["local", "gs"])
def test_parts_hold_what_was_added(request, tmp_path, place):
    if place == "gs":
        request.getfixturevalue("storage_emulator")
    uri = "gs://bucket/state" if place == "gs" else str(tmp_path)
    finished = FinishedWindows(uri, "run", every=0.0)
    added = [np.random.default_rng(n).random((n + 1, 3), dtype=np.float32) for n in range(5)]
    for answers in added:
        finished.add(answers)
    again = FinishedWindows(uri, "run")
    assert again.rows == 15
    np.testing.assert_array_equal(np.concatenate(list(again.answers())), np.concatenate(added))
    assert FinishedWindows(uri, "another run").rows == 0
    again.remove()
    assert FinishedWindows(uri, "run").rows == 0


def test_a_digest_names_all_facts():
    facts = {"model": "m", "settings": {"precision": "fp32"}}
    assert digest_of_run(**facts) == digest_of_run(**facts)
    assert digest_of_run(**facts) != digest_of_run(model="m", settings={"precision": "bf16"})
