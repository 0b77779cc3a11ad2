import csv
import json
import subprocess
import sys

import fsspec
import pyarrow.parquet as pq
import pytest

from components.deployment.store.store import ModelStore
from pipelines.compile import compile_pipeline
from pipelines.run import absolute_paths
from tests.tiny_model import build_tiny_model

TEXTS = ["my card was charged twice", "I cannot log in", 'the "parcel", never\ncame', "please cancel my plan"]
LABELS = ["billing", "access", "delivery", "cancellation"]


def run(folder, *arguments):
    command = [sys.executable, "-m", "pipelines.run", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def param(**values):
    return [word for name, value in values.items() for word in ("--param", f"{name}={value}")]


def record_of(folder):
    return json.loads(next(folder.glob("out/runs/*/record.json")).read_text())


@pytest.fixture
def tickets(tmp_path):
    build_tiny_model(tmp_path / "model", LABELS, TEXTS)
    with (tmp_path / "tickets.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((TEXTS[n % 4], LABELS[n % 3]) for n in range(50))])
    return tmp_path


def test_relative_paths_classify_a_file_here(tickets):
    parameters = param(
        input_uri="tickets.csv", model="./model", output_uri="predictions", label_column="label", num_shards=2
    )
    done = run(tickets, "batch_classification", *parameters)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "accuracy" in done.stdout and "report.html" in done.stdout
    assert pq.read_table(tickets / "predictions").column("text").to_pylist() == [TEXTS[n % 4] for n in range(50)]


def test_a_second_run_takes_finished_steps_from_the_cache_and_a_changed_file_does_not(tickets):
    parameters = param(input_uri="tickets.csv", model="./model", output_uri="predictions")
    assert run(tickets, "batch_classification", *parameters).returncode == 0
    again = run(tickets, "batch_classification", *parameters)
    (line,) = [line for line in again.stdout.splitlines() if "read-dataset" in line]
    assert "from the cache" in line
    with (tickets / "tickets.csv").open("a") as file:
        file.write("one more,billing\n")
    changed = run(tickets, "batch_classification", *parameters)
    (line,) = [line for line in changed.stdout.splitlines() if "read-dataset" in line]
    assert "from the cache" not in line
    assert pq.read_table(tickets / "predictions").num_rows == 51


def cached_steps(done):
    assert done.returncode == 0, done.stdout + done.stderr
    finished = [line for line in done.stdout.splitlines() if line.lstrip().startswith("done")]
    return {line.split()[1] for line in finished if "from the cache" in line}


def test_a_champion_that_moved_is_used_by_the_next_run_though_nothing_in_the_request_changed(tickets):
    store = ModelStore(str(tickets / "models"))
    for labels in (LABELS, LABELS[::-1]):
        model = build_tiny_model(tickets / labels[0], labels, TEXTS)
        store.push("tickets", model, {}, lambda reference: "# card")
    first, second = store.versions("tickets")
    parameters = param(input_uri="tickets.csv", model="models/tickets@champion", output_uri="predictions")

    def predict():
        cached = cached_steps(run(tickets, "batch_classification", *parameters))
        return cached, pq.read_table(tickets / "predictions").column("prediction").to_pylist()

    store.move_champion("tickets", first)
    cached, predicted = predict()
    assert not cached
    cached, again = predict()
    assert again == predicted
    assert {"read-dataset", "resolve-model", "classify-text"} <= cached and "pin-model" not in cached
    store.move_champion("tickets", second)
    cached, now = predict()
    assert "read-dataset" in cached and not {"resolve-model", "classify-text"} & cached
    # The same weights with the labels in the opposite order give the opposite answers.
    assert now == [LABELS[::-1][LABELS.index(label)] for label in predicted]


def test_a_bucket_is_read_and_written(tickets, storage_emulator):
    fs = fsspec.filesystem("gs", token="anon")
    fs.put(str(tickets / "tickets.csv"), "bucket/in/tickets.csv")
    fs.put(str(tickets / "model") + "/", "bucket/model/", recursive=True)
    parameters = param(
        input_uri="gs://bucket/in/*.csv", model="gs://bucket/model", output_uri="gs://bucket/out", output_format="jsonl"
    )
    done = run(tickets, "batch_classification", *parameters)
    assert done.returncode == 0, done.stdout + done.stderr
    fs.invalidate_cache()
    written = [path for path in fs.find("bucket/out") if path.endswith(".jsonl")]
    rows = [json.loads(line) for path in written for line in fs.cat(path).decode().splitlines()]
    assert [row["text"] for row in rows] == [TEXTS[n % 4] for n in range(50)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["basics"], ["basics", "basic, batch_classification"]),
        (["basic"], ["first", "must be given"]),
        (["basic", "--param", "first"], ["--param first", "NAME=VALUE"]),
        (["basic", *param(first="a", secnd="b")], ["secnd", "second"]),
        (["batch_classification", *param(input_uri="i", model="m", output_uri="o", num_shards="two")], ["num_shards"]),
    ],
)
def test_wrong_input_is_two_sentences_and_starts_nothing(tmp_path, arguments, words):
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


def test_a_run_that_fails_says_why(tickets):
    parameters = param(input_uri="absent.csv", model="./model", output_uri="out-folder")
    done = run(tickets, "batch_classification", *parameters)
    assert done.returncode == 1
    assert "absent.csv" in done.stderr and "Traceback" not in done.stderr
    assert record_of(tickets)["state"] == "FAILED"


def test_only_paths_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    given = {
        "input_uri": "gs://bucket/in.csv",
        "model": "models/mine",
        "output_uri": "out",
        "text_column": "text",
        "num_shards": 2,
    }
    absolute = absolute_paths(compile_pipeline("batch_classification"), given)
    expected = {**given, "model": str(tmp_path / "models/mine"), "output_uri": str(tmp_path / "out")}
    assert absolute == expected
    for model in ("org/name", "org/name@v1", "name@v1"):
        assert absolute_paths(compile_pipeline("batch_classification"), {"model": model}) == {"model": model}
    stored = absolute_paths(compile_pipeline("batch_classification"), {"model": "models/mine@champion"})
    assert stored == {"model": str(tmp_path / "models/mine@champion")}
