import json
import os
import shutil
from pathlib import Path

import fsspec
import pytest
from kfp import dsl

from components import pin_model
from components.deployment.pin_model.pin import pin
from components.deployment.references import FolderReference, HubReference, parse_reference
from components.deployment.resolve_model.resolve import resolve
from components.deployment.store.names import StoreReference
from components.errors import InputError
from components.models import ABSENT, is_absent, refuse_absent, write_absent
from tests.components.deployment.hub import COMMIT, resolve_from_hub, run_in_child
from tests.local_run import run_pipeline


@pytest.fixture
def model(source, tmp_path):
    return shutil.copytree(source, tmp_path / "model")


def touch(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))


def test_a_folder_is_pinned_by_what_is_known_of_its_files(model, tmp_path):
    pinned = pin(str(model))
    assert pinned == pin(str(model)) == pin(pinned) and pinned.startswith(f"{model}#")
    assert resolve(pinned, tmp_path / "out")["reference"] == pinned
    (model / "optimizer.pt").write_text("training goes on beside it")
    shutil.rmtree(model / "checkpoint-100")
    assert pin(str(model)) == pinned


@pytest.mark.parametrize("change", [lambda f: touch(f / "config.json"), lambda f: (f / "merges.txt").touch()])
def test_a_folder_that_changed_is_not_the_one_that_was_pinned(model, tmp_path, change):
    pinned = pin(str(model))
    change(model)
    assert pin(str(model)) != pinned
    with pytest.raises(RuntimeError, match="has changed since it was pinned: run again") as raised:
        resolve(pinned, tmp_path / "out")
    assert not isinstance(raised.value, InputError) and not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="is not the one that was pinned"):
        pin(pinned)


def test_a_folder_that_changes_during_the_copy_is_noticed(model, tmp_path, monkeypatch):
    pinned = pin(str(model))
    copy = fsspec.get_filesystem_class("file").get_file

    def change_then_copy(self, *arguments):
        touch(model / "tokenizer.json")
        return copy(self, *arguments)

    monkeypatch.setattr(fsspec.get_filesystem_class("file"), "get_file", change_then_copy)
    with pytest.raises(RuntimeError, match="has changed"):
        resolve(pinned, tmp_path / "out")


def test_a_folder_of_links_follows_the_files_that_they_point_to(model, tmp_path):
    (tmp_path / "links").mkdir()
    for file in model.iterdir():
        (tmp_path / "links" / file.name).symlink_to(file)
    pinned = pin(str(tmp_path / "links"))
    assert pinned == pin(str(tmp_path / "links"))
    touch(model / "model.safetensors")
    assert pin(str(tmp_path / "links")) != pinned


def test_a_folder_in_a_bucket_is_pinned_by_its_generations(model, tmp_path, storage_emulator):
    fs = fsspec.filesystem("gs", token="anon")
    for file in model.glob("*.*"):
        if file.is_file():
            fs.pipe_file(f"bucket/model/{file.name}", file.read_bytes())
    pinned = pin("gs://bucket/model/")
    assert pinned == pin("gs://bucket/model") and pinned.startswith("gs://bucket/model#")
    resolve(pinned, tmp_path / "out")
    fs.pipe_file("bucket/model/config.json", (model / "config.json").read_bytes())
    assert pin("gs://bucket/model") != pinned, "written again: another generation"
    with pytest.raises(RuntimeError, match="has changed"):
        resolve(pinned, tmp_path / "again")


@pytest.mark.parametrize(
    ("reference", "allow_none", "message"),
    [
        ("", False, "is not a model reference"),
        ("/nowhere/model", True, "There is no folder at '/nowhere/model'"),
        ("/nowhere/models/tickets@champion", False, "has no alias 'champion'"),
        ("/nowhere/models/tickets@Champion", True, "is no name for an alias"),
        ("/nowhere/models/tickets@20200101-000000-0123456789ab", True, "has no version"),
        ("gs://nowhere/models/tickets@champion", True, "There is no bucket 'nowhere'"),
    ],
)
def test_what_cannot_be_pinned(reference, allow_none, message, storage_emulator):
    with pytest.raises(InputError, match=message):
        pin(reference, allow_none)


@pytest.mark.parametrize("reference", ["", "/nowhere/models/tickets@champion", "gs://bucket/models/tickets@champion"])
def test_none_yet(reference, storage_emulator, tmp_path):
    assert pin(reference, allow_none=True) == ""
    assert resolve("", tmp_path / "model", allow_none=True) == {"absent": True, "reference": ""}
    assert [path.name for path in (tmp_path / "model").iterdir()] == [ABSENT]


def test_a_model_of_the_hub_is_pinned_to_its_commit(hub, tmp_path):
    assert run_in_child("pin", "org/name@v1", tmp_path, hub[0]) == f"org/name@{COMMIT}"
    assert run_in_child("pin", "legacy", tmp_path, hub[0]) == f"legacy@{COMMIT}"
    assert resolve_from_hub(f"org/name@{COMMIT}", tmp_path, hub[0])["revision"] == COMMIT
    kind, message = run_in_child("pin", "org/none", tmp_path, hub[0])
    assert kind == "InputError" and "There is no model 'org/none'" in message
    assert run_in_child("pin", "org/overloaded", tmp_path, hub[0])[0] == "ConnectionError"


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("org/name", HubReference("org/name")),
        ("org/name@v1", HubReference("org/name@v1")),
        ("org/name@refs/pr/1", HubReference("org/name@refs/pr/1")),
        ("models/tickets@champion", StoreReference("models", "tickets", "champion")),
        ("./new/tickets@champion", StoreReference("./new", "tickets", "champion")),
        ("/m/tickets@champion", StoreReference("/m", "tickets", "champion")),
        ("models/tickets@2", FolderReference("models/tickets@2")),
        ("models/a@b#" + "0" * 64, HubReference("models/a@b#" + "0" * 64)),
        ("/models/a@b#" + "0" * 64, FolderReference("/models/a@b", "0" * 64)),
        ("/models/a#b", FolderReference("/models/a#b")),
    ],
)
def test_what_a_reference_is(tmp_path, monkeypatch, reference, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/tickets").mkdir(parents=True)
    (tmp_path / "models/tickets@2").mkdir()
    assert parse_reference(reference) == expected


def test_the_absent_model(tmp_path):
    assert not is_absent(tmp_path)
    refuse_absent(tmp_path, "never said")
    assert write_absent(tmp_path, "gs://b/m/t@champion") == json.loads((tmp_path / ABSENT).read_text())
    assert is_absent(tmp_path) and is_absent(str(tmp_path))
    with pytest.raises(InputError, match="There is no model .*gs://b/m/t@champion.* Give one."):
        refuse_absent(tmp_path, "Give one.")


@dsl.pipeline
def pin_pipeline(reference: str, allow_none: bool = False):
    pin_model(model_reference=reference, allow_none=allow_none).set_caching_options(False)


def test_the_component_runs(model, tmp_path):
    run = run_pipeline(pin_pipeline, tmp_path, reference=str(model))
    assert run.parameter("pin-model") == pin(str(model))
