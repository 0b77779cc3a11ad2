"""What only a GPU can show: the precision that a card gets, and a batch that really does not fit into its memory."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from components.inference.engine import TextClassifier
from tests.tiny_model import train_tokenizer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU on this machine")

TEXTS = [f"ticket {n}: " + "the parcel never came and nobody answers " * (n % 12) for n in range(3000)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """BERT-base in size, with a head that tells texts apart."""
    folder = tmp_path_factory.mktemp("bert-base")
    tokenizer = train_tokenizer(TEXTS[:200])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), num_labels=4))
        torch.nn.init.normal_(model.classifier.weight, std=0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_gpu_answers_as_a_cpu_does(model):
    gpu, cpu = TextClassifier(model, batch_size=64), TextClassifier(model, batch_size=64, device="cpu")
    assert gpu.precision == ("bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16")
    assert cpu.precision == "fp32"
    on_gpu, on_cpu = gpu.classify(TEXTS[:300]), cpu.classify(TEXTS[:300])
    assert np.abs(on_gpu - on_cpu).max() < 0.05
    assert (on_gpu.argmax(1) == on_cpu.argmax(1)).mean() >= 0.97


def test_a_batch_that_does_not_fit_is_halved_and_the_run_goes_on(model, capsys):
    classifier = TextClassifier(model, batch_size=4096)
    expected = TextClassifier(model, batch_size=64).classify(TEXTS)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 1024**3) / total)
        answers = classifier.classify(TEXTS)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert classifier.batch_size < 4096
    assert f"{classifier.batch_size}" in capsys.readouterr().out
    assert (answers.argmax(1) == expected.argmax(1)).mean() >= 0.97
