#!/usr/bin/env python3
"""The programs `train` and `predict` of a training image: tf-idf and a logistic regression of scikit-learn.

Which of the two it is, it knows by the name that it is called by. It needs nothing of kfp-transformers: the contract
is in components/training/train_in_container/README.md.
"""

import argparse
import csv
import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

DEFAULTS = {"strengths": [0.3, 1.0, 3.0, 10.0], "max_features": 50_000, "longest_words": 2}
WEIGHTS = "container-weights.npz"


class WrongInput(Exception):
    """What a person must change before another try can succeed."""


def read_rows(folder: Path) -> tuple[list[str], list[str]]:
    """Returns the texts and the labels of a Dataset's labelled rows."""
    table = pq.read_table(folder, columns=["text", "label"])
    rows = [(row["text"], row["label"]) for row in table.to_pylist() if row["label"] is not None]
    if not rows:
        raise WrongInput(f"No row in {folder} has a label.")
    return [text for text, _ in rows], [label for _, label in rows]


def vectorizer(settings: dict) -> TfidfVectorizer:
    """Returns what makes numbers of texts, untrained."""
    words = (1, int(settings["longest_words"]))
    return TfidfVectorizer(ngram_range=words, max_features=int(settings["max_features"]), sublinear_tf=True)


def train(options: argparse.Namespace) -> None:
    """Tries several strengths of regularization, and keeps the model that does best on the validation rows."""
    unknown = set(options.hyperparameters) - set(DEFAULTS)
    if unknown:
        raise WrongInput(f"There is no hyper-parameter {sorted(unknown)[0]!r}; there are: {', '.join(DEFAULTS)}.")
    settings = DEFAULTS | options.hyperparameters
    texts, labels = read_rows(options.train)
    if len(set(labels)) < 2:
        raise WrongInput("The training rows have fewer than two labels.")
    features = vectorizer(settings)
    rows, (checked, right) = features.fit_transform(texts), read_rows(options.validation)
    checked_rows = features.transform(checked)
    trials = read_trials(options.checkpoints)
    for strength in settings["strengths"]:
        if str(strength) not in trials:
            model = LogisticRegression(C=strength, max_iter=1000).fit(rows, labels)
            trials[str(strength)] = f1_score(right, model.predict(checked_rows), average="macro")
            write_trials(options.checkpoints, trials)
        print(f"strength {strength}: macro F1 {trials[str(strength)]:.4f} on {len(right)} rows")
    best = max(settings["strengths"], key=lambda strength: trials[str(strength)])
    model = LogisticRegression(C=best, max_iter=1000).fit(rows, labels)
    save(options.model, features, model, settings)
    print(f"kept strength {best}, trained on {len(labels)} rows")


def read_trials(checkpoints: Path) -> dict:
    """Returns the results that an earlier attempt left."""
    file = checkpoints / "trials.json"
    return json.loads(file.read_text()) if file.exists() else {}


def write_trials(checkpoints: Path, trials: dict) -> None:
    """Keeps the results so far, whole or not at all."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    temporary = checkpoints / f"trials-{os.getpid()}.json"
    temporary.write_text(json.dumps(trials))
    temporary.replace(checkpoints / "trials.json")


def save(folder: Path, features: TfidfVectorizer, model: LogisticRegression, settings: dict) -> None:
    """Writes the model as JSON and numbers: nothing in it can run when it is read."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {"idf": features.idf_, "coefficients": model.coef_, "intercept": model.intercept_}
    np.savez_compressed(folder / WEIGHTS, **weights)
    vocabulary = {word: int(place) for word, place in features.vocabulary_.items()}
    about = {"labels": model.classes_.tolist(), "settings": settings, "vocabulary": vocabulary}
    (folder / "container.json").write_text(json.dumps(about))


def predict(options: argparse.Namespace) -> None:
    """Writes the probabilities of every label for every row, in the dataset's order."""
    options.predictions.mkdir(parents=True, exist_ok=True)
    if (options.model / "absent.json").exists():
        print("there is no model yet")
        return
    about = json.loads((options.model / "container.json").read_text())
    weights = np.load(options.model / WEIGHTS, allow_pickle=False)
    features = vectorizer(about["settings"]).set_params(vocabulary=about["vocabulary"])
    features.idf_ = weights["idf"]
    labels, count = about["labels"], 0
    with (options.predictions / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "prediction", *(f"p:{label}" for label in labels)])
        for part in sorted(options.dataset.glob("part-*.parquet")):
            for batch in pq.ParquetFile(part).iter_batches(4096, columns=["id", "text"]):
                rows = batch.to_pylist()
                sums = features.transform([row["text"] for row in rows]) @ weights["coefficients"].T
                sums = sums + weights["intercept"]
                # Of two labels, scikit-learn keeps the coefficients of the second only.
                sums = np.hstack([np.zeros_like(sums), sums]) if len(labels) == 2 else sums
                shares = np.exp(sums - sums.max(axis=1, keepdims=True))
                shares /= shares.sum(axis=1, keepdims=True)
                for row, share in zip(rows, shares, strict=True):
                    writer.writerow([row["id"], labels[int(share.argmax())], *share.tolist()])
                count += len(rows)
    print(f"answered for {count} rows")


def main() -> int:
    """Runs one of the two programs; returns its exit code."""
    parser = argparse.ArgumentParser()
    program = {"train": train, "predict": predict}[Path(sys.argv[0]).stem]
    folders = {train: ["train", "validation", "checkpoints", "model"], predict: ["dataset", "model", "predictions"]}
    for name in folders[program]:
        parser.add_argument(f"--{name}", type=Path, required=True)
    if program is train:
        parser.add_argument("--hyperparameters", type=json.loads, default={})
    parser.add_argument("--failure", type=Path)
    options = parser.parse_args()
    try:
        program(options)
    except WrongInput as error:
        print(f"InputError: {error}", file=sys.stderr)
        if options.failure:
            options.failure.parent.mkdir(parents=True, exist_ok=True)
            options.failure.write_text(f"InputError: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
