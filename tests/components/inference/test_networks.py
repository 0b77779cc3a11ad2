"""What is left out of the computation changes no answer, and what needs it keeps it."""

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from components.inference.engine.loading import LoadedModel
from components.inference.engine.networks import ClassifierNetwork, EmbeddingNetwork
from components.inference.engine.openvino_backend import tokens_for
from components.inference.engine.torch_backend import COMPILED_WIDTHS, TorchBackend, tokens_that_fit

SIZES = {"num_labels": 3, "vocab_size": 60, "pad_token_id": 0, "initializer_range": 0.5}
WIDE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
MODELS = {
    "bert": (BertForSequenceClassification, BertConfig(**SIZES, **WIDE)),
    "roberta": (RobertaForSequenceClassification, RobertaConfig(**SIZES | {"pad_token_id": 1}, **WIDE)),
    "electra": (ElectraForSequenceClassification, ElectraConfig(**SIZES, **WIDE, embedding_size=16)),
    "distilbert": (DistilBertForSequenceClassification, DistilBertConfig(**SIZES, dim=16, n_layers=2, n_heads=2)),
    "gpt2": (GPT2ForSequenceClassification, GPT2Config(**SIZES, n_embd=16, n_layer=2, n_head=2)),
    "modernbert": (
        ModernBertForSequenceClassification,
        ModernBertConfig(**SIZES, **WIDE | {"num_hidden_layers": 4}, local_attention=6),
    ),
    "xlnet": (XLNetForSequenceClassification, XLNetConfig(**SIZES, d_model=16, n_layer=2, n_head=2, d_inner=32)),
}


def make_network(name: str, pooling: str = "") -> ClassifierNetwork | EmbeddingNetwork:
    torch.manual_seed(0)
    kind, config = MODELS[name]
    model = kind(config).eval().requires_grad_(False)
    for parameter, weights in model.named_parameters():
        # transformers starts them at 0, and then leaving one out would show nowhere.
        if parameter.endswith("bias"):
            weights.normal_(std=0.5)
    loaded = LoadedModel(model, None, ["input_ids", "attention_mask"], 512, pad_left=False)
    if pooling:
        loaded.model = getattr(model, model.base_model_prefix)
        return EmbeddingNetwork(loaded, pooling, normalize=True)
    return ClassifierNetwork(loaded)


def make_batch(lengths: list[int], seed: int = 0) -> list[torch.Tensor]:
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    ids = torch.randint(5, 60, mask.shape, generator=torch.Generator().manual_seed(seed))
    return [ids * mask, mask.long()]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("sample", [[9, 9], [9, 4, 1], [3, 2]])
def test_what_is_left_out_changes_no_answer(name, sample):
    plain, simple = make_network(name), make_network(name)
    simple.simplify(make_batch(sample))
    for lengths in ([7], [12, 12], [12, 5, 1], [1]):
        batch = make_batch(lengths, seed=1)
        padded = len(set(lengths)) > 1
        with torch.inference_mode():
            torch.testing.assert_close(simple(*batch, padded=padded), plain(*batch), atol=1e-4, rtol=1e-4)


def test_models_that_need_it_all_keep_it():
    found = {}
    for name in MODELS:
        network = make_network(name)
        network.simplify(make_batch([9, 4]))
        hooks = sum(len(module._forward_pre_hooks) for module in network.modules())
        found[name] = (network.lean_masks, hooks)
    assert found["bert"] == found["roberta"] == found["electra"] == found["distilbert"] == (True, 1)
    # A causal mask is made of one of two dimensions only, and the answer is the last token's.
    assert found["gpt2"] == (False, 0)


def test_what_holds_for_short_texts_is_not_taken_to_hold_for_long_ones():
    """ModernBERT's local layers look three tokens around; four tokens do not show what a global mask would change."""
    plain, simple = make_network("modernbert"), make_network("modernbert")
    simple.simplify(make_batch([4, 3]))
    batch = make_batch([40, 25], seed=1)
    with torch.inference_mode():
        torch.testing.assert_close(simple(*batch, padded=True), plain(*batch), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("pooling", "hooks"), [("mean", 0), ("cls", 1)])
