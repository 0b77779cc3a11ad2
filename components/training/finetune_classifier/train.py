"""Runs the training itself, in one process or as one of several: prepared files in, checkpoints and a history out."""

import gc
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import TrainingArguments, set_seed

from components.errors import InputError
from components.training.finetune_classifier.batches import GlobalBatches, Masking, Padding, TrainingRows
from components.training.finetune_classifier.callbacks import (
    EvaluationPlan,
    KeepCheckpoints,
    OnEvaluation,
    SayProgress,
    StopAtNoNumber,
    evaluations_of,
    has_lost_patience,
)
from components.training.finetune_classifier.checkpoints import CheckpointStore
from components.training.finetune_classifier.data import EncodedRows
from components.training.finetune_classifier.dropout import speed_up_dropout
from components.training.finetune_classifier.model import load_for_training
from components.training.finetune_classifier.trainer import ClassifierTrainer, TrainingData
from components.training.hyperparameters import Hyperparameters

JOB, OUTCOME = "job.json", "outcome.json"
MODEL, TRAIN, VALIDATION, CHECKPOINTS = "model", "train", "validation", "checkpoints"
_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
# Up to so many weights outside the embeddings, a model on a CPU trains in one thread. A step of it is hundreds of
# operations of microseconds, and threads that share each of them spin while they wait for one another: 16 rows of 20
# tokens through 2 layers of width 128 took 24 ms of processor time in one thread and 380 ms in two, on two busy cores.
ONE_THREAD_WEIGHTS = 1_000_000
# Lines in the history, and points in the report's curve of the loss.
LOSSES = 200


@dataclass(frozen=True)
class Job:
    """What every process of a training run reads from the run's folder.

    Attributes:
        hyperparameters: How to train.
        class_weights: What a row of each class counts.
        padding: How rows are padded.
        masking: How tokens are hidden; None hides none.
        resume_step: The checkpoint in the folder to go on from; 0 starts anew.
        checkpoint_uri: Where checkpoints are kept for a restart; "" keeps none.
    """

    hyperparameters: Hyperparameters
    class_weights: list[float]
    padding: Padding
    masking: Masking | None = None
    resume_step: int = 0
    checkpoint_uri: str = ""

    def write(self, folder: Path) -> None:
        """Writes the job to the run's folder."""
        values = {**asdict(self), "hyperparameters": self.hyperparameters.model_dump()}
        (folder / JOB).write_text(json.dumps(values), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Job":
        """Reads the job from the run's folder."""
        values = json.loads((folder / JOB).read_text(encoding="utf-8"))
        masking = values["masking"]
        return cls(
            hyperparameters=Hyperparameters.model_validate(values["hyperparameters"]),
            class_weights=values["class_weights"],
            padding=Padding(**values["padding"]),
            masking=Masking(**{**masking, "kept": tuple(masking["kept"])}) if masking else None,
            resume_step=values["resume_step"],
            checkpoint_uri=values["checkpoint_uri"],
        )


@dataclass(frozen=True)
class Outcome:
    """What a training run tells.

    Attributes:
        history: Trainer's log: losses and evaluations, each with step, epoch and time, also those before a restart.
        steps: The optimizer steps, also those before a restart.
        seconds: How long this process trained.
        rows_per_second: Rows learned from in a second, evaluations included; 0 where nothing was left to train.
        device: The device's name, such as `cpu` or `NVIDIA L4`.
        precision: `fp32`, `bf16` or `fp16`.
        processes: The processes that trained.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    rows_per_second: float = 0.0
    device: str = ""
    precision: str = ""
    processes: int = 1


def train_model(folder: Path, listen: OnEvaluation | None = None) -> Outcome:
    """Trains until the end, or until nothing gets better.

    Args:
        folder: The run's folder, with the job, the starting model and the tokenized rows. Checkpoints are written
            there, `checkpoints/checkpoint-<step>`.
        listen: Told of each evaluation; what it raises ends the training.

    Returns:
        What happened.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # Trainer is part of reference cycles, and the one of the trial before would still hold its part of the GPU.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    job = Job.read(folder)
    settings = job.hyperparameters
    set_seed(settings.seed)
    with _repeatable():
        trainer = _make_trainer(folder, job, listen)
        resumed = folder / CHECKPOINTS / f"checkpoint-{job.resume_step}" if job.resume_step else None
        history = history_of(resumed) if resumed else []
        last_step = int(np.ceil(settings.epochs * trainer.steps_per_epoch))
        patience = settings.early_stopping_patience
        start, steps = time.monotonic(), job.resume_step
        if job.resume_step < last_step and not has_lost_patience(evaluations_of(history), settings.metric, patience):
            with _enough_threads(trainer.model):
                trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
            history, steps = trainer.state.log_history, trainer.state.global_step
        seconds = time.monotonic() - start
    rows = trainer.training_rows * (steps - job.resume_step) / trainer.steps_per_epoch
    device = trainer.args.device
    return Outcome(
        history=history,
        steps=steps,
        seconds=round(seconds, 2),
        rows_per_second=round(rows / seconds, 1) if rows else 0.0,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        precision={"no": "fp32"}.get(trainer.args.mixed_precision, trainer.args.mixed_precision),
        processes=trainer.args.world_size,
    )


def history_of(checkpoint: Path) -> list[dict[str, float]]:
    """Returns Trainer's log up to a checkpoint."""
    return json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]


