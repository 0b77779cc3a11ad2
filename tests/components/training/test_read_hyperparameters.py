import json
from pathlib import Path

import fsspec
import pytest
import yaml
from kfp import dsl

from components.errors import InputError
from components.training.hyperparameters import Hyperparameters
from components.training.read_hyperparameters import read as read_module
from components.training.read_hyperparameters.component import read_hyperparameters
from components.training.read_hyperparameters.read import LARGEST_FILE, read
from tests.local_run import run_pipeline
from tests.readme_example import readme_pipeline


@pytest.fixture
def settings(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"epochs": 4, "learning_rate": 3e-5}))
    return str(file)


def test_values_win_over_the_file_and_nothing_is_added(settings, capsys):
    assert read(settings, {"epochs": 2.0, "batch_size": 8.0}) == {"learning_rate": 3e-5, "epochs": 2, "batch_size": 8}
    assert "epochs: 2.0 (the file says 4.0)" in capsys.readouterr().out


@pytest.mark.parametrize("values", [{}, {"seed": 3}])
def test_without_a_file_the_values_are_all(values):
    assert read("", values) == values


def test_the_order_is_always_the_same(settings):
    names = list(read(settings, {"seed": 1, "batch_size": 8}))
    assert names == [name for name in Hyperparameters.model_fields if name in names]


def test_a_file_on_cloud_storage(storage_emulator):
    with fsspec.filesystem("gs", token="anon").open("bucket/run/settings.yaml", "w") as file:
        file.write("learning_rate: 2e-5\n")
    assert read("gs://bucket/run/settings.yaml", {}) == {"learning_rate": 2e-5}
    with pytest.raises(InputError, match="no file at 'gs://bucket/run/other.yaml'"):
        read("gs://bucket/run/other.yaml", {})


def test_what_is_wrong_is_named(tmp_path, settings):
    with pytest.raises(InputError, match="no hyper-parameter 'epoch'"):
        read(settings, {"epoch": 2})
    with pytest.raises(InputError, match="no file at"):
        read(str(tmp_path), {})
    with pytest.raises(InputError, match="s3://"):
        read("s3://bucket/settings.json", {})
    (tmp_path / "settings.json").write_text('{"epochs": 0}')
    with pytest.raises(InputError, match="epochs is 0"):
        read(settings, {"epochs": 1})
    (tmp_path / "settings.json").write_bytes(b" " * (LARGEST_FILE + 1))
    with pytest.raises(InputError, match="too many for hyper-parameters"):
        read(settings, {})


def test_the_readme_lists_every_hyperparameter_with_its_default():
    readme = Path(read_module.__file__).with_name("README.md").read_text()
    table = readme.split("| name | default | |")[1]
    listed = {row.split("`")[1]: row.split(" | ")[1].strip("`") for row in table.split("\n\n")[0].splitlines()[2:]}
    defaults = Hyperparameters().model_dump()
    assert list(listed) == list(defaults)
    for name, default in defaults.items():
        assert yaml.safe_load(listed[name].replace("5e-5", "5.0e-5")) == default


@dsl.component(base_image="kfp-transformers-python:0.1.0", install_kfp_package=False)
def count_names(values: dict) -> int:
    return len(values)


@dsl.pipeline
def settings_pipeline(uri: str, values: dict = {}) -> dict:  # noqa: B006
    task = read_hyperparameters(source_uri=uri, values=values)
    count_names(values=task.output)
    return task.output


def test_the_component_runs(tmp_path, settings):
    run = run_pipeline(settings_pipeline, tmp_path, uri=settings, values={"batch_size": 8})
    result = run.parameter("read-hyperparameters")
    assert result == {"learning_rate": 3e-5, "epochs": 4, "batch_size": 8}
    assert run.parameter("count-names") == 3
    failed = run_pipeline(settings_pipeline, tmp_path / "wrong", check=False, uri=settings, values={"epochs": -1})
    assert failed.code == 1 and "The hyper-parameter epochs is -1" in failed.log


def test_the_example_of_the_readme_compiles():
    assert "comp-read-hyperparameters" in readme_pipeline("read_hyperparameters").pipeline_spec.components
