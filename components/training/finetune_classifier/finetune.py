"""Fine-tunes a text classifier: Datasets and a base model in, the best model of a training run out."""

import json
import posixpath
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from components.datasets import digest_of_files, part_files
from components.models import digest_of_model, inspect_model, is_absent, model_files
from components.progress import Progress
from components.storage import move_into_place, write_texts
from components.training.finetune_classifier.callbacks import evaluations_of, find_best
from components.training.finetune_classifier.checkpoints import CheckpointStore, digest_of_run
from components.training.finetune_classifier.data import EncodedRows, count_labels, encode_dataset, read_texts
from components.training.finetune_classifier.labels import check_labels, class_weights
from components.training.finetune_classifier.launch import run_training
from components.training.finetune_classifier.model import StartingModel, make_starting_model
from components.training.finetune_classifier.report import render_report, write_logs
from components.training.finetune_classifier.train import (
    CHECKPOINTS,
    MODEL,
    TRAIN,
    VALIDATION,
    Job,
    Outcome,
    choose_precision,
    history_of,
)
from components.training.hyperparameters import Hyperparameters

# Counted up when the same settings give another model, so that no run goes on from an older release's checkpoint.
FORMAT = 2


@dataclass(frozen=True)
class Finetuned:
    """What a training run gave.

    Attributes:
        metadata: The Model artifact's metadata: base model, labels, digests, hyperparameters, how it was trained.
        metrics: The best checkpoint's validation metrics (`loss`, `accuracy`, `macro_f1`), `train_loss` (the mean since
            the evaluation before it), `best_step`, `steps`, `epochs`, `seconds`, `rows_per_second`; finite numbers.
        evaluations: One entry per evaluation, in order: `step`, `epoch`, `loss`, `accuracy`, `macro_f1`.
    """

    metadata: dict[str, Any]
    metrics: dict[str, float]
    evaluations: list[dict[str, float]]


def finetune(
    train: str | Path,
    validation: str | Path,
    base_model: str | Path,
    output: str | Path,
    hyperparameters: Hyperparameters,
    model_config: Mapping[str, Any] | None = None,
    checkpoint_uri: str = "",
    job_folder: str = "",
    report: str | Path = "",
    metrics_path: str | Path = "",
    logs: str | Path = "",
    train_digest: str = "",
    base_model_metadata: Mapping[str, Any] | None = None,
    processes: int = 0,
    on_evaluation: Callable[[int, dict[str, float]], None] | None = None,
) -> Finetuned:
    """Trains a classifier on labelled rows and keeps the checkpoint that does best on the validation rows.

    Args:
        train: The Dataset to learn from; rows without a label are left out.
        validation: The Dataset that the best checkpoint is chosen on.
        base_model: The folder of the Model to start from, or of an absent Model to build one from `model_config`.
        output: The folder that the trained Model becomes; it appears only when the training is finished.
        hyperparameters: How to train.
        model_config: A transformers configuration, used only where the base model is absent.
        checkpoint_uri: A folder or `gs://` prefix for the state to resume from. It stays there after the run.
        job_folder: Where checkpoints go without a checkpoint_uri; they are removed when the run is finished. With
            neither, nothing is kept to resume from.
        report: The HTML file to write; "" writes none.
        metrics_path: The JSON file of metrics to write; "" writes none.
        logs: The folder of TensorBoard logs to write; "" writes none.
        train_digest: The training Dataset's digest, where it is known.
        base_model_metadata: The base Model artifact's metadata, for the lineage.
        processes: Processes to train with; 0 means one per GPU, or one on a CPU.
        on_evaluation: Called after each evaluation with the optimizer steps so far and the metrics `loss`, `accuracy`
            and `macro_f1`. What it raises ends the training and comes out of this function unchanged.

    Raises:
        InputError: The data, the base model or a setting cannot be trained with, or the loss is no number.
    """
    choose_precision(hyperparameters.precision)
    counts, validation_counts = count_labels(train, "training"), count_labels(validation, "validation")
    notes = check_labels(counts, validation_counts)
    config = dict(model_config or {})
    with tempfile.TemporaryDirectory(prefix="finetune-") as scratch:
        folder = Path(scratch)
        start = make_starting_model(
            base_model,
            config,
            sorted(counts | validation_counts),
            lambda: read_texts(train),
            hyperparameters,
            folder / MODEL,
        )
        _say(start.notes + notes)
        digest = train_digest or digest_of_files(part_files(train))
        run = digest_of_run(
            format=FORMAT,
            base_model="" if is_absent(base_model) else digest_of_model(Path(base_model)),
            model_config=config,
            train=digest,
            validation=digest_of_files(part_files(validation)),
            hyperparameters=hyperparameters.model_dump(),
            versions=library_versions(),
        )
        store = _open_store(checkpoint_uri or (posixpath.join(job_folder, CHECKPOINTS) if job_folder else ""), run)
        _encode(train, folder / TRAIN, counts, start)
        _encode(validation, folder / VALIDATION, validation_counts, start)
        job = Job(
            hyperparameters=hyperparameters,
            class_weights=class_weights(counts, start.labels, hyperparameters.class_weights),
            padding=start.padding,
            masking=start.masking,
            checkpoint_uri=store.uri if store else "",
            resume_step=resume(store, folder / CHECKPOINTS, hyperparameters.metric) if store else 0,
        )
        if store:
            print(f"finetune_classifier: checkpoints are kept at {store.uri}", flush=True)
        job.write(folder)
        outcome = run_training(folder, _count_processes(processes, hyperparameters.batch_size), on_evaluation)
        finetuned = _summarize(outcome, start, job, digest, dict(base_model_metadata or {}))
        best = folder / CHECKPOINTS / f"checkpoint-{finetuned.metrics['best_step']:.0f}"
        model = _export(best, folder / MODEL, folder / "output")
        finetuned.metadata["digest"] = inspect_model(model, "the trained model").digest
        if report:
            page = render_report(finetuned.metadata, finetuned.metrics, outcome.history, start.notes + notes)
            write_texts({report: page})
        if metrics_path:
            write_texts({metrics_path: json.dumps(finetuned.metrics, indent=1)})
        if logs:
            write_logs(outcome.history, folder / "logs")
            move_into_place(folder / "logs", Path(logs))
        move_into_place(model, Path(output))
    if store and not checkpoint_uri:
        store.remove()
    return finetuned


