"""Makes the model that training starts from: a base model with a head for the labels, or one built from nothing."""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging

from components.errors import InputError
from components.inference.engine.loading import choose_max_length, set_padding_token
from components.models import CONTAINER_MODEL, is_absent
from components.training.finetune_classifier.batches import Masking, Padding
from components.training.finetune_classifier.new_model import build_new_model
from components.training.hyperparameters import Hyperparameters

SINGLE_LABEL = "single_label_classification"


@dataclass(frozen=True)
class StartingModel:
    """What a training run starts from; its files are in a folder.

    Attributes:
        labels: The names of the classes, in the order of their ids.
        max_length: The most tokens of a text that are read.
        inputs: What the model's forward takes.
        padding: How rows are padded.
        masking: How tokens are hidden while training; None hides none.
        notes: What was done to the base model, a sentence each.
        tokenizer: The tokenizer.
    """

    labels: list[str]
    max_length: int
    inputs: set[str]
    padding: Padding
    masking: Masking | None
    notes: list[str]
    tokenizer: Any


def make_starting_model(
    base_model: str | Path,
    model_config: Mapping[str, Any],
    labels: Sequence[str],
    texts: Callable[[], Iterable[str]],
    hyperparameters: Hyperparameters,
    folder: Path,
) -> StartingModel:
    """Writes the model that training starts from, and its tokenizer, to a folder.

    Args:
        base_model: The base Model's folder; an absent Model means one built from `model_config`.
        model_config: The configuration of a model that is built from nothing.
        labels: The labels of the data, sorted.
        texts: Reads the training texts, for a new model's tokenizer.
        hyperparameters: `seed`, `dropout`, `max_length` and `token_masking` are read.
        folder: The folder to write.

    Raises:
        InputError: The base model or a setting cannot be used.
    """
    transformers_logging.disable_progress_bar()
    # Its report of the weights that a head has and a base model has not says in a table what the notes say.
    transformers_logging.set_verbosity_error()
    torch.manual_seed(hyperparameters.seed)
    tokenizer: Any
    if is_absent(base_model):
        model, tokenizer = build_new_model(
            model_config, texts, lambda config: _prepare_config(config, labels, hyperparameters.dropout)
        )
        notes = [f"built {type(model).__name__} with {model.num_parameters():,} parameters from nothing"]
    else:
        if model_config:
            raise InputError(
                "There are a base model and a model_config.", "Give model_config only where there is no base model."
            )
        model, labels, notes = _load_base_model(base_model, labels, hyperparameters.dropout)
        tokenizer = AutoTokenizer.from_pretrained(base_model, local_files_only=True, trust_remote_code=False)
    set_padding_token(model, tokenizer)
    inputs = set(inspect.signature(model.forward).parameters)
    max_length = choose_max_length(model, tokenizer, hyperparameters.max_length)
    if hyperparameters.max_length:
        # Whoever classifies with the model reads no further: it never learned what longer texts are like.
        tokenizer.model_max_length = max_length
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return StartingModel(
        labels=list(labels),
        max_length=max_length,
        inputs=inputs,
        padding=Padding(
            token=tokenizer.pad_token_id,
            token_type=tokenizer.pad_token_type_id,
            # As the engine pads: on the left only where a text's positions do not depend on it.
            left=tokenizer.padding_side == "left" and "position_ids" not in inputs,
        ),
        masking=_choose_masking(tokenizer, hyperparameters.token_masking),
        notes=notes,
        tokenizer=tokenizer,
    )


def load_for_training(folder: Path) -> Any:
    """Loads the starting model in fp32, which is what the optimizer changes in any precision."""
    return AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False
    )


def set_dropout(config: Any, dropout: float | None) -> None:
    """Sets every share of dropped activations that a configuration has; None keeps them."""
    if dropout is None:
        return
    for name, value in config.to_dict().items():
        # Whole layers and the heads of other tasks are dropped by rates of their own.
        if "drop" in name and "layer" not in name and "qa" not in name and type(value) in (int, float):
            setattr(config, name, dropout)


