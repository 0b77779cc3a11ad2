import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from components.errors import InputError
from components.inference.engine import TextClassifier
from tests.tiny_model import build_tiny_model, train_tokenizer

LABELS = ["billing", "error", "praise"]
WORDS = [*("the", "invoice", "was", "charged", "twice", "and", "printer"), *("thanks", "for", "great", "quick", "help")]


def make_texts(count: int, longest: int = 150) -> list[str]:
    rng = np.random.default_rng(1)
    return [" ".join(rng.choice(WORDS, size=int(rng.integers(0, longest)))) for _ in range(count)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("engine") / "model", LABELS, make_texts(100))


@pytest.fixture(scope="module")
def classifier(model):
    return TextClassifier(model)


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(40)), batch_size=st.integers(1, 50))
def test_order_and_batches_change_no_answer(classifier, order, batch_size):
    texts = make_texts(40)
    classifier.batch_size = batch_size
    answers = classifier.classify([texts[number] for number in order])
    classifier.batch_size = 8
    np.testing.assert_allclose(answers, classifier.classify(texts)[list(order)], atol=1e-5)


def test_a_batch_that_does_not_fit_is_halved(model, capsys):
    texts = make_texts(165)
    expected = TextClassifier(model).classify(texts)
    classifier = TextClassifier(model, batch_size=50)
    tried = []

    def small_memory(module, arguments, inputs):
        tried.append(len(inputs["input_ids"]))
        if tried[-1] > 12:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    classifier._model.register_forward_pre_hook(small_memory, with_kwargs=True)
    np.testing.assert_allclose(classifier.classify(texts), expected, atol=1e-5)
    assert tried[:4] == [50, 25, 12, 12] and classifier.batch_size == 12
    assert "50 texts at once do not fit into the memory of cpu: going on with 25." in capsys.readouterr().out


def test_a_text_that_does_not_fit_alone_is_an_error(model):
    classifier = TextClassifier(model, batch_size=4)

    def no_memory(module, arguments):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    classifier._model.register_forward_pre_hook(no_memory)
    with pytest.raises(InputError, match="One text of 3 tokens does not fit"):
        classifier.classify(["the", "the", "the"])


def test_another_error_of_the_model_is_not_taken_for_a_lack_of_memory(model):
    classifier = TextClassifier(model)

    def broken(module, arguments):
        raise RuntimeError("shapes do not match")

    classifier._model.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        classifier.classify(["the"])


def small(config_class, **more):
    return config_class(
        vocab_size=120,
        num_labels=3,
        id2label=dict(enumerate(LABELS)),
        label2id={n: i for i, n in enumerate(LABELS)},
        **more,
    )


def save(model_, folder, **tokenizer_options):
    torch.manual_seed(0)
    model_.eval().save_pretrained(folder)
    tokenizer = train_tokenizer(make_texts(50), size=120)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **tokenizer_options).save_pretrained(folder)
    return folder


def test_a_model_that_takes_no_token_types(tmp_path):
    """The tokenizer gives DistilBERT token_type_ids, which its forward does not take."""
    config = small(DistilBertConfig, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=64)
    folder = save(DistilBertForSequenceClassification(config), tmp_path / "model", pad_token="[PAD]")
    classifier = TextClassifier(folder)
    assert classifier.max_length == 64
    answers = classifier.classify(["", "the invoice " * 100])
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)


def test_roberta_counts_positions_from_behind_the_padding_index(tmp_path):
    config = small(
        RobertaConfig, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=66, pad_token_id=1, type_vocab_size=1,
    )  # fmt: skip
    folder = save(
        RobertaForSequenceClassification(config), tmp_path / "model", pad_token="[UNK]", model_input_names=["input_ids"]
    )
    classifier = TextClassifier(folder)
    assert classifier.max_length == 64
    assert np.isfinite(classifier.classify(["the invoice " * 100])).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_decoder_without_a_padding_token(tmp_path, side):
    config = small(
        GPT2Config,
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=64,
        bos_token_id=3,
        eos_token_id=3,
        initializer_range=0.5,
    )
    model_ = GPT2ForSequenceClassification(config)
    model_.config.pad_token_id = None
    folder = save(model_, tmp_path / "model", eos_token="[SEP]", padding_side=side)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = None
    tokenizer.save_pretrained(folder)
    classifier = TextClassifier(folder)
    texts = ["", "the invoice was charged", "thanks", "printer error " * 60]
    answers = classifier.classify(texts)
    np.testing.assert_allclose(answers, np.concatenate([classifier.classify([text]) for text in texts]), atol=1e-5)


def test_a_tokenizer_that_cannot_pad_is_refused(tmp_path, model):
    folder = shutil.copytree(model, tmp_path / "model")
    tokenizer = train_tokenizer(make_texts(50))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer).save_pretrained(folder)
    with pytest.raises(InputError, match="neither a padding nor an end-of-text token"):
        TextClassifier(folder)
