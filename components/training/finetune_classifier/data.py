"""Turns Datasets into tokens on disk, which a training run of any size maps into memory."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.datasets import LABEL, TEXT, read_batches
from components.errors import InputError
from components.progress import Progress

# A tokenizer holds some hundred bytes a token until a call returns, also of tokens that it cuts off.
TOKENIZE_ROWS, TOKENIZE_CHARACTERS = 512, 1_000_000
TOKENS, TOKEN_TYPES, ENDS, LABELS = "tokens.int32", "token_types.uint8", "ends.npy", "labels.npy"


class EncodedRows:
    """Tokenized rows in a folder, mapped into memory; 20 bytes a row are held.

    Args:
        folder: The folder that `encode_dataset` wrote.

    Attributes:
        labels: The rows' label ids, (rows,).
        lengths: The rows' tokens, (rows,).
        has_token_types: Whether the model reads token types.
    """

    def __init__(self, folder: Path):
        self.labels: np.ndarray = np.load(folder / LABELS)
        self._ends: np.ndarray = np.load(folder / ENDS)
        self.lengths = np.diff(self._ends, prepend=0)
        self._tokens = np.memmap(folder / TOKENS, dtype=np.int32, mode="r")
        self.has_token_types = (folder / TOKEN_TYPES).exists()
        self._types = np.memmap(folder / TOKEN_TYPES, dtype=np.uint8, mode="r") if self.has_token_types else None

    def __len__(self) -> int:
        return len(self.labels)

    def tokens(self, row: int) -> np.ndarray:
        """Returns a row's token ids."""
        return self._tokens[self._ends[row] - self.lengths[row] : self._ends[row]]

    def token_types(self, row: int) -> np.ndarray:
        """Returns a row's token types."""
        assert self._types is not None
        return self._types[self._ends[row] - self.lengths[row] : self._ends[row]]


def count_labels(dataset: str | Path, name: str) -> Counter[str]:
    """Counts a Dataset's labels, and says how many rows have none.

    Args:
        dataset: The Dataset's folder.
        name: What it is called in messages, such as `training`.

    Raises:
        InputError: It has no labelled row.
    """
    counts: Counter[str] = Counter()
    unlabelled = 0
    for batch in read_batches(dataset, columns=[LABEL]):
        counts.update(batch.column(0).drop_null().to_pylist())
        unlabelled += batch.column(0).null_count
    if not counts:
        found = f"its {unlabelled} rows have no label" if unlabelled else "it has no rows"
        raise InputError(
            f"There is nothing in the {name} Dataset to train with: {found}.",
            "Give labelled rows, and split_dataset fractions that leave some of them on each side.",
        )
    if unlabelled:
        print(f"finetune_classifier: {unlabelled} {name} rows without a label are left out", flush=True)
    return counts


def read_texts(dataset: str | Path) -> Iterator[str]:
    """Reads the texts of a Dataset's labelled rows."""
    for texts, _ in _labelled_parts(dataset):
        yield from texts


def encode_dataset(
    dataset: str | Path,
    folder: Path,
    tokenizer: Any,
    labels: Sequence[str],
    max_length: int,
    model_inputs: set[str],
    progress: Progress,
) -> EncodedRows:
    """Tokenizes a Dataset's labelled rows into a folder, in bounded memory.

    Args:
        dataset: The Dataset's folder.
        folder: The folder to write, which must not exist yet.
        tokenizer: The model's tokenizer, with a padding token.
        labels: The names of the classes, in the order of their ids.
        max_length: The most tokens of a text, special tokens included.
        model_inputs: What the model's forward takes, such as `token_type_ids`.
        progress: Hears of the rows that are done.
    """
    folder.mkdir(parents=True)
    ids = {label: number for number, label in enumerate(labels)}
    ends: list[np.ndarray] = []
    encoded_labels: list[np.ndarray] = []
    end = 0
    typed = "token_type_ids" in model_inputs and "token_type_ids" in tokenizer.model_input_names
    with (folder / TOKENS).open("wb") as tokens, (folder / TOKEN_TYPES).open("wb") as types:
        for texts, names in _labelled_parts(dataset):
            encoded = tokenizer(
                texts, truncation=True, max_length=max_length, padding=False, return_token_type_ids=typed
            )
            # A tokenizer without special tokens makes nothing of "", which no model can read.
            rows = [row or [tokenizer.pad_token_id] for row in encoded["input_ids"]]
            tokens.write(np.asarray([token for row in rows for token in row], dtype=np.int32).tobytes())
            if typed:
                kinds = [kind for row in encoded["token_type_ids"] for kind in (row or [0])]
                types.write(np.asarray(kinds, dtype=np.uint8).tobytes())
            ends.append(end + np.cumsum([len(row) for row in rows], dtype=np.int64))
            encoded_labels.append(np.asarray([ids[name] for name in names], dtype=np.int32))
            end = int(ends[-1][-1])
            progress.update(len(rows))
    if not typed:
        (folder / TOKEN_TYPES).unlink()
    np.save(folder / ENDS, np.concatenate(ends))
    np.save(folder / LABELS, np.concatenate(encoded_labels))
    return EncodedRows(folder)


def _labelled_parts(dataset: str | Path) -> Iterator[tuple[list[str], list[str]]]:
    for batch in read_batches(dataset, columns=[TEXT, LABEL], batch_rows=TOKENIZE_ROWS):
        texts: list[str] = []
        labels: list[str] = []
        characters = 0
        for text, label in zip(batch.column(TEXT).to_pylist(), batch.column(LABEL).to_pylist(), strict=True):
            if label is None:
                continue
            if texts and characters + len(text) > TOKENIZE_CHARACTERS:
                yield texts, labels
                texts, labels, characters = [], [], 0
            texts.append(text)
            labels.append(label)
            characters += len(text)
        if texts:
            yield texts, labels
