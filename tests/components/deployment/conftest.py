"""A model as a training run leaves it, and a hub that has it."""

import shutil

import pytest

from tests.components.deployment.hub import serve_hub
from tests.tiny_model import build_tiny_model

LABELS = ["negative", "neutral", "positive"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A training folder: the model, and much that does not belong to it."""
    folder = build_tiny_model(tmp_path_factory.mktemp("resolve") / "model", LABELS, ["a few words", "for a tokenizer"])
    for name in ("optimizer.pt", "training_args.bin", "model.fp16.safetensors", "modeling.py", ".hidden", "README.md"):
        (folder / name).write_bytes(b"not a part of the model")
    shutil.copytree(folder, folder / "checkpoint-100", ignore=lambda *_: ["checkpoint-100"])
    return folder


@pytest.fixture(scope="module")
def hub(source, tmp_path_factory):
    pickled = shutil.copytree(source, tmp_path_factory.mktemp("hub") / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    models = {"org/name": source, "legacy": source, "org/gated": source, "org/pickled": pickled}
    with serve_hub(models) as served:
        yield served
