"""Dropout on a CPU, where PyTorch takes longer to draw its random numbers than for the products around them."""

from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SDPA, FAST_SDPA = "sdpa", "sdpa_with_fast_dropout"
# Scores that are computed at once, in as many whole texts: what follows finds them in the cache. Measured with 2,048
# tokens and 12 heads: 1,000,000 is twice as fast as everything at once, and 3,000,000 a twentieth slower.
SCORES = 1_000_000
# What attention may be told that changes nothing here; anything else goes to PyTorch.
_HARMLESS = {"is_causal", "output_attentions", "output_hidden_states", "return_dict", "use_cache"}


def speed_up_dropout(model: Any) -> None:
    """Makes a model's dropout fast on a CPU; what the model computes stays the same, but for the numbers drawn.

    PyTorch's attention with dropout is made of ten passes over all scores, one of which draws numbers one by one: three
    times as long as attention without.

    Args:
        model: A transformers model; it is changed.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Dropout:
                setattr(parent, name, FastDropout(child.p).train(child.training))
    if model.config._attn_implementation == SDPA:
        AttentionInterface.register(FAST_SDPA, attend)
        AttentionMaskInterface.register(FAST_SDPA, sdpa_mask)
        model.set_attn_implementation(FAST_SDPA)


class FastDropout(torch.nn.Dropout):
    """Dropout whose numbers are drawn faster; the share is rounded to 1/65,536."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Drops a share of the numbers, and scales the others up."""
        if not self.training or not 0 < self.p < 1:
            return super().forward(states)
        kept, share = draw_kept(states.shape, self.p, new_generator())
        return states * kept / share


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Computes attention as transformers' `sdpa` does.

    Takes queries, keys and values, (texts, heads, tokens, size), and returns answers, (texts, tokens, heads, size).
    What has no dropout, and what is not a plain encoder's attention, is left to transformers.
    """
    causal = attention_mask is None and (more.get("is_causal") or getattr(module, "is_causal", False))
    plain = query.shape == key.shape == value.shape and all(
        value is None or name in _HARMLESS for name, value in more.items()
    )
    boolean = attention_mask is None or (attention_mask.dtype == torch.bool and attention_mask.dim() == 4)
    if not (0 < dropout < 1 and plain and boolean) or causal:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **more)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    answer: torch.Tensor = _Attention.apply(query, key, value, attention_mask, dropout, scale)
    return answer.transpose(1, 2).contiguous(), None


def new_generator() -> np.random.SFC64:
    """Returns a generator that follows from torch's own, so that seeds and checkpoints hold for it too."""
    return np.random.SFC64(int(torch.randint(0, 2**62, (1,))))


def draw_kept(shape: torch.Size, dropout: float, generator: np.random.SFC64) -> tuple[torch.Tensor, float]:
    """Draws what is kept, 16 random bits for each number.

    Args:
        shape: The shape.
        dropout: The share to drop.
        generator: Draws the bits.

    Returns:
        1 or 0 for each number, uint8, and the share that is kept on average.
    """
    dropped = round(dropout * 2**16)
    bits = torch.from_numpy(generator.random_raw(-(-shape.numel() // 4)).view(np.int16))[: shape.numel()]
    # As bytes: a product with booleans takes five times as long.
    return (bits.view(shape) >= dropped - 2**15).view(torch.uint8), 1 - dropped / 2**16


class _Attention(torch.autograd.Function):
    """Attention with dropout, some texts after the other."""

    @staticmethod
    def forward(ctx: Any, query, key, value, mask, dropout, scale):  # type: ignore[no-untyped-def]
        texts, heads, tokens, _ = query.shape
        rows = max(1, SCORES // (heads * tokens * tokens))
        generator, share = new_generator(), 1.0
        answer = torch.empty(value.shape, dtype=value.dtype)
        ctx.parts, saved = [slice(start, start + rows) for start in range(0, texts, rows)], []
        # Autocast would turn softmax's answer to fp32, twice the memory.
        with torch.autocast("cpu", enabled=False):
            for part in ctx.parts:
                scores = (query[part] * scale) @ key[part].transpose(-1, -2)
                if mask is not None and not mask[part].all():
                    # Added, which takes a tenth of the time of filling in.
                    scores += torch.zeros(()).to(scores).masked_fill(~mask[part], -torch.inf)
                weights = torch.softmax(scores, dim=-1)
                kept, share = draw_kept(weights.shape, dropout, generator)
                answer[part] = (weights * kept) @ (value[part] / share)
                saved += [weights, kept]
        ctx.scale, ctx.share = scale, share
        ctx.save_for_backward(query, key, value, *saved)
        return answer

    @staticmethod
    def backward(ctx: Any, gradient):  # type: ignore[no-untyped-def]
        query, key, value, *saved = ctx.saved_tensors
        gradients = [torch.empty(each.shape, dtype=each.dtype) for each in (query, key, value)]
        with torch.autocast("cpu", enabled=False):
            for part, weights, kept in zip(ctx.parts, saved[::2], saved[1::2], strict=True):
                wanted = gradient[part] / ctx.share
                gradients[2][part] = (weights * kept).transpose(-1, -2) @ wanted
                of_weights = (wanted @ value[part].transpose(-1, -2)).mul_(kept)
                of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
                gradients[0][part] = (of_scores @ key[part]).mul_(ctx.scale)
                gradients[1][part] = (of_scores.transpose(-1, -2) @ query[part]).mul_(ctx.scale)
        return (*gradients, None, None, None)
