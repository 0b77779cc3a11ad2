import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from components.errors import InputError
from components.inference.engine import TextClassifier
from components.models import inspect_model, write_absent
from components.training.finetune_classifier.model import make_starting_model
from components.training.hyperparameters import Hyperparameters
from tests.components.training.corpus import build_base, make_rows

TEXTS = [text for text, _ in make_rows(60)]
SMALL = {"model_type": "distilbert", "dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 32, "vocab_size": 200}


def start(base, folder, labels=("bad", "good"), config=None, **settings):
    return make_starting_model(
        base, config or {}, list(labels), lambda: iter(TEXTS), Hyperparameters(**settings), folder
    )


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_base(tmp_path_factory.mktemp("base"), ["good", "bad"])


@pytest.fixture
def absent(tmp_path):
    write_absent(tmp_path / "absent", "")
    return tmp_path / "absent"


def test_a_head_of_the_same_labels_is_kept_with_their_order(base, tmp_path):
    model = start(base, tmp_path / "start", ["bad", "good"])
    assert model.labels == inspect_model(tmp_path / "start", "it").labels == ["good", "bad"]
    assert all(torch.equal(weights(tmp_path / "start")[name], tensor) for name, tensor in weights(base).items())
    assert "kept the head" in model.notes[0]


@pytest.mark.parametrize("labels", [["ham", "spam"], ["bad", "good", "other"]])
def test_a_head_of_other_labels_is_replaced_and_nothing_else(base, tmp_path, labels):
    # With the seed that the base model was built with, its weights would come out again.
    model = start(base, tmp_path / "start", labels, seed=3)
    assert model.labels == inspect_model(tmp_path / "start", "it").labels == labels
    assert "replaced the head" in model.notes[0] and "'good', 'bad'" in model.notes[0]
    before, after = weights(base), weights(tmp_path / "start")
    same_shape = {name for name in after if before[name].shape == after[name].shape}
    changed = set(after) - {name for name in same_shape if torch.equal(before[name], after[name])}
    assert "classifier.weight" in changed <= {"classifier.weight", "classifier.bias"}
    start(base, tmp_path / "again", labels, seed=3)
    assert torch.equal(weights(tmp_path / "again")["classifier.weight"], after["classifier.weight"])
    start(base, tmp_path / "seeded", labels, seed=1)
    assert not torch.equal(weights(tmp_path / "seeded")["classifier.weight"], after["classifier.weight"])


def test_an_encoder_gets_a_head(base, tmp_path):
    encoder = tmp_path / "encoder"
    AutoModel.from_pretrained(base).to(torch.bfloat16).save_pretrained(encoder)
    AutoTokenizer.from_pretrained(base).save_pretrained(encoder)
    model = start(encoder, tmp_path / "start", ["a", "b", "c"])
    assert "added a head for 3 labels" in model.notes[0]
    assert inspect_model(tmp_path / "start", "it").labels == ["a", "b", "c"]
    # In fp32, whatever it was saved in: an optimizer's small steps are lost in bf16.
    assert {tensor.dtype for tensor in weights(tmp_path / "start").values()} == {torch.float32}


def test_a_base_model_of_other_weights_than_it_says_is_refused(base, tmp_path):
    def broken(name, change):
        folder = shutil.copytree(base, tmp_path / name)
        tensors = load_file(folder / "model.safetensors")
        save_file(change(tensors), folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    # Otherwise transformers starts what does not fit at random, and nobody hears of it.
    renamed = broken("renamed", lambda all_: {f"old.{name}": tensor for name, tensor in all_.items()})
    with pytest.raises(InputError, match="lacks 2. of the 2. weights of its encoder, such as bert"):
        start(renamed, tmp_path / "start")
    words = "bert.embeddings.word_embeddings.weight"
    cut = broken("cut", lambda all_: {**all_, words: all_[words][:-1].clone()})
    with pytest.raises(InputError, match=f"{words} has the shape"):
        start(cut, tmp_path / "start")
    assert not (tmp_path / "start").exists()
    without = broken("without", lambda all_: {name: one for name, one in all_.items() if "pooler" not in name})
    notes = start(without, tmp_path / "start").notes
    assert "lacks the weights 'bert.pooler.dense.bias', 'bert.pooler.dense.weight', which start at random" in notes[-1]


def test_a_shorter_max_length_goes_with_the_model(base, tmp_path):
    assert start(base, tmp_path / "short", max_length=12).max_length == 12
    assert TextClassifier(tmp_path / "short").max_length == 12
    assert start(base, tmp_path / "whole").max_length == 128
    assert TextClassifier(tmp_path / "whole").max_length == 128


def test_dropout_is_set_everywhere_or_left_alone(base, tmp_path):
    start(base, tmp_path / "own")
    start(base, tmp_path / "set", dropout=0.25)
    own, given = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("own", "set"))
    assert (own["hidden_dropout_prob"], own["attention_probs_dropout_prob"]) == (0.1, 0.1)
    assert (given["hidden_dropout_prob"], given["attention_probs_dropout_prob"]) == (0.25, 0.25)


def test_a_model_is_built_from_nothing(absent, tmp_path):
    model = start(absent, tmp_path / "start", config={**SMALL, "dim": 16.0, "max_position_embeddings": 64.0})
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "start")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "start")
    assert loaded.config.dim == 16 and loaded.config.vocab_size == len(tokenizer) <= 200
    assert loaded.config.pad_token_id == tokenizer.pad_token_id == model.padding.token
    assert model.max_length == 64
    assert tokenizer.decode(tokenizer("The PARCEL was Fine")["input_ids"]) == "[CLS] the parcel was fine [SEP]"


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert", "gpt2"])
def test_other_architectures_are_built_and_run(absent, tmp_path, kind):
    sizes = {
        "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64},
        "modernbert": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    }
    own = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = {"model_type": kind, "vocab_size": 150, **sizes.get(kind, {**own, "max_position_embeddings": 64})}
    model = start(absent, tmp_path / "start", config=config, token_masking=0.1)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "start")
    longest = model.tokenizer(" ".join(TEXTS), truncation=True, max_length=model.max_length, return_tensors="pt")
    short = model.tokenizer(["fine", "the parcel was late"], padding=True, return_tensors="pt")
    for inputs in (longest, short):
        assert loaded(**inputs).logits.isfinite().all()
    assert model.masking and model.masking.token == model.tokenizer.mask_token_id


