"""Builds a model and its tokenizer from nothing but a configuration and the training texts."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

from components.errors import InputError
from components.inference.engine.loading import LIMIT_WITHOUT_POSITIONS
from components.training.finetune_classifier.tokenizer import train_tokenizer

# Small enough to learn from some hundred texts on a CPU within minutes. Pretrained models start from weights of 0.02;
# without pretraining larger ones learn in half the epochs.
DEFAULT_CONFIG: dict[str, Any] = {
    "model_type": "distilbert",
    "vocab_size": 8000,
    "max_position_embeddings": 256,
    "dim": 128,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 512,
    "initializer_range": 0.05,
}
# What follows from the tokenizer and the labels, or would run other people's code.
_OURS = {
    "architectures", "auto_map", "bos_token_id", "cls_token_id", "dtype", "eos_token_id", "id2label", "label2id",
    "num_labels", "pad_token_id", "problem_type", "sep_token_id", "transformers_version",
}  # fmt: skip


def build_config(model_config: Mapping[str, Any]) -> Any:
    """Builds a configuration from what a user gives of it.

    Args:
        model_config: `model_type` and what differs from that type's defaults; empty means `DEFAULT_CONFIG`. Whole
            numbers may come as floats, as kfp passes them.

    Raises:
        InputError: The type is not a text classifier's, a name is unknown, or a value is of a wrong kind.
    """
    values: dict[str, Any] = dict(model_config) or dict(DEFAULT_CONFIG)
    kind = values.pop("model_type", "")
    classifiers = sorted({config.model_type for config in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING})
    if kind not in classifiers:
        close = difflib.get_close_matches(str(kind), classifiers, n=1)
        raise InputError(
            f"The model_type of model_config is {kind!r}, which transformers has no text classifier of.",
            f"Did you mean {close[0]!r}?" if close else "Give one such as 'distilbert', 'bert' or 'modernbert'.",
        )
    names = sorted(set(CONFIG_MAPPING[kind]().to_dict()) | set(CONFIG_MAPPING[kind].attribute_map))
    for name in values:
        if name in _OURS:
            raise InputError(f"model_config names {name!r}, which follows from the data.", "Leave it out.")
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1)
            remedy = f"Did you mean {close[0]!r}?" if close else f"Leave it out; {kind} has: {', '.join(names)}."
            raise InputError(f"model_config names {name!r}, which {kind} does not have.", remedy)
    whole: dict[str, Any] = {
        name: int(value) if isinstance(value, float) and value.is_integer() and value >= 1 else value
        for name, value in values.items()
    }
    with _refusals(kind):
        return CONFIG_MAPPING[kind](**whole)


def build_tokenizer(config: Any, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Trains a tokenizer of at most `config.vocab_size` tokens, and tells the configuration how many there are."""
    longest = getattr(config, "max_position_embeddings", LIMIT_WITHOUT_POSITIONS)
    tokenizer = train_tokenizer(texts, config.vocab_size, longest)
    config.vocab_size = len(tokenizer)
    for role in ("pad", "cls", "sep", "bos", "eos"):
        if hasattr(config, f"{role}_token_id"):
            setattr(config, f"{role}_token_id", _token_of(tokenizer, role))
    return tokenizer


def build_new_model(
    model_config: Mapping[str, Any], texts: Callable[[], Iterable[str]], prepare: Callable[[Any], None]
) -> tuple[Any, PreTrainedTokenizerFast]:
    """Builds a classifier with random weights, in fp32, and its tokenizer.

    Args:
        model_config: As `build_config` takes it.
        texts: Reads the training texts.
        prepare: Puts into the configuration what the labels and the settings say.

    Raises:
        InputError: The configuration cannot be built.
    """
    config = build_config(model_config)
    with _refusals(config.model_type):
        tokenizer = build_tokenizer(config, texts())
        prepare(config)
        return AutoModelForSequenceClassification.from_config(config, dtype=torch.float32), tokenizer


@contextmanager
def _refusals(kind: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (StrictDataclassError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"The model_config is refused by {kind}: {reason}.", "Correct that value.") from error


def _token_of(tokenizer: PreTrainedTokenizerFast, role: str) -> int | None:
    return getattr(tokenizer, f"{ {'bos': 'cls', 'eos': 'sep'}.get(role, role) }_token_id")
