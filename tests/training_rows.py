"""Rows that a tiny model learns in seconds, and how it is trained on them."""

import csv
from pathlib import Path

LABELS = {
    "billing": ["invoice", "charged twice", "refund", "price"],
    "access": ["password", "log in", "locked out", "two-factor code"],
    "delivery": ["parcel", "courier", "tracking", "delivered late"],
}
TRAINING = {
    "model_config": {
        "model_type": "distilbert",
        "dim": 32,
        "n_layers": 1,
        "n_heads": 2,
        "hidden_dim": 64,
        "max_position_embeddings": 64,
        "vocab_size": 300,
        "initializer_range": 0.05,
    },
    "hyperparameters": {"epochs": 8, "learning_rate": 0.01},
    "validation_fraction": 0.2,
    "test_fraction": 0.3,
}


def write_rows(path: Path, rows_per_label: int = 90) -> None:
    """Writes labelled rows, every text another, as CSV with the columns `text` and `label`."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for number in range(rows_per_label):
            for label, words in LABELS.items():
                writer.writerow((f"{number}: about my {words[number % 4]}, please help", label))
