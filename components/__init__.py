"""The catalogue: `from components import classify_text` gives a component to use in a pipeline.

Names are looked up on first use, because a module that holds a `@dsl.component` cannot be imported in the process of a
step (`_KFP_RUNTIME=true`), while the plain modules in this package must be.
"""

from importlib import import_module
from typing import Any

CATALOGUE = {
    "read_dataset": "data",
    "fingerprint_source": "data",
    "profile_dataset": "data",
    "infer_schema": "data",
    "validate_dataset": "data",
    "split_dataset": "data",
    "plan_shards": "data",
    "export_dataset": "data",
    "resolve_model": "deployment",
    "pin_model": "deployment",
    "push_model": "deployment",
    "read_hyperparameters": "training",
    "tune_hyperparameters": "training",
    "finetune_classifier": "training",
    "open_checkpoints": "training",
    "train_in_container": "training",
    "classify_text": "inference",
    "classify_in_container": "inference",
    "predict_in_container": "inference",
    "read_predictions": "inference",
    "embed_text": "inference",
    "collect_predictions": "inference",
    "evaluate_predictions": "evaluation",
    "evaluate_classifier": "evaluation",
    "compare_models": "evaluation",
    "publish_outcome": "messaging",
    "concat": "text",
    "reverse": "text",
}

__all__ = sorted(CATALOGUE)


def __getattr__(name: str) -> Any:
    if name not in CATALOGUE:
        raise AttributeError(f"There is no component {name!r}; there are: {', '.join(__all__)}.")
    return getattr(import_module(f"components.{CATALOGUE[name]}.{name}.component"), name)


def __dir__() -> list[str]:
    return __all__
