"""What happens while Trainer trains: when it evaluates and ends, what it says, and what it keeps."""

import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist
from transformers import TrainerCallback

from components.progress import format_duration
from components.training.finetune_classifier.checkpoints import CheckpointStore
from components.training.finetune_classifier.trainer import no_number

EVALUATION = "eval_"
SECONDS_BETWEEN_LINES = 5.0

OnEvaluation = Callable[[int, dict[str, float]], None]


def evaluations_of(history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Returns the evaluations in Trainer's history: `step`, `epoch` and the metrics' own names."""
    return [
        {name.removeprefix(EVALUATION): value for name, value in entry.items()}
        for entry in history
        if f"{EVALUATION}loss" in entry
    ]


def find_best(evaluations: Sequence[dict[str, float]], metric: str) -> int:
    """Returns the place of the best evaluation; among equals the first."""
    sign = 1 if metric == "loss" else -1
    return min(range(len(evaluations)), key=lambda place: sign * evaluations[place][metric])


def has_lost_patience(evaluations: Sequence[dict[str, float]], metric: str, patience: int) -> bool:
    """Tells whether `patience` evaluations went by without a better one; never where it is 0."""
    return bool(patience and evaluations and len(evaluations) - 1 - find_best(evaluations, metric) >= patience)


class EvaluationPlan(TrainerCallback):
    """Has evaluations at even distances, at the end of each epoch and of the training, each with a checkpoint.

    Args:
        steps_per_epoch: Optimizer steps in an epoch.
        per_epoch: Evaluations in an epoch, as far as it has steps for them.
        metric: What tells the best evaluation.
        patience: Evaluations without a better one after which training ends; 0 never ends it early.
        listen: Told of each evaluation, in the main process.
    """

    def __init__(self, steps_per_epoch: int, per_epoch: int, metric: str, patience: int, listen: OnEvaluation | None):
        self._steps, self._per_epoch = steps_per_epoch, per_epoch
        self._metric, self._patience, self._listen = metric, patience, listen

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Asks for an evaluation where one is due."""
        done, before = (step * self._per_epoch // self._steps for step in (state.global_step, state.global_step - 1))
        if done > before or state.global_step >= state.max_steps:
            # Logged too: Trainer forgets the loss since its last line when it is ended.
            control.should_log = control.should_evaluate = control.should_save = True

    def on_evaluate(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Ends the training when nothing has got better for long enough, and passes the metrics on."""
        evaluations = evaluations_of(state.log_history)
        if has_lost_patience(evaluations, self._metric, self._patience):
            control.should_training_stop = True
        if self._listen and state.is_world_process_zero:
            last = evaluations[-1]
            self._listen(int(last["step"]), {name: last[name] for name in ("loss", "accuracy", "macro_f1")})


class StopAtNoNumber(TrainerCallback):
    """Ends a training whose loss is NaN, which would only go on to a useless model."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **rest: Any) -> None:
        """Looks at each logged loss.

        Raises:
            InputError: It is no number.
        """
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            raise no_number("training")


class KeepCheckpoints(TrainerCallback):
    """Uploads each checkpoint when it is finished; the last two and the best one stay, here and there.

    Args:
        folder: Where Trainer writes checkpoints.
        store: Where they are kept for a restart; None keeps them here only.
        metric: What tells the best one.
    """

    def __init__(self, folder: Path, store: CheckpointStore | None, metric: str):
        self._folder, self._store, self._metric = folder, store, metric

    def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Uploads the checkpoint that was just written."""
        if dist.is_initialized():
            # Every process writes its own random state.
            dist.barrier()
        if not state.is_world_process_zero:
            return
        evaluations = evaluations_of(state.log_history)
        steps = [int(evaluation["step"]) for evaluation in evaluations]
        kept = {*steps[-2:], steps[find_best(evaluations, self._metric)]}
        for step in set(steps) - kept:
            shutil.rmtree(self._folder / f"checkpoint-{step}", ignore_errors=True)
        if self._store:
            self._store.save(self._folder / f"checkpoint-{state.global_step}", kept)


class SayProgress(TrainerCallback):
    """Prints a line every few seconds, and one per evaluation:

        finetune_classifier: step 120 of 1,000 (12 %), epoch 0.36 of 3, loss 0.512, 1,532 rows/s, 9 min 34 s left

    Args:
        rows: The training rows.
        clock: Returns seconds that only grow.
    """  # noqa: D415 - the line is shown as it is printed

    def __init__(self, rows: int, clock: Callable[[], float] = time.monotonic):
        self._rows, self._clock = rows, clock

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Starts the clock."""
        self._start = self._said = self._clock()
        self._first = state.global_step
        self._epoch = state.epoch or 0.0

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **rest: Any) -> None:
        """Says how far the training is, unless it just did."""
        logs = logs or {}
        if not state.is_world_process_zero or self._clock() == self._start:
            return
        evaluated = f"{EVALUATION}loss" in logs
        if evaluated:
            told = ", ".join(f"{name} {logs[EVALUATION + name]:.3f}" for name in ("loss", "accuracy", "macro_f1"))
            print(f"finetune_classifier: after step {state.global_step:,}: validation {told}", flush=True)
        elif "loss" in logs and self._clock() - self._said >= SECONDS_BETWEEN_LINES:
            self._said = self._clock()
            print(f"finetune_classifier: {self._line(args, state, logs['loss'])}", flush=True)

    def _line(self, args: Any, state: Any, loss: float) -> str:
        elapsed = self._clock() - self._start
        done, left = state.global_step - self._first, state.max_steps - state.global_step
        speed = self._rows * (state.epoch - self._epoch) / elapsed
        return (
            f"step {state.global_step:,} of {state.max_steps:,} ({100 * state.global_step // state.max_steps} %), "
            f"epoch {state.epoch:.2f} of {args.num_train_epochs:g}, loss {loss:.3f}, {speed:,.0f} rows/s, "
            f"{format_duration(elapsed / done * left)} left"
        )