def test_an_embedding_of_all_tokens_needs_all_of_them(pooling, hooks):
    network, plain = make_network("bert", pooling), make_network("bert", pooling)
    network.simplify(make_batch([9, 4]))
    assert sum(len(module._forward_pre_hooks) for module in network.modules()) == hooks
    batch = make_batch([12, 5, 1], seed=1)
    with torch.inference_mode():
        torch.testing.assert_close(network(*batch), plain(*batch), atol=1e-5, rtol=1e-5)


def test_rotary_frequencies_keep_their_digits_in_half_precision():
    network = make_network("modernbert")
    before = {name: numbers.clone() for name, numbers in network.named_buffers() if name.endswith("inv_freq")}
    backend = TorchBackend(network, torch.device("cpu"), "bf16", 100)
    after = dict(network.named_buffers())
    assert before and all(torch.equal(after[name], numbers) for name, numbers in before.items())
    assert {weights.dtype for weights in network.parameters()} == {torch.bfloat16}
    ids, mask = make_batch([60, 30])
    answer = backend.start({"input_ids": ids.numpy(), "attention_mask": mask.numpy()}, True)()
    with torch.inference_mode():
        np.testing.assert_allclose(answer, make_network("modernbert")(ids, mask), atol=0.2)


def test_a_graph_that_cannot_be_compiled_does_not_cost_the_job(capsys):
    def compile_with(network, **options):
        def fails(*tensors):
            raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")

        return fails

    backend = TorchBackend(
        make_network("bert"), torch.device("cpu"), "fp32", 100, compiled=True, compile_with=compile_with
    )
    ids, mask = make_batch([16] * backend.limits.rows_of(16))
    for _ in range(2):
        answer = backend.start({"input_ids": ids.numpy(), "attention_mask": mask.numpy()}, False)()
        with torch.inference_mode():
            np.testing.assert_allclose(answer, make_network("bert")(ids, mask), atol=1e-4)
    assert capsys.readouterr().out.count("going on without it") == 1


def test_compiled_graphs_are_few_and_answer_the_same():
    graphs = []

    def count(graph, example):
        graphs.append(tuple(example[0].shape))
        return graph.forward

    def compile_with(network, **options):
        return torch.compile(network, backend=count, **options)

    plain = make_network("bert")
    backend = TorchBackend(
        make_network("bert"), torch.device("cpu"), "fp32", 100, compiled=True, compile_with=compile_with
    )
    widths = {backend.limits.width_of(length) for length in range(1, 101)}
    assert widths == {*(width for width in COMPILED_WIDTHS if width < 100), 100}
    rng = np.random.default_rng(0)
    for length in rng.integers(1, 101, 40):
        width = backend.limits.width_of(int(length))
        rows = int(rng.choice([backend.limits.rows_of(width), 3]))
        ids, mask = make_batch([int(length)] * rows, seed=int(length))
        ids, mask = (torch.nn.functional.pad(each, (0, width - each.shape[1])) for each in (ids, mask))
        arrays = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        with torch.inference_mode():
            expected = plain(ids, mask)
        np.testing.assert_allclose(backend.start(arrays, True)(), expected, atol=1e-4)
    # Batches that are not full, such as a window's last one, are computed without a graph.
    assert {width for _, width in backend.graphs} <= widths
    assert all(rows == backend.limits.rows_of(width) for rows, width in backend.graphs)
    assert 0 < len(graphs) <= len(widths)


@pytest.mark.parametrize(
    ("free", "taken", "expected"),
    [(10**9, 10**6 * 8, 65_536), (10**8, 8192 * 10**4, 6000), (10**6, 8192 * 10**4, 512)],
)
def test_as_many_tokens_as_fit(free, taken, expected):
    """Never fewer than one text has, and never more than keep the largest card busy."""
    assert tokens_that_fit(free, taken, 8192, 512) == expected


@pytest.mark.parametrize(
    ("width", "precision", "expected"),
    [
        (1536, "fp32", 512),
        (1536, "bf16", 1024),
        (3072, "fp32", 256),
        (3072, "int8", 512),
        (32, "fp32", 1024),
        (100_000, "fp32", 128),
    ],
)
def test_wide_models_get_small_batches_on_a_cpu(width, precision, expected):
    """MiniLM's and BERT-base's widths, for which it was measured, and the bounds."""
    network = make_network("bert")
    network.model.bert.encoder.layer[0].intermediate.dense = torch.nn.Linear(2, width)
    assert tokens_for(network, precision) == expected
