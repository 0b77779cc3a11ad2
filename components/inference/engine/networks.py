"""What is computed of a batch of tokens: logits, or embeddings. The same modules run in PyTorch and are converted."""

import inspect
from typing import Any

import torch

from components.errors import InputError
from components.inference.engine.first_token import follow_first_token
from components.inference.engine.loading import LoadedModel

POOLINGS = ("mean", "cls")
# Sums in another order differ by less; another computation by more.
SAME_ANSWER = 1e-4
# Of a text with fewer tokens, the first one may be all that there is to answer with.
SAMPLE_TOKENS = 4


class Network(torch.nn.Module):
    """A model and what is made of its answer.

    Attributes:
        inputs: The names of the arrays that it takes, in their order.
        lean_masks: Whether the model is given no attention mask where nothing is padded, and one of four dimensions
            where something is. From one of two dimensions transformers makes it anew in each call, and looks whether
            anything is padded, for which a GPU is waited for. Only encoders without windows bear it; see `simplify`.
    """

    def __init__(self, loaded: LoadedModel):
        super().__init__()
        self.model, self.inputs = loaded.model, loaded.inputs
        self.lean_masks = False
        # Classifying decoders would keep keys and values of every layer for a next token that never comes.
        cached = "use_cache" in inspect.signature(self.model.forward).parameters
        self.options: dict[str, Any] = {"use_cache": False} if cached else {}

    def forward(self, *arrays: torch.Tensor, padded: bool = True) -> torch.Tensor:
        """Computes the answer: float32, (texts, numbers).

        Args:
            arrays: Token ids, and what else the model takes, in the order of `inputs`: (texts, tokens).
            padded: Whether any of the texts ends before the last token.
        """
        named = dict(zip(self.inputs, arrays, strict=True))
        given = dict(named)
        if self.lean_masks and "attention_mask" in given:
            mask = given.pop("attention_mask")
            if padded:
                rows, width = mask.shape
                given["attention_mask"] = mask.bool()[:, None, None, :].expand(rows, 1, width, width)
        return self.finish(self.model(**given, **self.options), named)

    def finish(self, answer: Any, named: dict[str, torch.Tensor]) -> torch.Tensor:
        """Makes of the model's answer what is wanted."""
        raise NotImplementedError

    @torch.inference_mode()
    def simplify(self, arrays: list[torch.Tensor], lean_masks: bool = True) -> None:
        """Leaves out of the computation what the answers do not need, as far as they stay the same.

        Args:
            arrays: Some texts, the longest first, as `forward` takes them.
            lean_masks: Whether to look if the model bears them. What is converted has no use for them.
        """
        if arrays[0].shape[1] < SAMPLE_TOKENS:
            return
        longest = [array[:1] for array in arrays]
        # Two are enough to see it, and each of them takes time before the first batch. There may be no padding among
        # them, and then what ignores it would pass: the first one once more, cut short.
        arrays = [torch.cat([array[:1], array[-1:], array[:1]]) for array in arrays]
        if "attention_mask" in self.inputs:
            arrays[self.inputs.index("attention_mask")][-1, SAMPLE_TOKENS // 2 :] = 0
        expected, expected_longest = self(*arrays), self(*longest)
        if lean_masks and "attention_mask" in self.inputs and not has_windows(self.model.config):
            self.lean_masks = True
            self.lean_masks = self._answers(arrays, expected) and self._answers(longest, expected_longest, padded=False)
        take_back = follow_first_token(self.model)
        if take_back and not (self._answers(arrays, expected) and self._answers(longest, expected_longest)):
            take_back()

    def _answers(self, arrays: list[torch.Tensor], expected: torch.Tensor, padded: bool = True) -> bool:
        try:
            answer = self(*arrays, padded=padded)
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
            # Models that make something of their own of a mask know one of two dimensions only.
            return False
        # Not "any greater": a comparison with NaN says no to both.
        return answer.shape == expected.shape and bool(((answer - expected).abs() <= SAME_ANSWER).all())


def has_windows(config: Any) -> bool:
    """Tells whether a model has layers that look at neighbouring tokens only, as ModernBERT's do.

    A mask of four dimensions takes the place of their window. Texts that are shorter than it would not show that.
    """
    told = any(getattr(config, name, None) for name in ("sliding_window", "local_attention", "attention_window"))
    return told or any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ())


class ClassifierNetwork(Network):
    """Answers with the logits of all classes: (texts, classes)."""

    def finish(self, answer: Any, named: dict[str, torch.Tensor]) -> torch.Tensor:
        """Returns the logits."""
        logits: torch.Tensor = answer.logits
        return logits.float()


class EmbeddingNetwork(Network):
    """Answers with one vector for each text: (texts, dimensions).

    Args:
        loaded: An encoder without a head.
        pooling: `mean` of all tokens' vectors, or `cls`, the first token's.
        normalize: Whether vectors get the length 1.

    Raises:
        InputError: There is no such pooling, or the model has no first token.
    """

    def __init__(self, loaded: LoadedModel, pooling: str, normalize: bool):
        super().__init__(loaded)
        if pooling not in POOLINGS:
            raise InputError(f"There is no pooling {pooling!r}.", f"Give one of {', '.join(POOLINGS)}.")
        if pooling == "cls" and loaded.pad_left:
            raise InputError("The model's texts do not begin with a token that stands for them.", "Give pooling=mean.")
        self.pooling, self.normalize = pooling, normalize

    def finish(self, answer: Any, named: dict[str, torch.Tensor]) -> torch.Tensor:
        """Returns the vectors."""
        states = answer.last_hidden_state
        if self.pooling == "cls":
            pooled = states[:, 0].float()
        else:
            weights = named["attention_mask"].unsqueeze(-1).float()
            # A sum in half precision would lose what the last tokens add.
            pooled = (states.float() * weights).sum(dim=1) / weights.sum(dim=1)
        return torch.nn.functional.normalize(pooled, dim=-1) if self.normalize else pooled
