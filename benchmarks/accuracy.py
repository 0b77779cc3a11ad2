"""Measures what lower precisions cost a trained model on validation rows: `python -m benchmarks.accuracy`.

A model of random weights has no accuracy to lose, so one is trained first, with `finetune_classifier`, on texts whose
words tell their label and of which a tenth is labelled wrongly.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.training import LEARNING_RATE, make_rows, quiet, write_dataset
from benchmarks.workload import Language, build_model, cpu_name, gpu_name, warn_of_load
from components.inference.engine import TextClassifier


def train(folder: Path, train_rows: list[dict[str, str]], validation_rows: list[dict[str, str]], epochs: int) -> Path:
    """Trains a model and returns its folder."""
    from components.training.finetune_classifier.finetune import finetune
    from components.training.hyperparameters import Hyperparameters

    build_model(folder / "start", "MiniLM", Language())
    settings = Hyperparameters(epochs=epochs, learning_rate=LEARNING_RATE)
    parts = [write_dataset(folder / name, rows) for name, rows in (("train", train_rows), ("val", validation_rows))]
    with quiet():
        finetune(*parts, folder / "start", folder / "trained", settings)
    return folder / "trained"


def measure(model: Path, rows: list[dict[str, str]], precisions: list[str]) -> list[dict[str, Any]]:
    """Returns accuracy, and how the answers differ from the first precision's, for each of them."""
    texts = [row["text"] for row in rows]
    found: list[dict[str, Any]] = []
    reference = np.empty(0)
    for precision in precisions:
        classifier = TextClassifier(model, precision=precision, tolerance=1.0)
        answers = classifier.classify(texts)
        reference = reference if len(reference) else answers
        truth = np.array([classifier.labels.index(row["label"]) for row in rows])
        best = answers.argmax(axis=1)
        found.append(
            {
                "precision": classifier.precision,
                "accuracy": float((best == truth).mean()),
                "label_agreement": float((best == reference.argmax(axis=1)).mean()),
                "largest_change": float(np.abs(answers - reference).max()),
            }
        )
    return found


def main() -> int:
    """Prints the table; with --json also the numbers as a last line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows")
    parser.add_argument("--json", action="store_true", help="print the numbers as a last line of JSON")
    options = parser.parse_args()
    print(f"On {cpu_name()}. {warn_of_load()}", flush=True)
    train_count, count, epochs = (600, 200, 1) if options.quick else (3000, 1500, 2)
    rows = make_rows(count, 2, "short")
    with tempfile.TemporaryDirectory(prefix="accuracy-") as folder:
        model = train(Path(folder), make_rows(train_count, 1, "short"), rows, epochs)
        found = measure(model, rows, ["fp32", "bf16", "fp16"] if gpu_name() else ["fp32", "bf16", "int8"])
    print(f"{'precision':<12}{'accuracy':>10}{'labels agree':>14}{'largest change of a probability':>34}")
    for each in found:
        agreement, change = each["label_agreement"], each["largest_change"]
        print(f"{each['precision']:<12}{each['accuracy']:>10.4f}{agreement:>14.4f}{change:>34.4f}")
    if options.json:
        print(json.dumps({"rows": count, "precisions": found, "cpu": cpu_name(), "gpu": gpu_name()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
