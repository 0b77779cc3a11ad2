"""What a training run can be told: read from parameters or a file, and checked before anything is paid for."""

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from components.errors import InputError


class Hyperparameters(BaseModel):
    """The settings of a fine-tuning run; each has a default that suits a pretrained encoder and some thousand rows.

    Attributes:
        learning_rate: The highest rate of the schedule.
        epochs: Passes over the training rows; a fraction is allowed.
        batch_size: Rows per optimizer step, over all GPUs together, so that a result does not depend on their number.
        max_length: The most tokens of a text that are read; 0 reads as many as the model can.
        schedule: How the rate falls after the warm-up.
        warmup_share: Share of the steps over which the rate rises from 0.
        weight_decay: AdamW's decay of weights, without biases and normalizations.
        max_gradient_norm: Gradients are scaled down to this norm.
        dropout: Share of activations dropped; None keeps the model's own.
        label_smoothing: Share of the probability that is taken from the true label and spread over all.
        token_masking: Share of a training text's tokens hidden at each pass: against learning few rows by heart.
        class_weights: `balanced` weighs a row by the rarity of its label.
        metric: What the best checkpoint is chosen by, on the validation rows.
        evaluations_per_epoch: How often the validation rows are evaluated, and a checkpoint is kept.
        early_stopping_patience: Evaluations without improvement after which training ends; 0 never ends it early.
        precision: What the model computes in; `auto` takes bf16 or fp16, as the GPU has it, and fp32 on a CPU.
        seed: Seeds weights, order and dropout.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    learning_rate: float = Field(5e-5, gt=0, le=1)
    epochs: float = Field(3, gt=0, le=1000)
    batch_size: int = Field(16, ge=1, le=65536)
    max_length: int = Field(0, ge=0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_share: float = Field(0.1, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0, lt=1)
    max_gradient_norm: float = Field(1.0, gt=0)
    dropout: float | None = Field(None, ge=0, lt=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    token_masking: float = Field(0.0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = "none"
    metric: Literal["macro_f1", "accuracy", "loss"] = "macro_f1"
    evaluations_per_epoch: int = Field(1, ge=1, le=100)
    early_stopping_patience: int = Field(0, ge=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    seed: int = Field(0, ge=0, lt=2**32)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth(cls, value: Any) -> Any:
        # Pydantic takes true for 1, and `epochs: yes` would train one epoch.
        if isinstance(value, bool):
            raise ValueError("Input should be a number or a name, not true or false")
        return value


def parse_hyperparameters(values: Mapping[str, Any]) -> Hyperparameters:
    """Checks values by name; what is not named has its default.

    Args:
        values: Such as `{"epochs": 3, "learning_rate": 2e-5}`. Whole numbers may come as floats, as kfp passes them.

    Raises:
        InputError: A name is unknown, or a value is out of range.
    """
    try:
        return Hyperparameters.model_validate(dict(values))
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            close = difflib.get_close_matches(name, Hyperparameters.model_fields, n=1)
            names = f"Did you mean {close[0]}?" if close else f"There are: {', '.join(Hyperparameters.model_fields)}."
            raise InputError(f"There is no hyper-parameter {name!r}.", names) from error
        message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "Give").replace("'", "")
        message = re.sub("^Give (greater|less)", r"Give a number \1", message)
        raise InputError(f"The hyper-parameter {name} is {problem['input']!r}.", f"{message}.") from error


def load_hyperparameters(path: str | Path) -> dict[str, Any]:
    """Reads the values that a JSON or YAML file gives, checked, without the defaults of those that it does not name.

    Raises:
        InputError: The file is not JSON or YAML with names and values, or a value is wrong.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{Path(path).name} is not text in UTF-8.", "Write JSON or YAML in UTF-8.") from error
    try:
        # JSON first: YAML 1.1 reads 2e-5 as a text.
        values = json.loads(text)
    except ValueError:
        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{Path(path).name} is neither JSON nor YAML: {reason}.", "Correct the file.") from error
    if not isinstance(values, dict):
        raise InputError(f"{Path(path).name} holds no names and values.", 'Write {"epochs": 3, "learning_rate": 2e-5}.')
    given = parse_hyperparameters({str(name): value for name, value in values.items()})
    return given.model_dump(exclude_unset=True)


def combine_hyperparameters(values: Mapping[str, Any], file: str | Path = "") -> Hyperparameters:
    """Checks values by name together with those of a file, which replace them.

    Args:
        values: As `parse_hyperparameters` takes them.
        file: A JSON or YAML file; "" for none.

    Raises:
        InputError: The file cannot be read, a name is unknown, or a value is out of range.
    """
    return parse_hyperparameters({**values, **(load_hyperparameters(file) if file else {})})