def test_the_same_texts_give_the_same_model_in_another_process(absent, tmp_path):
    program = """
import sys
from pathlib import Path
from components.training.finetune_classifier.model import make_starting_model
from components.training.hyperparameters import Hyperparameters
from tests.components.training.test_starting_model import SMALL, TEXTS
make_starting_model(sys.argv[1], SMALL, ["a", "b"], lambda: iter(TEXTS), Hyperparameters(), Path(sys.argv[2]))
"""
    command = [sys.executable, "-c", program, str(absent), str(tmp_path / "there")]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[3], env={**os.environ, "PYTHONHASHSEED": "7"})
    start(absent, tmp_path / "here", ["a", "b"], SMALL)
    for path in (tmp_path / "here").iterdir():
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"model_type": "distilbert", "dims": 3}, "Did you mean 'dim'"),
        ({"model_type": "distilbert", "zzz": 3}, "zzz.*Leave it out"),
        ({"model_type": "distilber"}, "Did you mean 'distilbert'"),
        ({"dim": 3}, "model_type"),
        ({"model_type": "distilbert", "dim": 65}, "refused by distilbert.*n_heads"),
        ({"model_type": "distilbert", "dim": "wide"}, "refused by distilbert.*dim"),
        ({"model_type": "distilbert", "id2label": {"0": "a"}}, "follows from the data"),
    ],
)
def test_a_wrong_configuration_is_refused_in_a_sentence(absent, tmp_path, config, told):
    with pytest.raises(InputError, match=told):
        start(absent, tmp_path / "start", config=config)


def test_what_cannot_be_trained_with_is_refused(base, tmp_path):
    with pytest.raises(InputError, match="Give model_config only where"):
        start(base, tmp_path / "start", config=SMALL)
    image = tmp_path / "image"
    image.mkdir()
    (image / "container.json").write_text('{"labels": ["bad", "good"]}')
    with pytest.raises(InputError, match="one of a training image"):
        start(image, tmp_path / "start")
    vision = shutil.copytree(base, tmp_path / "vision")
    (vision / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(InputError, match="'vit', which transformers has no text classifier of"):
        start(vision, tmp_path / "start")
    with pytest.raises(InputError, match="Give more than 2"):
        start(base, tmp_path / "start", max_length=2)
    without = tmp_path / "without"
    AutoModelForSequenceClassification.from_pretrained(base).save_pretrained(without)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.mask_token = tokenizer.unk_token = None
    tokenizer.save_pretrained(without)
    with pytest.raises(InputError, match="Leave token_masking at 0"):
        start(without, tmp_path / "start", token_masking=0.1)