def _load_base_model(
    base_model: str | Path, labels: Sequence[str], dropout: float | None
) -> tuple[Any, list[str], list[str]]:
    if Path(base_model, CONTAINER_MODEL).is_file():
        raise InputError(
            "The base model is one of a training image, and only that image can go on with it.",
            "Give an encoder or a classifier as save_pretrained writes it.",
        )
    config = AutoConfig.from_pretrained(base_model, local_files_only=True, trust_remote_code=False)
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise InputError(
            f"The base model is of the type {config.model_type!r}, which transformers has no text classifier of.",
            "Give an encoder such as DistilBERT, BERT or ModernBERT.",
        )
    classifier = any(name.endswith("ForSequenceClassification") for name in config.architectures or [])
    known = [config.id2label[number] for number in range(config.num_labels)] if classifier else []
    same_head = set(known) == set(labels) and config.problem_type in (None, SINGLE_LABEL)
    kept = known if same_head else list(labels)
    _prepare_config(config, kept, dropout)
    model, loaded = AutoModelForSequenceClassification.from_pretrained(
        base_model,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    new = _new_weights(model, loaded)
    if not classifier:
        return model, kept, [f"added a head for {len(kept)} labels to {type(model).__name__}", *new]
    if same_head:
        return model, kept, [f"kept the head of {type(model).__name__}, which has the same {len(kept)} labels", *new]
    _renew_head(model)
    return model, kept, [f"replaced the head, made for {_some(known)}, by a new one for {_some(kept)}", *new]


def _new_weights(model: Any, loaded: Mapping[str, Any]) -> list[str]:
    """Looks at what of the encoder was not among the base model's weights; transformers fills it in at random.

    Args:
        model: The model.
        loaded: transformers' `loading_info`.

    Returns:
        A note, where some of it was filled in, as a masked language model's missing pooler is.

    Raises:
        InputError: A weight has another shape than the configuration says, or most of the encoder is not there: what
            would be fine-tuned is not the base model.
    """
    encoder = {
        name: weights.numel()
        for name, weights in model.named_parameters()
        if name.startswith(f"{model.base_model_prefix}.")
    }
    remedy = "Give the folder that save_pretrained wrote for this model, with its own config.json."
    for name, found, wanted in sorted(loaded["mismatched_keys"]):
        if name in encoder:
            raise InputError(
                f"The base model's {name} has the shape {tuple(found)}, and its config.json asks for {tuple(wanted)}.",
                remedy,
            )
    missing = sorted(encoder.keys() & loaded["missing_keys"])
    if not missing:
        return []
    if sum(encoder[name] for name in missing) > sum(encoder.values()) / 2:
        raise InputError(
            f"The base model lacks {len(missing)} of the {len(encoder)} weights of its encoder, such as {missing[0]}.",
            remedy,
        )
    return [f"the base model lacks {_some(missing, 'weights')}, which start at random"]


def _renew_head(model: Any) -> None:
    """Gives what has a row per label new weights: as many labels of other names would otherwise keep the old ones."""
    config = copy.deepcopy(model.config)
    config.num_labels += 1
    with torch.device("meta"):
        wider = dict(AutoModelForSequenceClassification.from_config(config).named_parameters())
    fresh = AutoModelForSequenceClassification.from_config(model.config).state_dict()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if wider[name].shape != weights.shape:
                weights.copy_(fresh[name])


def _prepare_config(config: Any, labels: Sequence[str], dropout: float | None) -> None:
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    config.problem_type = SINGLE_LABEL
    set_dropout(config, dropout)


def _choose_masking(tokenizer: Any, share: float) -> Masking | None:
    if not share:
        return None
    token = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else tokenizer.unk_token_id
    if token is None:
        raise InputError(
            "token_masking needs a mask or an unknown token, and the base model's tokenizer has neither.",
            "Leave token_masking at 0.",
        )
    return Masking(share, token, tuple(tokenizer.all_special_ids))


def _some(names: Sequence[str], what: str = "labels") -> str:
    shown = ", ".join(map(repr, names[:5]))
    return f"{len(names)} {what} ({shown}, ...)" if len(names) > 5 else f"the {what} {shown}"
