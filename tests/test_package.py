"""The wheel, installed in a new environment, is what a pipeline's author uses from an empty folder."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

AUTHOR = """
from kfp import compiler, dsl

from components import classify_text, read_dataset, resolve_model


@dsl.pipeline(name="mine")
def mine(input_uri: str, model: str):
    data = read_dataset(source_uri=input_uri)
    resolved = resolve_model(model_reference=model)
    classify_text(dataset=data.outputs["dataset"], model=resolved.outputs["model"])


compiler.Compiler().compile(mine, "mine.yaml")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def author_python(wheel, tmp_path_factory):
    """A new environment with the wheel and its base requirements, in the versions that are tested."""
    folder = tmp_path_factory.mktemp("author") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel], check=True)
    return python


def clean_environment():
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}


def test_an_author_compiles_a_pipeline_of_their_own(author_python, tmp_path):
    (tmp_path / "author.py").write_text(AUTHOR)
    run = subprocess.run(
        [author_python, "author.py"], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    text = (tmp_path / "mine.yaml").read_text()
    assert "kfp-transformers-python:" in text and "pip install" not in text


def test_an_author_needs_neither_torch_nor_the_trigger(author_python):
    listing = subprocess.run([author_python, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True)
    names = {package["name"].lower() for package in json.loads(listing.stdout)}
    assert not names & {"torch", "transformers", "functions-framework", "google-cloud-aiplatform"}


def test_the_installed_pipelines_compile(author_python, tmp_path):
    command = [author_python, "-m", "pipelines.compile", "--output", str(tmp_path / "compiled")]
    run = subprocess.run(command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for committed in (ROOT / "compiled").glob("*.json"):
        assert json.loads((tmp_path / "compiled" / committed.name).read_text()) == json.loads(committed.read_text())


def test_the_wheel_holds_every_component_and_no_test(wheel):
    import zipfile

    import components

    names = zipfile.ZipFile(wheel).namelist()
    for component, stage in components.CATALOGUE.items():
        assert f"components/{stage}/{component}/component.py" in names
    assert any(name.endswith(".html") for name in names), "the report's template is missing"
    assert not [name for name in names if name.startswith(("tests/", "examples/", "benchmarks/"))]
