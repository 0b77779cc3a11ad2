"""The fast dropout drops what it should, and attention with it has PyTorch's answers and gradients."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
)

from components.training.finetune_classifier import dropout
from components.training.finetune_classifier.dropout import FastDropout, attend, draw_kept, new_generator

SIZES = {"num_labels": 3, "vocab_size": 60, "pad_token_id": 0, "initializer_range": 0.5}
WIDE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
MODELS = {
    "bert": (BertForSequenceClassification, BertConfig(**SIZES, **WIDE)),
    "distilbert": (DistilBertForSequenceClassification, DistilBertConfig(**SIZES, dim=16, n_layers=2, n_heads=2)),
    "gpt2": (GPT2ForSequenceClassification, GPT2Config(**SIZES, n_embd=16, n_layer=2, n_head=2)),
}


def make_inputs(dtype=torch.float32, texts=5, tokens=7):
    torch.manual_seed(0)
    states = [torch.randn(texts, 2, tokens, 8).to(dtype).requires_grad_() for _ in range(3)]
    mask = torch.arange(tokens) < torch.tensor([7, 5, 3, 7, 1])[:texts, None]
    return states, mask[:, None, None, :].expand(texts, 1, tokens, tokens)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_as_much_is_dropped_as_is_asked_for(share):
    torch.manual_seed(1)
    kept, scale = draw_kept(torch.Size((300, 333)), share, new_generator())
    kept = kept.bool()
    assert kept.float().mean() == pytest.approx(1 - share, abs=0.01)
    assert scale == pytest.approx(1 - share, abs=1e-5)
    # Neighbours in a row and in a column know nothing of each other.
    for one, other in ((kept[:, 1:], kept[:, :-1]), (kept[1:], kept[:-1])):
        both = (one & other).float().mean()
        assert both == pytest.approx((1 - share) ** 2, abs=0.01)


def test_dropout_keeps_the_mean_follows_the_seed_and_ends_with_the_training():
    module, states = FastDropout(0.3), torch.ones(400, 300, requires_grad=True)
    torch.manual_seed(2)
    one, other = module(states), module(states)
    torch.manual_seed(2)
    assert torch.equal(module(states), one) and not torch.equal(one, other)
    assert one.mean().item() == pytest.approx(1, abs=0.01)
    one.sum().backward()
    assert torch.equal(states.grad, one.detach())
    assert torch.equal(module.eval()(states), states)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("scores", [1, 250, 10**6], ids=["a text at once", "some texts at once", "all texts at once"])
def test_attention_has_the_answers_and_gradients_of_plain_products(monkeypatch, masked, scores):
    monkeypatch.setattr(dropout, "SCORES", scores)
    drawn = []

    def draw(*arguments):
        drawn.append(draw_kept(*arguments))
        return drawn[-1]

    monkeypatch.setattr(dropout, "draw_kept", draw)
    states, mask = make_inputs()
    answer, _ = attend(torch.nn.Identity(), *states, mask if masked else None, dropout=0.4, scaling=0.3)
    assert answer.shape == (5, 7, 2, 8)
    factors = torch.randn(answer.shape)
    (answer * factors).sum().backward()
    found = [each.grad.clone() for each in states]

    (query, key, value), _ = make_inputs()
    products = 0.3 * query @ key.transpose(-1, -2)
    weights = torch.softmax(products.masked_fill(~mask, -torch.inf) if masked else products, dim=-1)
    kept = torch.cat([kept for kept, _ in drawn])
    expected = ((weights * kept / drawn[0][1]) @ value).transpose(1, 2)
    (expected * factors).sum().backward()
    torch.testing.assert_close(answer, expected)
    for gradient, each in zip(found, (query, key, value), strict=True):
        torch.testing.assert_close(gradient, each.grad)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_without_dropout_in_evaluation_answers_as_before(name):
    torch.manual_seed(0)
    kind, config = MODELS[name]
    model = kind(config).eval()
    ids, mask = torch.randint(5, 60, (3, 9)), torch.ones(3, 9, dtype=torch.long)
    mask[1, 5:] = 0
    expected = model(ids, attention_mask=mask).logits
    dropout.speed_up_dropout(model)
    torch.testing.assert_close(model(ids, attention_mask=mask).logits, expected)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_answers_with_dropout_as_it_does_on_average(name):
    """The mean over many draws is that of PyTorch's dropout: both are drawn from one distribution."""
    torch.manual_seed(0)
    kind, config = MODELS[name]
    plain = kind(config).train()
    fast = kind(config).train()
    fast.load_state_dict(plain.state_dict())
    dropout.speed_up_dropout(fast)
    ids, mask = torch.randint(5, 60, (1, 9)).repeat(4000, 1), torch.ones(4000, 9, dtype=torch.long)
    with torch.no_grad():
        one, other = (model(ids, attention_mask=mask).logits for model in (plain, fast))
    noise = one.std(dim=0) / 4000**0.5
    assert ((one.mean(dim=0) - other.mean(dim=0)).abs() < 5 * noise).all()
    torch.testing.assert_close(one.std(dim=0), other.std(dim=0), rtol=0.1, atol=0)


def test_the_fast_attention_is_used_and_not_saved(tmp_path, monkeypatch):
    kind, config = MODELS["bert"]
    model = kind(config).train()
    dropout.speed_up_dropout(model)
    used = []
    original = dropout._Attention.apply
    monkeypatch.setattr(dropout._Attention, "apply", lambda *given: used.append(1) or original(*given))
    model(torch.randint(5, 60, (2, 9))).logits.sum().backward()
    assert len(used) == 2
    model.save_pretrained(tmp_path)
    assert "fast" not in (tmp_path / "config.json").read_text()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randint(5, 60, (2, 9))).logits
    logits.float().sum().backward()
    assert len(used) == 4 and torch.isfinite(logits).all()
