"""Opens a Model's folder: the network in fp32 on the CPU, its tokenizer, and what both of them can read."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from components.errors import InputError

# Tokenizers answer "no limit" with a number of 30 digits, and a model without positions has no limit at all.
NO_LIMIT = 100_000
LIMIT_WITHOUT_POSITIONS = 512


@dataclass
class LoadedModel:
    """A model and its tokenizer.

    Attributes:
        model: The transformers model, in evaluation mode.
        tokenizer: The transformers tokenizer; it has a padding token.
        inputs: The names of the arrays that the model takes and the tokenizer makes, `input_ids` first.
        max_length: The most tokens of a text that are read, special tokens included.
        pad_left: Whether padding stands before the text.
    """

    model: Any
    tokenizer: Any
    inputs: list[str]
    max_length: int
    pad_left: bool


def load_model(folder: str | Path, max_length: int = 0, head: bool = True) -> LoadedModel:
    """Opens a Model's folder. Nothing is downloaded, no code in it is run, and no pickle is opened.

    Args:
        folder: The Model's folder.
        max_length: The most tokens of a text that are wanted; 0 wants as many as the model can.
        head: Whether the model classifies; else it is the encoder without any head.

    Raises:
        InputError: The tokenizer cannot pad, or `max_length` is out of range.
    """
    transformers_logging.disable_progress_bar()
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    kind = AutoModelForSequenceClassification if head else AutoModel
    model = kind.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **local)
    model.eval().requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(folder, **local)
    set_padding_token(model, tokenizer)
    known = inspect.signature(model.forward).parameters
    # A tokenizer may make inputs that the model does not take, such as token_type_ids for DistilBERT.
    made = ["attention_mask", *(name for name in tokenizer.model_input_names if name == "token_type_ids")]
    inputs = ["input_ids", *(name for name in made if name in known)]
    # Padding on the left moves the text to later positions, and its answer would depend on its neighbours in the
    # batch. Only models without positions of that kind may have it; XLNet reads its answer from the last place.
    pad_left = tokenizer.padding_side == "left" and "position_ids" not in known
    return LoadedModel(model, tokenizer, inputs, choose_max_length(model, tokenizer, max_length), pad_left)


def set_padding_token(model: Any, tokenizer: Any) -> None:
    """Gives a tokenizer without a padding token its end-of-text token for one, and tells the model.

    Raises:
        InputError: It has neither.
    """
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise InputError(
                "The model's tokenizer has neither a padding nor an end-of-text token.",
                "Set tokenizer.pad_token and save the tokenizer again.",
            )
        tokenizer.pad_token = tokenizer.eos_token
    # Decoders look for the last token that is not padding, and refuse batches when they do not know it.
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id


def choose_max_length(model: Any, tokenizer: Any, wanted: int) -> int:
    """Returns the most tokens of a text that are read: what is wanted, or less where the model ends earlier.

    Raises:
        InputError: What is wanted leaves no room for text beside the special tokens.
    """
    special = tokenizer.num_special_tokens_to_add()
    if wanted and wanted <= special:
        raise InputError(f"max_length is {wanted}.", f"Give more than {special}, or 0 for as much as the model reads.")
    limits = [tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None)]
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding) and name.endswith("position_embeddings"):
            # RoBERTa and its kin count positions from behind the padding index.
            limits.append(module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1))
    known = [limit for limit in limits if isinstance(limit, int) and 0 < limit < NO_LIMIT]
    limit = min(known, default=LIMIT_WITHOUT_POSITIONS)
    return min(limit, wanted) if wanted else limit


def single_choice_labels(config: Any) -> list[str]:
    """Returns the names of a model's classes, in the order of their ids.

    Raises:
        InputError: The model does not choose one of several classes.
    """
    if config.problem_type == "multi_label_classification":
        raise InputError(
            "The model gives a text any number of labels (problem_type multi_label_classification).",
            "Take a model that chooses one label.",
        )
    if config.problem_type == "regression" or config.num_labels < 2:
        raise InputError("The model answers with a number, not a label.", "Take a model with two or more labels.")
    return [config.id2label[number] for number in range(config.num_labels)]