def choose_precision(wanted: str) -> str:
    """Returns the precision to compute in: what is wanted, or by `auto` what the device is fast in.

    Raises:
        InputError: The device does not have it.
    """
    if wanted == "fp16" and not torch.cuda.is_available():
        raise InputError("The precision is fp16, which trains on a GPU only.", "Give auto, or a machine with a GPU.")
    if wanted != "auto":
        return wanted
    if not torch.cuda.is_available():
        return "fp32"
    # Cards before Ampere compute bf16 by way of fp32, slower than fp16.
    return "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"


def training_arguments(folder: Path, job: Job, rows: int) -> TrainingArguments:
    """Returns Trainer's settings.

    Args:
        folder: Where checkpoints are written.
        job: The job.
        rows: The training rows.
    """
    settings = job.hyperparameters
    precision = choose_precision(settings.precision)
    steps = int(np.ceil(settings.epochs * -(-rows // settings.batch_size)))
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=_SCHEDULES[settings.schedule],
        warmup_steps=int(np.ceil(settings.warmup_share * steps)),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_gradient_norm,
        per_device_train_batch_size=settings.batch_size,
        optim="adamw_torch_fused",
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=not torch.cuda.is_available(),
        seed=settings.seed,
        # Evaluations and checkpoints are asked for by EvaluationPlan.
        eval_strategy="no",
        save_strategy="no",
        logging_steps=max(1, steps // LOSSES),
        # NaN must be seen, and looking for it after every step would make the processor wait for the GPU.
        logging_nan_inf_filter=False,
        average_tokens_across_devices=False,
        report_to="none",
        disable_tqdm=True,
    )


def _make_trainer(folder: Path, job: Job, listen: OnEvaluation | None) -> ClassifierTrainer:
    settings = job.hyperparameters
    train, validation = EncodedRows(folder / TRAIN), EncodedRows(folder / VALIDATION)
    arguments = training_arguments(folder / CHECKPOINTS, job, len(train))
    weights = np.asarray(job.class_weights)
    batches = GlobalBatches(
        train, settings.batch_size, weights, settings.seed, arguments.process_index, arguments.world_size
    )
    store = CheckpointStore(job.checkpoint_uri) if job.checkpoint_uri else None
    model = load_for_training(folder / MODEL)
    if arguments.use_cpu:
        speed_up_dropout(model)
    trainer = ClassifierTrainer(
        TrainingData(
            rows=TrainingRows(train, job.padding, job.masking, settings.seed),
            batches=batches,
            validation=validation,
            padding=job.padding,
            labels=len(weights),
        ),
        settings.label_smoothing,
        model=model,
        args=arguments,
        callbacks=[
            StopAtNoNumber(),
            SayProgress(len(train)),
            EvaluationPlan(
                len(batches),
                settings.evaluations_per_epoch,
                settings.metric,
                settings.early_stopping_patience,
                listen,
            ),
            KeepCheckpoints(folder / CHECKPOINTS, store, settings.metric),
        ],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


@contextmanager
def _repeatable() -> Iterator[None]:
    """Takes algorithms that add up in the same order each time, where a GPU has them.

    Where it has none, `ClassifierTrainer` does without.
    """
    if not torch.cuda.is_available():
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before: Any = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    # Attention's backward pass has such an algorithm, and takes it only where others are refused, not warned of.
    torch.use_deterministic_algorithms(True)
    filled, torch.utils.deterministic.fill_uninitialized_memory = (  # type: ignore[attr-defined]
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        False,
    )
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


@contextmanager
def _enough_threads(model: Any) -> Iterator[None]:
    """Trains a small model on a CPU in one thread, unless `OMP_NUM_THREADS` says how many.

    It follows from the model alone, so that the same machine adds numbers up in the same order each time.
    """
    before = torch.get_num_threads()
    small = model.num_parameters(exclude_embeddings=True) <= ONE_THREAD_WEIGHTS
    if small and not torch.cuda.is_available() and not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
