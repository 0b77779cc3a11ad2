"""What only a GPU can show: the precision that a card gets, a step that really does not fit, and two runs alike."""

import gc

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForSequenceClassification

from components.training.finetune_classifier.finetune import finetune
from components.training.hyperparameters import parse_hyperparameters
from tests.components.training.corpus import make_rows, write_dataset
from tests.tiny_model import train_tokenizer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU on this machine")

SETTINGS = {"learning_rate": 5e-5, "epochs": 1, "batch_size": 64, "evaluations_per_epoch": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Rows of up to 512 tokens, and BERT-base in size."""
    folder = tmp_path_factory.mktemp("data")
    rows = [(f"{text} " * (1 + number % 20), label) for number, (text, label) in enumerate(make_rows(640))]
    write_dataset(folder / "train", rows[:512])
    write_dataset(folder / "validation", rows[512:])
    tokenizer = train_tokenizer([text for text, _ in rows[:200]])
    tokenizer.model_max_length = 512
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer))).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    return folder


def train(data, output, **given):
    settings = parse_hyperparameters({**SETTINGS, **given})
    return finetune(data / "train", data / "validation", data / "base", output, settings, processes=1)


def test_auto_takes_what_the_card_is_fast_in(data, tmp_path):
    result = train(data, tmp_path / "model")
    assert result.metadata["precision"] == ("bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16")
    assert result.metadata["device"] == torch.cuda.get_device_name()
    assert {tensor.dtype for tensor in load_file(tmp_path / "model" / "model.safetensors").values()} == {torch.float32}


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_every_precision_learns(data, tmp_path, precision):
    result = train(data, tmp_path / "model", precision=precision, epochs=3)
    assert result.metadata["precision"] == precision
    assert result.evaluations[-1]["loss"] < result.evaluations[0]["loss"]


def test_the_same_seed_gives_the_same_bytes(data, tmp_path):
    for name in ("one", "two"):
        train(data, tmp_path / name)
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "two/model.safetensors").read_bytes()


@pytest.mark.skipif(torch.cuda.device_count() > 1, reason="with several GPUs it would be in a process of its own")
def test_a_step_that_does_not_fit_is_taken_in_parts(data, tmp_path, capsys):
    expected = train(data, tmp_path / "expected", dropout=0.0)
    total = torch.cuda.get_device_properties(0).total_memory
    gc.collect()
    torch.cuda.empty_cache()
    try:
        # Weights, gradients and AdamW's two moments of BERT-base take 1.8 GB.
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 5 * 1024**3) / total)
        result = train(data, tmp_path / "small", dropout=0.0)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "do not fit into memory" in capsys.readouterr().out
    assert result.metrics["steps"] == expected.metrics["steps"]
    assert result.metrics["loss"] == pytest.approx(expected.metrics["loss"], abs=0.05)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU on this machine")
def test_all_gpus_give_what_one_gives(data, tmp_path):
    settings = parse_hyperparameters({**SETTINGS, "dropout": 0.0, "precision": "fp32"})
    one, all_of_them = (
        finetune(data / "train", data / "validation", data / "base", tmp_path / str(count), settings, processes=count)
        for count in (1, 0)
    )
    assert all_of_them.metadata["processes"] == min(torch.cuda.device_count(), 64)
    assert all_of_them.metrics["loss"] == pytest.approx(one.metrics["loss"], abs=1e-3)
