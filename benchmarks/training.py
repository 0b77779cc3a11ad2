"""Measures fine-tuning against `Trainer` with its defaults: `python -m benchmarks.training`.

Both train the same model from the same random weights on the same texts, in batches of 8 (Trainer's default), for the
same number of epochs and with as many evaluations, in turns, over several seeds. What counts: rows a second; the
seconds to the validation loss that both reach; and the accuracy at the end, which must be the same within the noise of
the seeds. Long texts show the speed; short ones, of which more can be had in the same time, what is learned.
"""

import argparse
import contextlib
import io
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.workload import LABELS, Language, build_model, cpu_name, gpu_name, warn_of_load
from components.datasets import DatasetWriter

EVALUATIONS = 4
BATCH_SIZE = 8
# Each label has words of its own, some of which stand in its texts; some texts have a wrong label.
MARKERS, NOISE = 12, 0.1
# Higher than either's default, which is for weights that were trained before: these are random.
LEARNING_RATE = 3e-4


@dataclass(frozen=True)
class Case:
    """What is trained on.

    Attributes:
        texts: `short` or `long`; see `benchmarks.workload.Language`.
        train_rows: The rows to learn from.
        validation_rows: The rows to evaluate on.
        epochs: Passes over the training rows.
    """

    texts: str
    train_rows: int
    validation_rows: int
    epochs: int


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        way: What trained.
        seed: The seed.
        seconds: From the start to the end, evaluations included.
        rows_per_second: Training rows a second, over all epochs.
        accuracy: On the validation rows, at the end.
        course: Seconds and validation loss at each evaluation.
    """

    way: str
    seed: int
    seconds: float
    rows_per_second: float
    accuracy: float
    course: list[tuple[float, float]]

    def seconds_to(self, loss: float) -> float:
        """Returns when a validation loss was reached; infinity where it was not."""
        return next((seconds for seconds, value in self.course if value <= loss), math.inf)


def make_rows(count: int, seed: int, texts: str) -> list[dict[str, str]]:
    """Makes texts whose words tell their label."""
    language, rng = Language(seed), random.Random(seed)
    words = Language().words
    markers = {label: words[100 + n * MARKERS : 100 + (n + 1) * MARKERS] for n, label in enumerate(LABELS)}
    rows = []
    for number, text in enumerate(getattr(language, texts)(count)):
        label = rng.choice(LABELS)
        parts = text.split()
        for _ in range(max(3, len(parts) // 5)):
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(markers[label]))
        told = rng.choice(LABELS) if rng.random() < NOISE else label
        rows.append({"id": f"{seed}-{number}", "text": " ".join(parts), "label": told})
    return rows


def write_dataset(folder: Path, rows: list[dict[str, str]]) -> Path:
    """Writes rows as a Dataset."""
    schema = pa.schema([("id", pa.string()), ("text", pa.string()), ("label", pa.string())])
    with DatasetWriter(folder, schema) as writer:
        writer.write(pa.RecordBatch.from_pylist(rows, schema))
    return folder


def train_ours(folder: Path, epochs: int, seed: int, precision: str) -> Run:
    """Trains with `finetune_classifier`."""
    from components.training.finetune_classifier.finetune import finetune
    from components.training.hyperparameters import Hyperparameters

    settings = Hyperparameters(
        epochs=epochs,
        batch_size=BATCH_SIZE,
        seed=seed,
        precision=precision,
        learning_rate=LEARNING_RATE,
        metric="loss",
        evaluations_per_epoch=max(1, EVALUATIONS // epochs),
    )
    course: list[tuple[float, float]] = []
    last: dict[str, float] = {}
    start = time.perf_counter()

    def evaluated(step: int, metrics: dict[str, float]) -> None:
        course.append((time.perf_counter() - start, metrics["loss"]))
        last.update(metrics)

    with quiet():
        done = finetune(
            folder / "train", folder / "validation", folder / "model", folder / f"out-{seed}-{precision}", settings,
            on_evaluation=evaluated,
        )  # fmt: skip
    seconds = time.perf_counter() - start
    way = "finetune_classifier" if precision == "auto" else f"finetune_classifier, {precision}"
    return Run(way, seed, seconds, done.metrics["rows_per_second"], last["accuracy"], course)


def train_usual(folder: Path, epochs: int, seed: int, rows: dict[str, list[dict[str, str]]]) -> Run:
    """Trains as `Trainer` does with its defaults: batches of 8 in random order, padded to their longest text."""
    import numpy as np
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model")
    course: list[tuple[float, float]] = []
    data = {
        part: [
            {**tokenizer(row["text"], truncation=True), "labels": model.config.label2id[row["label"]]} for row in each
        ]
        for part, each in rows.items()
    }

    class Clock(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **more: Any) -> None:
            course.append((time.perf_counter() - start, metrics["eval_loss"]))

    steps = math.ceil(len(data["train"]) / BATCH_SIZE) * epochs
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=str(folder / f"usual-{seed}"),
            num_train_epochs=epochs,
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            eval_strategy="steps",
            eval_steps=max(1, steps // EVALUATIONS),
            save_strategy="no",
            report_to=[],
            seed=seed,
            disable_tqdm=True,
        ),
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        compute_metrics=lambda answer: {"accuracy": float(np.mean(answer.predictions.argmax(-1) == answer.label_ids))},
        callbacks=[Clock()],
    )
    start = time.perf_counter()
    with quiet():
        trained = trainer.train()
        seconds = time.perf_counter() - start
        metrics = trainer.evaluate()
    # Its own count of rows a second includes the evaluations; so does ours.
    return Run("Trainer", seed, seconds, trained.metrics["train_samples_per_second"], metrics["eval_accuracy"], course)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what training prints to itself."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def summarize(runs: list[Run]) -> list[dict[str, Any]]:
    """Returns a row for each way: the mean over its seeds, and how it compares with Trainer."""
    ways = list(dict.fromkeys(run.way for run in runs))
    by_way = {way: [run for run in runs if run.way == way] for way in ways}
    base = by_way["Trainer"]
    rows = []
    for way, each in by_way.items():
        ratios = []
        for run, usual in zip(each, base, strict=True):
            # What the worse of the two reaches at best, the other one reaches too.
            loss = max(min(value for _, value in one.course) for one in (run, usual))
            ratios.append(usual.seconds_to(loss) / run.seconds_to(loss))
        speed = statistics.mean(run.rows_per_second for run in each)
        rows.append(
            {
                "way": way,
                "rows_per_second": round(speed, 2),
                "ratio": round(speed / statistics.mean(run.rows_per_second for run in base), 3),
                "seconds_to_same_loss_ratio": round(statistics.geometric_mean(ratios), 3),
                "accuracy": [round(run.accuracy, 4) for run in each],
            }
        )
    return rows


def measure(case: Case, precisions: list[str], seeds: int, more: int) -> list[Run]:
    """Trains in all ways, in turns.

    Args:
        case: The texts.
        precisions: This library's.
        seeds: How many seeds.
        more: So many times the rows; a GPU has no time to start with fewer.
    """
    counts = {"train": case.train_rows * more, "validation": case.validation_rows * more}
    rows = {part: make_rows(count, seed, case.texts) for seed, (part, count) in enumerate(counts.items(), start=1)}
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="training-") as name:
        folder = Path(name)
        build_model(folder / "model", "MiniLM", Language())
        for part, each in rows.items():
            write_dataset(folder / part, each)
        for seed in range(seeds):
            runs.append(train_usual(folder, case.epochs, seed, rows))
            runs += [train_ours(folder, case.epochs, seed, precision) for precision in precisions]
            times = ", ".join(f"{run.seconds:.0f} s" for run in runs[-1 - len(precisions) :])
            print(f"{case.texts} texts, seed {seed}: {times}", file=sys.stderr, flush=True)
    return runs


def show(case: Case, runs: list[Run]) -> list[dict[str, Any]]:
    """Prints the table of a case, and returns its rows."""
    summary = summarize(runs)
    print(f"\n{case.texts} texts, {case.train_rows} rows, {case.epochs} epochs")
    print(f"{'way':<28}{'rows/s':>9}{'ratio':>8}{'to the same loss':>18}   accuracy by seed")
    for row in summary:
        numbers = f"{row['rows_per_second']:>9.1f}{row['ratio']:>7.2f}x{row['seconds_to_same_loss_ratio']:>17.2f}x"
        print(f"{row['way']:<28}{numbers}   {', '.join(f'{value:.3f}' for value in row['accuracy'])}", flush=True)
    return summary


def main() -> int:
    """Prints the table; with --json also the numbers as a last line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one seed, few rows, short texts")
    parser.add_argument("--only", default="", help="only cases whose texts' name holds this")
    parser.add_argument("--json", action="store_true", help="print the numbers as a last line of JSON")
    parser.add_argument("--seeds", type=int, default=0, help="how many seeds; 3, or 1 with --quick")
    options = parser.parse_args()
    from components.inference.engine.settings import cpu_has_bf16

    gpu = gpu_name()
    print(f"On {cpu_name()}{f' and {gpu}' if gpu else ''}. {warn_of_load()}", flush=True)
    cases = [Case("short", 480, 120, 1)] if options.quick else [Case("long", 160, 64, 1), Case("short", 1600, 800, 2)]
    precisions = ["auto"] if gpu or not cpu_has_bf16() else ["auto", "bf16"]
    seeds = options.seeds or (1 if options.quick else 3)
    results = []
    for case in cases:
        if options.only in case.texts:
            results.append({**asdict(case), "ways": show(case, measure(case, precisions, seeds, 20 if gpu else 1))})
    if options.json:
        print(json.dumps({"cases": results, "cpu": cpu_name(), "gpu": gpu}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
