"""Computes the last layer of an encoder for the first token only, where a head looks at nothing else."""

from collections.abc import Callable
from typing import Any

import torch

# What the linear layers of self-attention are called: in BERT and its kin, and in DistilBERT.
_PROJECTIONS = (("query", "key", "value"), ("q_lin", "k_lin", "v_lin"))


def follow_first_token(model: torch.nn.Module) -> Callable[[], None] | None:
    """Makes a model's last layer compute the first token only.

    A classifier of BERT's kin reads nothing else of it: a sixth of a model of six layers is left out. Whether a model's
    answers stay the same is for the caller to see.

    Args:
        model: A transformers model; it is changed.

    Returns:
        What takes it back; None for a model whose layers are not like BERT's or DistilBERT's.
    """
    modules = dict(model.named_modules())
    attentions = [name for name, module in modules.items() if _projections(module)]
    if not attentions:
        return None
    last = attentions[-1]
    # What comes next takes the attention's answer, and the layer's input beside it or added to it.
    parent = last.rpartition(".")[0]
    following = modules.get(f"{parent}.output") or modules.get(f"{parent}.sa_layer_norm")
    if following is None:
        return None
    attention: Any = modules[last]
    finish = getattr(attention, "out_lin", torch.nn.Identity())
    hook = following.register_forward_pre_hook(lambda module, states: tuple(each[:, :1] for each in states))
    attention.forward = lambda hidden_states, attention_mask=None, **rest: (
        finish(attend_first(attention, hidden_states, attention_mask)),
        None,
    )

    def take_back() -> None:
        hook.remove()
        # The class has one, too.
        del attention.forward

    return take_back


def attend_first(attention: Any, states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Computes what the first token's attention says.

    Neither keys nor values are made for all tokens. A score is q·(Kx) = (qK)·x, and the mean of values that it leads to
    is V times the mean of states: two products with one matrix for each text, where there were two for each token.

    Args:
        attention: A self-attention of BERT's or DistilBERT's kind.
        states: What goes into the layer: (texts, tokens, width).
        mask: The tokens to look at, as booleans or as what is added to scores: (texts, 1, tokens or 1, tokens); None
            for all.

    Returns:
        The heads' answers, one beside the other: (texts, 1, width).
    """
    query, key, value = _projections(attention)
    size = attention.attention_head_size
    # (heads, texts, size): a product for each head, with the part of the matrix that belongs to it.
    asked = query(states[:, 0]).unflatten(-1, (-1, size)).transpose(0, 1) @ key.weight.unflatten(0, (-1, size))
    # The keys' bias adds the same to all scores of a text, and softmax takes that out.
    scores = attention.scaling * (asked.transpose(0, 1) @ states.transpose(1, 2))
    if mask is not None:
        mask = mask[:, 0, :1]
        lowest = torch.finfo(scores.dtype).min
        scores = scores.masked_fill(~mask, lowest) if mask.dtype == torch.bool else scores + mask
    seen = torch.softmax(scores, dim=-1) @ states
    answers = seen.transpose(0, 1) @ value.weight.unflatten(0, (-1, size)).transpose(1, 2)
    joined = answers.transpose(0, 1).flatten(1)
    return (joined if value.bias is None else joined + value.bias).unsqueeze(1)


def _projections(module: Any) -> list[Any]:
    for names in _PROJECTIONS:
        found = [getattr(module, name, None) for name in names]
        if all(isinstance(each, torch.nn.Linear) for each in found) and hasattr(module, "scaling"):
            return found
    return []
