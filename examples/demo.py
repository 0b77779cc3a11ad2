"""The whole system on this machine: two messages on a topic become a trained classifier and its predictions.

The first message trains a model on labelled texts and makes it the champion of a model store if it earns that; the
second classifies new texts with the champion. `make demo` runs it on the example's support tickets.
"""

import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import pyarrow.parquet as pq
import typer
from rich.console import Console

from emulator.watch import metrics_table, rows_table
from examples.local_system import OUT, artifact, local_system, run_message

HERE = Path(__file__).resolve().parent
# A small model of the tickets' own words: it trains in a minute on two cores, and nothing has to be downloaded.
MODEL_CONFIG = {
    "model_type": "distilbert",
    "dim": 128,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 512,
    "max_position_embeddings": 256,
    "vocab_size": 1000,
    # Pretrained models start from 0.02; without pretraining the larger start learns in half the epochs.
    "initializer_range": 0.05,
}
HYPERPARAMETERS = {
    "epochs": 16,
    "learning_rate": 1e-3,
    "label_smoothing": 0.1,
    "token_masking": 0.2,
    "dropout": 0.3,
}
console = Console(soft_wrap=False)


def main(
    train: Annotated[Path, typer.Option(help="Labelled texts: CSV, TSV, JSONL or Parquet.")] = HERE
    / "support_tickets.csv",
    classify: Annotated[
        Path | None, typer.Option(help="Labelled texts for the champion to classify; by default the new tickets.")
    ] = None,
    text_column: Annotated[str, typer.Option(help="The column with the text.")] = "text",
    label_column: Annotated[str, typer.Option(help="The column with the label.")] = "label",
    model_name: Annotated[str, typer.Option(help="The model's name in the store out/models.")] = "tickets",
    base_model: Annotated[
        str, typer.Option(help="A hub id or a folder to fine-tune; by default a small model is built from nothing.")
    ] = "",
    hyperparameters: Annotated[str, typer.Option(help="JSON; replaces the example's own, name by name.")] = "{}",
) -> None:
    """Trains a classifier by one message, and classifies new texts with it by another.

    Example: python -m examples.demo --train headlines.csv --text-column headline --label-column sentiment
    --model-name headlines --hyperparameters '{"epochs": 8}'
    """
    columns = {"text_column": text_column, "label_column": label_column}
    training = columns | {
        "input_uri": str(train.absolute()),
        "store_uri": str(OUT / "models"),
        "model_name": model_name,
        "output_uri": str(OUT / "decision"),
        **model_parameters(base_model, json.loads(hyperparameters)),
    }
    if classify is None and train == HERE / "support_tickets.csv":
        classify = HERE / "new_tickets.csv"
    try:
        with local_system(OUT / "demo", console) as stack:
            report_training(run_message(stack, "train_classifier", training, console))
            if classify:
                classification = columns | {
                    "input_uri": str(classify.absolute()),
                    "model": f"{OUT / 'models' / model_name}@champion",
                    "output_uri": str(OUT / "predictions"),
                }
                report_predictions(run_message(stack, "batch_classification", classification, console))
    except RuntimeError as error:
        console.print(str(error), style="red", highlight=False, soft_wrap=True, markup=False)
        raise typer.Exit(1) from error


def model_parameters(base_model: str, hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters that say what is trained, and how.

    A pretrained model is fine-tuned with the component's own defaults; the example's are for one that knows nothing.

    Args:
        base_model: A hub id or a folder; "" for a model of the example's configuration.
        hyperparameters: What the user wants otherwise.
    """
    if not base_model:
        return {"model_config": MODEL_CONFIG, "hyperparameters": HYPERPARAMETERS | hyperparameters}
    folder = Path(base_model)
    return {
        "base_model": str(folder.absolute()) if folder.is_dir() else base_model,
        "hyperparameters": hyperparameters,
    }


def report_training(job: dict[str, Any]) -> None:
    """Prints what the candidate reached on the rows it never saw, and whether it is the champion now."""
    console.print(metrics_table(artifact(job, "evaluate-classifier", "metrics")["metadata"]))
    decision = json.loads((OUT / "decision" / "decision.json").read_text(encoding="utf-8"))
    console.print(decision["reason"], highlight=False, soft_wrap=True, markup=False)
    print_path("Report", artifact(job, "evaluate-classifier", "report")["uri"])


def report_predictions(job: dict[str, Any]) -> None:
    """Prints the first predictions, their metrics, and where everything is."""
    table = pq.read_table(OUT / "predictions")
    columns = ("text", "label", "prediction", "score")
    rows = table.slice(0, 8).to_pylist()
    console.print(rows_table(f"The first of {table.num_rows} predictions", columns, rows, console.width))
    console.print(metrics_table(artifact(job, "evaluate-predictions", "metrics")["metadata"]))
    print_path("Predictions", str(OUT / "predictions"))
    print_path("Report", artifact(job, "evaluate-predictions", "report")["uri"])


def print_path(what: str, path: str) -> None:
    """Prints a path on one line, so that it can be copied."""
    console.print(f"{what + ':':<12} {path}", highlight=False, soft_wrap=True)


def _stop(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)


if __name__ == "__main__":
    # An exit unwinds the `with` blocks, so that no process is left behind.
    signal.signal(signal.SIGTERM, _stop)
    typer.run(main)
