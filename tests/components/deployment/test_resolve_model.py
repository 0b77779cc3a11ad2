import json
import shutil
import socket
from pathlib import Path

import fsspec
import numpy as np
import pytest
from kfp import dsl
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForSequenceClassification

from components import resolve_model
from components.deployment.references import FolderReference, parse_reference
from components.deployment.resolve_model.resolve import resolve
from components.errors import InputError
from components.models import digest_of_model
from tests.components.deployment.hub import COMMIT, resolve_from_hub
from tests.local_run import run_pipeline
from tests.tiny_model import build_tiny_model

LABELS = ["negative", "neutral", "positive"]
FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


@pytest.fixture
def broken(source, tmp_path):
    return shutil.copytree(source, tmp_path / "broken")


def change_config(folder: Path, name: str = "config.json", **changes: object) -> None:
    config = json.loads((folder / name).read_text()) | changes
    (folder / name).write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_folder_becomes_a_model_without_what_lies_beside_it(source, tmp_path):
    metadata = resolve(str(source), tmp_path / "out")
    assert names(tmp_path / "out") == FILES
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert metadata["labels"] == LABELS == [model.config.id2label[number] for number in range(3)]
    assert metadata["parameters"] == sum(tensor.numel() for tensor in model.parameters())
    assert metadata["architecture"] == "BertForSequenceClassification"
    assert (metadata["reference"], metadata["revision"]) == (str(source), "")
    assert metadata["digest"] == digest_of_model(source) == digest_of_model(tmp_path / "out")
    assert set(metadata["libraries"]) == {"transformers", "torch", "safetensors"}


def test_the_digest_follows_the_content_and_nothing_else(source, broken, tmp_path):
    first = resolve(str(source), tmp_path / "1")["digest"]
    (broken / "optimizer.pt").write_bytes(b"other")
    assert resolve(str(broken), tmp_path / "2")["digest"] == first
    change_config(broken, classifier_dropout=0.5)
    assert resolve(str(broken), tmp_path / "3")["digest"] != first


def test_an_earlier_attempt_is_replaced(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "half.safetensors").touch()
    resolve(str(source), tmp_path / "out")
    assert names(tmp_path / "out") == FILES


def test_a_folder_of_links_is_copied_whole(source, tmp_path):
    """The hub's local cache is made of links."""
    (tmp_path / "links").mkdir()
    for name in FILES:
        (tmp_path / "links" / name).symlink_to(source / name)
    resolve(str(tmp_path / "links"), tmp_path / "out")
    assert names(tmp_path / "out") == FILES
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())


