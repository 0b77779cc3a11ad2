"""What only a GPU can show: precisions, memory that really ends, graphs, and that nobody waits for a batch."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from components.inference.devices import DevicePool
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


@pytest.fixture(scope="module")
def on_cpu(model):
    return TextClassifier(model, device="cpu", backend="torch").classify(TEXTS[:300])


@pytest.mark.parametrize(("precision", "tolerance"), [("auto", 0.05), ("fp32", 0.01), ("fp16", 0.02)])
def test_a_gpu_answers_as_a_cpu_does(model, on_cpu, precision, tolerance):
    gpu = TextClassifier(model, precision=precision)
    answers = gpu.classify(TEXTS[:300])
    best = "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"
    assert (gpu.backend, gpu.precision) == ("torch", best if precision == "auto" else precision)
    assert np.abs(answers - on_cpu).max() < tolerance
    assert (answers.argmax(1) == on_cpu.argmax(1)).mean() >= 0.97


def test_a_batch_that_does_not_fit_is_halved_and_the_run_goes_on(model, capsys):
    classifier = TextClassifier(model)
    expected = classifier.classify(TEXTS)
    tokens = classifier.engine._backend.limits.tokens
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 128 * 1024**2) / total)
        answers = classifier.classify(TEXTS)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert classifier.engine._backend.limits.tokens < tokens
    assert "does not fit into the memory of" in capsys.readouterr().out
    assert (answers.argmax(1) == expected.argmax(1)).mean() >= 0.97


def test_the_budget_is_found_from_free_memory(model):
    classifier = TextClassifier(model)
    classifier.classify(TEXTS[:10])
    assert 8192 <= classifier.engine._backend.limits.tokens <= 65_536
    assert classifier.engine._backend.limits.width_of(9) == 16


def test_no_batch_is_waited_for_before_the_next_one_begins(model):
    """In this mode torch raises wherever Python waits for the GPU; waiting for a finished copy's event is allowed."""
    classifier = TextClassifier(model)
    classifier.classify(TEXTS[:300])
    torch.cuda.set_sync_debug_mode("error")
    try:
        classifier.classify(TEXTS)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_compiled_graphs_are_few_and_answer_the_same(model):
    expected = TextClassifier(model).classify(TEXTS)
    classifier = TextClassifier(model, compiled=True)
    answers = classifier.classify(TEXTS)
    assert 0 < len(classifier.engine._backend.graphs) <= 10
    assert np.abs(answers - expected).max() < 0.05


def test_several_gpus_answer_as_one(model):
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU only")
    from functools import partial

    expected = TextClassifier(model, device="cuda:0").classify(TEXTS)
    pool = DevicePool(partial(TextClassifier, model), ["cuda:0", "cuda:1"])
    try:
        windows = [TEXTS[start : start + 300] for start in range(0, 3000, 300)]
        answers = np.concatenate(list(pool.stream(iter(windows))))
    finally:
        pool.close()
    assert np.abs(answers - expected).max() < 0.05
