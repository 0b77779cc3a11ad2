"""The image's command line, by hand and as the container component that starts it."""

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kfp import dsl

from components import classify_in_container, classify_text, evaluate_predictions
from components.datasets import DatasetWriter, part_files
from components.image import COMPONENT_IMAGE
from tests.local_run import run_pipeline
from tests.tiny_model import build_tiny_model

LABELS = ["billing", "praise"]
TEXTS = [f"the invoice was charged {number} times" for number in range(9)] + ["thanks for the help"]
SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("label", pa.string())])
COMMAND = [sys.executable, "-m", "components.inference.classify_text"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("model") / "model", LABELS, TEXTS)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "dataset"
    rows = [{"id": str(number), "text": text, "label": "billing"} for number, text in enumerate(TEXTS)]
    with DatasetWriter(folder, SCHEMA) as writer:
        writer.write(pa.RecordBatch.from_pylist(rows, SCHEMA))
    return folder


def read(folder):
    return pa.concat_tables(pq.read_table(part) for part in part_files(folder))


def run(*arguments):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True)


def test_by_hand_it_shows_progress_and_says_what_it_wrote(tmp_path, dataset, model):
    done = run("--dataset", dataset, "--model", model, "--output", tmp_path / "out", "--include-probabilities")
    assert done.returncode == 0, done.stderr
    assert "10 of 10 rows" in done.stdout
    assert done.stdout.splitlines()[-1] == f"Wrote 10 rows to {tmp_path / 'out'}."
    assert read(tmp_path / "out").column_names[-3:] == ["prediction", "score", "probabilities"]


def test_help_is_there_at_once_with_an_example():
    done = run("--help")
    assert done.returncode == 0 and "--dataset reviews/ --model" in done.stdout
    assert "torch" not in subprocess.run(
        [sys.executable, "-X", "importtime", *COMMAND[1:], "--help"], capture_output=True, text=True
    ).stderr.replace("torch_backend", "")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--shard", "5:99"), 1, "InputError: "),
        (("--batch-size", "2.5"), 2, "--batch-size"),
        (("--include-probabilities", "perhaps"), 2, "must be true or false"),
    ],
)
def test_a_wrong_option_ends_it_with_what_to_change(tmp_path, dataset, model, arguments, code, said):
    done = run("--dataset", dataset, "--model", model, "--output", tmp_path / "out", *arguments)
    assert done.returncode == code and said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@dsl.pipeline(name="both-ways")
def both_ways(dataset: str, model: str, shard: str = "", batch_size: int = 0, probabilities: bool = False):
    data = dsl.importer(artifact_uri=dataset, artifact_class=dsl.Dataset, reimport=True)
    loaded = dsl.importer(artifact_uri=model, artifact_class=dsl.Model, reimport=True)
    options = {"shard": shard, "batch_size": batch_size, "include_probabilities": probabilities}
    started = classify_in_container(dataset=data.output, model=loaded.output, **options)
    classify_text(dataset=data.output, model=loaded.output, **options)
    evaluate_predictions(predictions=started.outputs["predictions"])


def test_as_a_step_it_gives_what_classify_text_gives(tmp_path, dataset, model):
    options = {"shard": "2:8", "batch_size": 4, "probabilities": True}
    run = run_pipeline(both_ways, tmp_path, dataset=str(dataset), model=str(model), **options)
    (ours, about), (expected, known) = (
        run.artifact(step, "predictions") for step in ("classify-in-container", "classify-text")
    )
    assert read(ours).equals(read(expected)) and read(ours).num_rows == 6
    same = ("rows", "columns", "labels", "shard", "dataset_rows", "digest", "dataset_digest", "model_digest")
    assert {name: about[name] for name in same} == {name: known[name] for name in same}
    assert about["labels"] == LABELS
    assert run.artifact("evaluate-predictions", "metrics")[1]["rows"] == 6


def test_the_record_shows_the_image_and_the_command_and_a_wrong_input_is_tried_once(tmp_path, dataset, model):
    run = run_pipeline(both_ways, tmp_path, check=False, dataset=str(dataset), model=str(model), shard="5:99")
    task = run.record.task("classify-in-container")
    assert task.container["image"] == COMPONENT_IMAGE and task.container["engine"] == ""
    assert task.container["command"][:3] == ["python", "-m", "components.inference.classify_text"]
    assert task.error.startswith("InputError: ") and "5:99" in task.error
    assert json.dumps(task.container)
