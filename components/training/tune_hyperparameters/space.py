"""Says which hyper-parameters are searched, and between which values."""

import difflib
import math
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from components.errors import InputError
from components.training.hyperparameters import Hyperparameters, parse_hyperparameters

# What suits a pretrained encoder; a user lays other ranges over them name by name.
DEFAULT_SPACE: dict[str, Any] = {
    "learning_rate": {"low": 1e-5, "high": 2e-4, "log": True},
    "epochs": {"low": 1, "high": 5, "step": 1},
    "batch_size": [8, 16, 32, 64],
    "dropout": {"low": 0.0, "high": 0.3},
    "warmup_share": {"low": 0.0, "high": 0.2},
}
# Trials are compared by the metric, and differ only by luck in the seed; the precision is that of the machine.
NEVER_SEARCHED = ("metric", "precision", "seed")
WHOLE = {name for name, field in Hyperparameters.model_fields.items() if field.annotation is int}
# A model's own dropout, which is the default, is that of most pretrained encoders.
USUAL_DROPOUT = 0.1
SHAPE = 'Write {"low": 1e-5, "high": 1e-4, "log": true} for a range, or [8, 16, 32] for a choice.'


def build_space(space: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """Checks what is to be searched.

    Args:
        space: By name a range (`low`, `high`, and perhaps `log` or `step`) or a list of values; they replace those of
            `DEFAULT_SPACE`.
        fixed: The hyper-parameters that are not searched, checked; they take a name out of `DEFAULT_SPACE`.

    Returns:
        The distribution of each name, in the order of `Hyperparameters`.

    Raises:
        InputError: A name is unknown or also fixed, or a range is none.
    """
    for name in space:
        _check_name(str(name), fixed)
    wanted = {name: value for name, value in DEFAULT_SPACE.items() if name not in fixed} | dict(space)
    if not wanted:
        raise InputError(
            "Every hyper-parameter that would be searched is fixed.",
            "Leave one out of hyperparameters, or name others.",
        )
    return {name: _distribution(name, wanted[name]) for name in Hyperparameters.model_fields if name in wanted}


def default_point(space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Returns the defaults that lie in the space: the first trial is what would be trained without a search."""
    defaults = parse_hyperparameters({}).model_dump()
    if "dropout" in space and not _contains(space["dropout"], None):
        defaults["dropout"] = USUAL_DROPOUT
    return {name: defaults[name] for name, distribution in space.items() if _contains(distribution, defaults[name])}


def _check_name(name: str, fixed: Mapping[str, Any]) -> None:
    searchable = [known for known in Hyperparameters.model_fields if known not in NEVER_SEARCHED]
    if name in NEVER_SEARCHED:
        raise InputError(f"{name} cannot be searched.", "Give it in hyperparameters, or leave it out.")
    if name not in searchable:
        close = difflib.get_close_matches(name, searchable, n=1)
        remedy = f"Did you mean {close[0]}?" if close else f"There are: {', '.join(searchable)}."
        raise InputError(f"There is no hyper-parameter {name!r} to search.", remedy)
    if name in fixed:
        raise InputError(f"{name} is both searched and fixed.", "Name it in space or in hyperparameters, not in both.")


def _distribution(name: str, entry: Any) -> BaseDistribution:
    if isinstance(entry, Mapping):
        return _range(name, entry)
    if not isinstance(entry, list | tuple) or not entry:
        raise InputError(f"The space of {name} is {entry!r}.", SHAPE)
    choices = [getattr(parse_hyperparameters({name: value}), name) for value in entry]
    if len(set(choices)) != len(choices):
        raise InputError(f"The space of {name} names a value twice: {entry!r}.", "Name each value once.")
    return CategoricalDistribution(choices)


def _range(name: str, entry: Mapping[str, Any]) -> BaseDistribution:
    unknown = sorted(set(entry) - {"low", "high", "log", "step"})
    if unknown or not {"low", "high"} <= set(entry):
        what = f"has {unknown[0]!r}" if unknown else "lacks low or high"
        raise InputError(f"The space of {name} {what}.", SHAPE)
    low, high = (getattr(parse_hyperparameters({name: entry[end]}), name) for end in ("low", "high"))
    if isinstance(low, str) or low is None or high is None:
        raise InputError(f"The values of {name} have no order.", f'Give a list, such as ["{low}", "{high}"].')
    log, step = bool(entry.get("log", False)), entry.get("step")
    if not low < high:
        raise InputError(f"The space of {name} goes from {low} to {high}.", "Give a high above the low.")
    if log and (low <= 0 or step is not None):
        raise InputError(f"The space of {name} cannot be logarithmic.", "Give a low above 0, and no step.")
    if step is not None and (isinstance(step, bool) or not isinstance(step, int | float) or not 0 < step <= high - low):
        raise InputError(f"The step of {name} is {step!r}.", f"Give a number from 0 to {high - low}.")
    if name in WHOLE:
        if step is not None and int(step) != step:
            raise InputError(f"The step of {name} is {step!r}, and its values are whole.", "Give a whole step.")
        return IntDistribution(low, high, log=log, step=int(step or 1))
    return FloatDistribution(low, high, log=log, step=None if step is None else float(step))


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if value is None or not distribution.low <= value <= distribution.high:
        return False
    steps = (value - distribution.low) / distribution.step if distribution.step else 0.0
    return math.isclose(steps, round(steps), abs_tol=1e-9)
