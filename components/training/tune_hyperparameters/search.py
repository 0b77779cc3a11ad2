"""Searches for the best hyper-parameters, trial by trial."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState

from components.errors import InputError
from components.inference.engine.backends import is_out_of_memory
from components.progress import format_duration
from components.training.hyperparameters import Hyperparameters, parse_hyperparameters
from components.training.tune_hyperparameters.space import default_point
from components.training.tune_hyperparameters.storage import TrialFile

# Trials at random, before the sampler has anything to learn from.
STARTUP_TRIALS = 6
# Complete trials before one is stopped for being worse than their median.
JUDGES = 4
# When that many trials failed and none did anything else, the others will fail too.
HOPELESS_TRIALS = 5
REASON = "reason"
REASON_CHARACTERS = 500
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

OnEvaluation = Callable[[int, dict[str, float]], None]
# Trains with hyper-parameters, calling back after each evaluation; returns the best checkpoint's metrics.
Train = Callable[[Hyperparameters, OnEvaluation], Mapping[str, float]]


def search(
    file: TrialFile,
    space: Mapping[str, BaseDistribution],
    fixed: Mapping[str, Any],
    trials: int,
    seconds: float,
    train: Train,
) -> optuna.Study:
    """Runs trials until there are enough, or the time is over.

    The first trial takes the defaults where they are in the space. The sampler is seeded by the seed and the trial's
    number, so that a search that was ended and goes on takes the same way as one that was not.

    Args:
        file: Where finished trials are kept; those that it has already are not run again.
        space: What is searched.
        fixed: What is not searched, checked.
        trials: The number of trials, with those that were finished before, pruned and failed ones included.
        seconds: The time after which no trial begins and a running one ends at its next evaluation, that of earlier
            attempts included; 0 for no end. At least one trial is completed.
        train: Trains a model.

    Returns:
        The search, with at least one complete trial.

    Raises:
        InputError: Every trial failed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = parse_hyperparameters(fixed)
    study = file.open("minimize" if settings.metric == "loss" else "maximize")
    study.pruner = MedianPruner(n_startup_trials=JUDGES)
    before = study.get_trials(deepcopy=False, states=_FINISHED)
    if before:
        print(f"tune_hyperparameters: going on after {len(before)} finished trials, from {file.uri}", flush=True)
    else:
        study.enqueue_trial(default_point(space))
    spent = sum(trial.duration.total_seconds() for trial in before if trial.duration)
    deadline = time.monotonic() + seconds - spent if seconds else None
    for number in range(len(before), trials):
        if deadline and time.monotonic() > deadline and _completed(study):
            print(f"tune_hyperparameters: the time is over after {number} of {trials} trials", flush=True)
            break
        study.sampler = TPESampler(n_startup_trials=STARTUP_TRIALS, seed=_seed(settings.seed, number))
        _run_trial(study, space, fixed, train, deadline)
        file.save()
        print(describe_last_trial(study, trials, settings.metric), flush=True)
        _check_hope(study, file, trials)
    _check_hope(study, file, trials=0)
    return study


def _run_trial(
    study: optuna.Study,
    space: Mapping[str, BaseDistribution],
    fixed: Mapping[str, Any],
    train: Train,
    deadline: float | None,
) -> None:
    trial = study.ask(dict(space))
    hyperparameters = parse_hyperparameters({**fixed, **trial.params})
    try:
        metrics = train(hyperparameters, _Watch(study, trial, hyperparameters, deadline))
    except optuna.TrialPruned as pruned:
        trial.set_user_attr(REASON, str(pruned))
        study.tell(trial, state=TrialState.PRUNED)
    # A rate too high for numbers, or a batch too large for memory, is what a search has to find out.
    except (InputError, RuntimeError) as error:
        if not isinstance(error, InputError) and not is_out_of_memory(error):
            raise
        trial.set_user_attr(REASON, " ".join(str(error).split())[:REASON_CHARACTERS])
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, float(metrics[hyperparameters.metric]))


class _Watch:
    """Ends a trial that is worse than the median of the others at the same evaluation, or that has no more time."""

    def __init__(
        self, study: optuna.Study, trial: optuna.Trial, hyperparameters: Hyperparameters, deadline: float | None
    ):
        self._study, self._trial, self._deadline = study, trial, deadline
        self._metric = hyperparameters.metric
        self._last = round(hyperparameters.epochs * hyperparameters.evaluations_per_epoch)
        # Evaluations are counted, because an optimizer step is another share of an epoch with another batch.
        self._count = 0

    def __call__(self, step: int, metrics: dict[str, float]) -> None:
        self._count += 1
        self._trial.report(float(metrics[self._metric]), self._count)
        if self._count >= self._last:
            return
        if self._deadline and time.monotonic() > self._deadline and _completed(self._study):
            raise optuna.TrialPruned("the time was over")
        # A short trial has ended its schedule at its first evaluation, and a long one has hardly begun.
        if self._count > 1 and self._trial.should_prune():
            raise optuna.TrialPruned(f"worse than the median at evaluation {self._count}.")


def describe_last_trial(study: optuna.Study, trials: int, metric: str) -> str:
    """Returns a line about the trial that ended last."""
    last = study.get_trials(deepcopy=False)[-1]
    ended = {
        TrialState.COMPLETE: f"{metric} {last.value:.4f}" if last.value is not None else "",
        TrialState.PRUNED: f"stopped early: {last.user_attrs.get(REASON)}",
        TrialState.FAIL: f"failed: {last.user_attrs.get(REASON)}",
    }[last.state]
    best = ""
    if _completed(study):
        best = f" (best {study.best_value:.4f}, trial {study.best_trial.number + 1})"
    values = ", ".join(f"{name} {format_value(value)}" for name, value in last.params.items())
    seconds = format_duration(last.duration.total_seconds()) if last.duration else ""
    return f"tune_hyperparameters: trial {last.number + 1} of {trials}: {ended}{best}; {values}; {seconds}"


def format_value(value: Any) -> str:
    """Returns a hyper-parameter's value in a few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Returns the trials that ended, in their order."""
    return study.get_trials(deepcopy=False, states=_FINISHED)


def _completed(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def _check_hope(study: optuna.Study, file: TrialFile, trials: int) -> None:
    finished = finished_trials(study)
    if any(trial.state != TrialState.FAIL for trial in finished) or len(finished) < min(trials, HOPELESS_TRIALS):
        return
    # Another machine may do better with the same settings.
    file.forget()
    reason = finished[-1].user_attrs.get(REASON, "") if finished else ""
    raise InputError(
        f"All {len(finished)} trials failed, the last because: {reason}", "Change that, or narrow the space."
    )


def _seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
