"""Tunes the hyper-parameters of a fine-tuning run."""

import gc
import json
import posixpath
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from optuna.trial import TrialState

from components.errors import InputError
from components.storage import write_texts
from components.training.finetune_classifier.data import count_labels
from components.training.finetune_classifier.finetune import finetune
from components.training.finetune_classifier.labels import check_labels
from components.training.hyperparameters import Hyperparameters, parse_hyperparameters
from components.training.tune_hyperparameters.report import Searched, build_page
from components.training.tune_hyperparameters.search import OnEvaluation, finished_trials, search
from components.training.tune_hyperparameters.space import build_space
from components.training.tune_hyperparameters.storage import TrialFile, digest_of_search


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        best: The fixed hyper-parameters and the best trial's, which `finetune_classifier` takes.
        metrics: The best value and the counts of trials; finite numbers.
    """

    best: dict[str, Any]
    metrics: dict[str, float]


def tune(
    train: str | Path,
    validation: str | Path,
    base_model: str | Path,
    best_path: str | Path,
    metrics_path: str | Path,
    report_path: str | Path,
    trials: int = 20,
    space: Mapping[str, Any] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    model_config: Mapping[str, Any] | None = None,
    checkpoint_uri: str = "",
    timeout_minutes: float = 0,
) -> Tuned:
    """Searches for the hyper-parameters that train the best model, and writes them, numbers and a report.

    Args:
        train: The Dataset to learn from.
        validation: The Dataset that the trials are compared on.
        base_model: The Model to start from, or the absent Model.
        best_path: Where the best hyper-parameters go, as JSON.
        metrics_path: Where the numbers go, as JSON.
        report_path: Where the HTML report goes.
        trials: How many trials, pruned and failed ones included.
        space: What is searched, laid over `DEFAULT_SPACE` name by name.
        hyperparameters: What is not searched; `metric` is what trials are compared by.
        model_config: A transformers configuration, used only where the base model is absent.
        checkpoint_uri: The folder or `gs://` prefix that keeps finished trials; "" keeps none.
        timeout_minutes: The time after which the search ends; 0 for no end.

    Raises:
        InputError: A setting is wrong, or every trial failed. Nothing is written then.
    """
    if trials < 1:
        raise InputError(f"trials is {trials}.", "Give 1 or more.")
    if timeout_minutes < 0:
        raise InputError(f"timeout_minutes is {timeout_minutes}.", "Give 0 for no end, or more.")
    fixed = parse_hyperparameters(hyperparameters or {}).model_dump(exclude_unset=True)
    searched = build_space(space or {}, fixed)
    # What is wrong with the rows is no failure of each trial.
    check_labels(count_labels(train, "training"), count_labels(validation, "validation"))
    digest = digest_of_search(train, validation, base_model, model_config or {}, fixed, searched)
    with tempfile.TemporaryDirectory(prefix="search-") as folder:

        def train_trial(values: Hyperparameters, on_evaluation: OnEvaluation) -> Mapping[str, float]:
            # The trial before this one leaves its tensors in reference cycles, or in the traceback of its failure.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            with tempfile.TemporaryDirectory(prefix="trial-", dir=folder) as trial:
                trained = finetune(
                    train,
                    validation,
                    base_model,
                    Path(trial) / "model",
                    values,
                    model_config=model_config,
                    on_evaluation=on_evaluation,
                )
            return trained.metrics

        file = TrialFile(posixpath.join(checkpoint_uri, f"search-{digest}") if checkpoint_uri else "")
        study = search(file, searched, fixed, trials, timeout_minutes * 60, train_trial)
        result = _summarise(study, fixed)
        metric = parse_hyperparameters(fixed).metric
        page = build_page(Searched(study, searched, fixed, metric, trials))
        write_texts({best_path: _json(result.best), metrics_path: _json(result.metrics), report_path: page.render()})
    print(f"tune_hyperparameters: the best are {json.dumps(result.best)}", flush=True)
    return result


def _summarise(study: Any, fixed: Mapping[str, Any]) -> Tuned:
    finished = finished_trials(study)
    counts = {state: sum(trial.state == state for trial in finished) for state in TrialState}
    best = parse_hyperparameters({**fixed, **study.best_params}).model_dump(exclude_unset=True)
    metric = parse_hyperparameters(fixed).metric
    return Tuned(
        {name: best[name] for name in Hyperparameters.model_fields if name in best},
        {
            f"best_{metric}": study.best_value,
            "best_trial": study.best_trial.number + 1,
            "trials": len(finished),
            "completed": counts[TrialState.COMPLETE],
            "pruned": counts[TrialState.PRUNED],
            "failed": counts[TrialState.FAIL],
            "seconds": round(sum(trial.duration.total_seconds() for trial in finished if trial.duration), 1),
        },
    )


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, allow_nan=False)