def test_a_model_in_several_files(source, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(source)
    model.save_pretrained(tmp_path / "shards", max_shard_size="30KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, tmp_path / "shards")
    metadata = resolve(str(tmp_path / "shards"), tmp_path / "out")
    assert metadata["parameters"] == model.num_parameters()
    assert "model.safetensors.index.json" in names(tmp_path / "out")
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    next((tmp_path / "shards").glob("model-00002-of-*")).unlink()
    with pytest.raises(InputError, match="has no model-00002-of-.*, which model.safetensors.index.json names"):
        resolve(str(tmp_path / "shards"), tmp_path / "missing")


@pytest.mark.parametrize(("number", "labels"), [(2, ["LABEL_0", "LABEL_1"]), (5, [f"LABEL_{n}" for n in range(5)])])
def test_a_model_without_names_for_its_labels(tmp_path, number, labels):
    folder = build_tiny_model(tmp_path / "model", labels, ["a few words"])
    change_config(folder, id2label=None, label2id=None, num_labels=number if number != 2 else None)
    assert resolve(str(folder), tmp_path / "out")["labels"] == labels


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "is not a sequence-classification model; .* BertForMaskedLM"),
        ({"architectures": None}, "is not a sequence-classification model; .* none"),
        ({"auto_map": {"AutoModel": "modeling.My"}}, "needs Python code of its own .*'auto_map' in config.json"),
        ({"id2label": {"1": "a", "2": "b"}}, "does not number its classes from 0"),
        ({"id2label": {"0": "a", "1": "a"}}, "Two classes .* have the same name"),
    ],
)
def test_a_configuration_that_will_not_do(broken, tmp_path, changes, message):
    change_config(broken, **changes)
    with pytest.raises(InputError, match=message):
        resolve(str(broken), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_with_code_of_its_own(broken, tmp_path):
    change_config(broken, "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization.My", None]})
    with pytest.raises(InputError, match="'auto_map' in tokenizer_config.json"):
        resolve(str(broken), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "There is no config.json"),
        ("config.json", b'{"architectures": [', "config.json of .* is not JSON"),
        ("config.json", b"\xff\xfe", "config.json of .* is not JSON"),
        ("config.json", b"[]", "config.json of .* is not a JSON object"),
        ("model.safetensors", None, "There is no model.safetensors"),
        ("model.safetensors", b"truncated", "model.safetensors of .* is broken"),
        ("tokenizer.json", None, "There are no tokenizer files"),
    ],
)
def test_a_file_that_is_missing_or_broken(broken, tmp_path, name, content, message):
    if content is None:
        (broken / name).unlink()
    else:
        (broken / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        resolve(str(broken), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_cut_short_by_an_interrupted_copy(broken, tmp_path):
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="is broken"):
        resolve(str(broken), tmp_path / "out")


def test_weights_without_a_tensor(broken, tmp_path):
    save_file({}, broken / "model.safetensors")
    with pytest.raises(InputError, match="holds no weights"):
        resolve(str(broken), tmp_path / "out")


def test_an_index_that_points_elsewhere_is_not_followed(broken, tmp_path):
    save_file(load_file(broken / "model.safetensors"), tmp_path / "elsewhere.safetensors")
    (broken / "model.safetensors").unlink()
    (broken / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../elsewhere.safetensors"}}))
    with pytest.raises(InputError, match="has no ../elsewhere.safetensors"):
        resolve(str(broken), tmp_path / "out")


def test_pickled_weights_are_refused_with_the_way_to_convert_them(broken, tmp_path):
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"are pickled.*from_pretrained\(folder\)\.save_pretrained\(folder\)"):
        resolve(str(broken), tmp_path / "out")


@pytest.mark.parametrize("reference", ["/nowhere/model", "./nowhere", "~/nowhere/at/all"])
def test_a_folder_that_is_not_there(tmp_path, reference):
    with pytest.raises(InputError, match="There is no folder"):
        resolve(reference, tmp_path / "out")


@pytest.mark.parametrize("reference", ["", "a/b/c", "org/name@", "org name", "@main", "s3://bucket/model"])
def test_what_is_no_reference(tmp_path, reference):
    with pytest.raises(InputError, match=r"is not a model reference|is at s3://"):
        resolve(reference, tmp_path / "out")


def test_which_references_are_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert all(
        isinstance(parse_reference(r), FolderReference) for r in ["gs://b/m", "/m", "./m", "../m", "~/m", "models/mine"]
    )
    assert not any(
        isinstance(parse_reference(r), FolderReference) for r in ["org/name", "org/name@main", "bert-base-uncased"]
    )


@pytest.mark.parametrize("reference", ["org/name", "org/name@v1", "legacy@refs/pr/1"])
def test_a_model_of_the_hub(hub, source, tmp_path, reference):
    address, downloads = hub
    downloads.clear()
    metadata = resolve_from_hub(reference, tmp_path, address)
    assert names(tmp_path / "out") == FILES == sorted(downloads)
    assert (metadata["reference"], metadata["revision"]) == (reference, COMMIT)
    assert metadata["digest"] == digest_of_model(source)


@pytest.mark.parametrize(
    ("reference", "kind", "message"),
    [
        ("org/none", "InputError", "There is no model 'org/none' on the hub"),
        ("org/name@v9", "InputError", "'org/name' has no revision 'v9'"),
        ("org/gated", "InputError", "is gated"),
        ("org/forbidden", "InputError", "does not let this step read"),
        ("org/pickled", "InputError", "are pickled"),
        ("org/overloaded", "ConnectionError", "The hub did not give 'org/overloaded'"),
    ],
)
def test_what_the_hub_does_not_give(hub, tmp_path, reference, kind, message):
    answer = resolve_from_hub(reference, tmp_path, hub[0])
    assert answer[0] == kind and message in answer[1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("env", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_a_hub_that_is_not_reached_is_no_fault_of_the_input(tmp_path, env):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        answer = resolve_from_hub("org/name", tmp_path, f"http://127.0.0.1:{unused.getsockname()[1]}", **env)
    assert answer[0] == "ConnectionError" and "The hub did not give 'org/name'" in answer[1]


def test_a_folder_in_a_bucket(storage_emulator, source, tmp_path):
    fs = fsspec.filesystem("gs", token="anon")
    for name in [*FILES, "optimizer.pt", "checkpoint-100/model.safetensors"]:
        fs.pipe_file(f"bucket/team/tickets/{name}", (source / name).read_bytes())
    metadata = resolve("gs://bucket/team/tickets/", tmp_path / "out")
    assert names(tmp_path / "out") == FILES
    assert metadata["digest"] == digest_of_model(source)
    with pytest.raises(InputError, match="There is no folder at 'gs://bucket/team/none'"):
        resolve("gs://bucket/team/none", tmp_path / "none")


@pytest.mark.parametrize(
    ("changes", "architecture"),
    [
        ({"architectures": ["BertModel"]}, "BertModel"),
        ({"architectures": ["BertForMaskedLM"], "id2label": {"7": "of no meaning here"}}, "BertForMaskedLM"),
        ({"architectures": None}, "bert"),
    ],
)
def test_an_encoder_to_fine_tune(broken, tmp_path, changes, architecture):
    change_config(broken, **changes)
    metadata = resolve(str(broken), tmp_path / "out", any_architecture=True)
    assert metadata["architecture"] == architecture and "labels" not in metadata
    assert resolve(str(broken), tmp_path / "again", any_architecture=True) == metadata


def test_an_encoder_is_checked_like_any_model(broken, tmp_path):
    change_config(broken, architectures=["BertModel"], auto_map={"AutoModel": "modeling.My"})
    with pytest.raises(InputError, match="needs Python code of its own"):
        resolve(str(broken), tmp_path / "out", any_architecture=True)
    change_config(broken, architectures=None, model_type=None, auto_map=None)
    with pytest.raises(InputError, match="names these architectures: none"):
        resolve(str(broken), tmp_path / "out", any_architecture=True)


def test_a_classifier_keeps_its_labels_where_any_architecture_will_do(source, tmp_path):
    assert resolve(str(source), tmp_path / "out", any_architecture=True)["labels"] == LABELS


@dsl.pipeline
def resolve_pipeline(reference: str):
    resolve_model(model_reference=reference)


def test_the_component_runs(source, tmp_path):
    run = run_pipeline(resolve_pipeline, tmp_path, reference=str(source))
    path, metadata = run.artifact("resolve-model", "model")
    assert names(path) == FILES
    assert metadata["labels"] == LABELS and metadata["digest"] == digest_of_model(source)
    assert metadata["parameters"] == sum(np.prod(t.shape) for t in load_file(path / "model.safetensors").values())


def test_the_component_fails_with_the_reason(broken, tmp_path):
    (broken / "config.json").unlink()
    run = run_pipeline(resolve_pipeline, tmp_path, check=False, reference=str(broken))
    assert run.code != 0 and "There is no config.json in" in run.log