def resume(store: CheckpointStore, folder: Path, metric: str) -> int:
    """Fetches the last whole checkpoint of a run, and the best one if that is another.

    Returns:
        The last one's step; 0 when there is none.
    """
    for step in reversed(store.steps()):
        shutil.rmtree(folder, ignore_errors=True)
        if store.fetch(step, folder):
            evaluations = evaluations_of(history_of(folder / f"checkpoint-{step}"))
            best = int(evaluations[find_best(evaluations, metric)]["step"])
            if best == step or store.fetch(best, folder):
                print(f"finetune_classifier: resumes after step {step:,} from {store.uri}", flush=True)
                return step
        print(f"finetune_classifier: the checkpoint of step {step:,} is incomplete and passed over", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def library_versions() -> dict[str, str]:
    """Returns the versions of the libraries that a trained model depends on."""
    return {"torch": torch.__version__, "transformers": transformers.__version__}


def _open_store(uri: str, run: str) -> CheckpointStore | None:
    return CheckpointStore(posixpath.join(uri, run)) if uri else None


def _encode(dataset: str | Path, folder: Path, counts: Counter[str], start: StartingModel) -> EncodedRows:
    with Progress(counts.total(), f"finetune_classifier: tokenizing the {folder.name} rows") as progress:
        return encode_dataset(dataset, folder, start.tokenizer, start.labels, start.max_length, start.inputs, progress)


def _count_processes(wanted: int, batch_size: int) -> int:
    # A process more than the batch has rows would compute nothing.
    return min(wanted or max(1, torch.cuda.device_count()), batch_size)


def _export(checkpoint: Path, starting_model: Path, folder: Path) -> Path:
    """Puts the trained weights and the tokenizer into a folder.

    Files are copied rather than saved from the trained object, whose forward stays wrapped in the training's precision.
    """
    folder.mkdir()
    for source in (starting_model, checkpoint):
        for name in model_files([path.name for path in source.iterdir() if path.is_file()]):
            if source == checkpoint or not name.endswith((".safetensors", ".index.json")):
                shutil.copyfile(source / name, folder / name)
    return folder


def _summarize(
    outcome: Outcome, start: StartingModel, job: Job, train_digest: str, base_model: dict[str, Any]
) -> Finetuned:
    evaluations = [
        {name: evaluation[name] for name in ("step", "epoch", "loss", "accuracy", "macro_f1")}
        for evaluation in evaluations_of(outcome.history)
    ]
    place = find_best(evaluations, job.hyperparameters.metric)
    best = evaluations[place]
    after = evaluations[place - 1]["step"] if place else 0
    metrics = {
        **{name: best[name] for name in ("loss", "accuracy", "macro_f1")},
        "train_loss": mean_loss(outcome.history, after, best["step"]),
        "best_step": best["step"],
        "steps": outcome.steps,
        "epochs": round(evaluations[-1]["epoch"], 4),
        "seconds": outcome.seconds,
        "rows_per_second": outcome.rows_per_second,
    }
    metadata = {
        "base_model": base_model.get("reference") or "",
        "base_model_digest": base_model.get("digest", ""),
        "labels": start.labels,
        "dataset_digest": train_digest,
        "hyperparameters": job.hyperparameters.model_dump(),
        "max_length": start.max_length,
        "versions": library_versions(),
        "metric": job.hyperparameters.metric,
        "validation": {name: best[name] for name in ("loss", "accuracy", "macro_f1")},
        "best_step": int(best["step"]),
        "steps": outcome.steps,
        "epochs": metrics["epochs"],
        "resumed_after_step": job.resume_step,
        "seconds": outcome.seconds,
        "rows_per_second": outcome.rows_per_second,
        "device": outcome.device,
        "precision": outcome.precision,
        "processes": outcome.processes,
    }
    return Finetuned(metadata, metrics, evaluations)


def mean_loss(history: Sequence[Mapping[str, float]], after: float, until: float) -> float:
    """Returns the mean training loss of the steps after one and until another, from Trainer's log.

    Each line of the log holds the mean since the line before.
    """
    total, steps, last = 0.0, 0.0, 0.0
    for entry in history:
        if "loss" in entry:
            if after < entry["step"] <= until:
                total += entry["loss"] * (entry["step"] - last)
                steps += entry["step"] - last
            last = entry["step"]
    return total / steps


def _say(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"finetune_classifier: {note}", flush=True)
