import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.image import COMPONENT_IMAGE
from pipelines.compile import PIPELINES, compile_pipeline, difference, to_json

ROOT = Path(__file__).resolve().parents[2]


def compile_command(*arguments, cwd=ROOT):
    command = [sys.executable, "-m", "pipelines.compile", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "compiled", tmp_path / "compiled")
    return tmp_path / "compiled"


def test_the_committed_files_are_up_to_date():
    run = compile_command("--check")
    assert run.returncode == 0, run.stderr


def test_compiling_everything_takes_less_than_2_seconds_after_imports():
    for name in PIPELINES:
        compile_pipeline(name)
    start = time.process_time()
    for name in PIPELINES:
        to_json(compile_pipeline(name))
    assert time.process_time() - start < 2


def test_compiling_gives_the_same_bytes_in_another_process(tmp_path):
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "pipelines.compile", "--output", str(tmp_path / seed)]
        subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True)
    for name in ("machines", *PIPELINES):
        assert (tmp_path / "1" / f"{name}.json").read_bytes() == (tmp_path / "2" / f"{name}.json").read_bytes()


@pytest.mark.parametrize("name", PIPELINES)
def test_compiling_twice_gives_the_same_bytes(name):
    assert to_json(compile_pipeline(name)) == to_json(compile_pipeline(name))


def test_check_shows_what_changed_and_writes_nothing(copy):
    spec = json.loads((copy / "basic.json").read_text())
    del spec["root"]["inputDefinitions"]["parameters"]["second"]
    (copy / "basic.json").write_text(to_json(spec))
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    run = compile_command("--check", "--output", copy)
    assert run.returncode == 1
    assert '+        "second": {' in run.stderr
    assert "python -m pipelines.compile" in run.stderr
    assert "basic.json: compatible: the parameter second is new, and optional" in run.stderr
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_check_ignores_the_sdk_version_and_the_image(copy):
    text = (copy / "basic.json").read_text().replace(COMPONENT_IMAGE, "europe-docker.pkg.dev/p/r/i@sha256:0")
    spec = json.loads(text) | {"sdkVersion": "kfp-2.99.0"}
    (copy / "basic.json").write_text(to_json(spec))
    assert compile_command("--check", "--output", copy).returncode == 0


@pytest.mark.parametrize("change", ["missing", "stray", "broken"])
def test_check_notices_files_that_are(change, copy):
    if change == "missing":
        (copy / "machines.json").unlink()
    elif change == "stray":
        (copy / "old_pipeline.json").write_text("{}")
    else:
        (copy / "basic.json").write_text("{")
    run = compile_command("--check", "--output", copy)
    assert run.returncode == 1 and "compiled" in run.stderr


def test_compile_writes_what_is_committed_from_any_folder(tmp_path):
    assert compile_command(cwd=tmp_path).returncode == 0
    for path in (ROOT / "compiled").iterdir():
        assert difference(path.name, path.read_text(), (tmp_path / "compiled" / path.name).read_text()) == []


def test_image_replaces_the_constant_everywhere():
    image = "europe-docker.pkg.dev/p/r/python@sha256:0123"
    text = json.dumps(compile_pipeline("batch_classification", image))
    assert image in text and COMPONENT_IMAGE not in text


def test_only_classification_asks_for_a_gpu():
    spec = compile_pipeline("batch_classification")
    executors = spec["deploymentSpec"]["executors"]
    gpu = {name for name, e in executors.items() if "accelerator" in e["container"].get("resources", {})}
    assert gpu == {"exec-classify-text"}


def test_looking_at_what_is_there_now_is_never_cached():
    spec = compile_pipeline("batch_classification")
    tasks = {}
    for component in [spec["root"], *spec["components"].values()]:
        tasks |= component.get("dag", {}).get("tasks", {})
    uncached = {name for name, task in tasks.items() if task.get("cachingOptions") == {}}
    assert {"fingerprint-source", "pin-model", "export-dataset", "publish-outcome"} <= uncached
