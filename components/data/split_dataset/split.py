"""Splits a Dataset into train, validation and test by a hash of each row's text, id or group."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.data.hashing import hash_keys, normalize_text
from components.data.split_dataset.assign import SPLITS, Bounds, read_keys
from components.data.split_dataset.balance import Balance, LabelCounts, measure_balance
from components.data.split_dataset.leakage import Leakage, find_leakage
from components.data.split_dataset.report import render_report
from components.data.split_dataset.summary import Summary
from components.datasets import LABEL, TEXT, DatasetWriter, metadata_of, read_batches, read_schema
from components.errors import InputError
from components.storage import write_texts

# A task's outputs have 131,072 bytes on Vertex AI, and three Datasets name their labels in them.
LABELS_BYTES = 25_000


@dataclass(frozen=True)
class Split:
    """What was written.

    Attributes:
        metadata: The metadata of each split's Dataset, by its name.
        metrics: Finite numbers by name.
        warnings: What a person has to know before training, a sentence each.
    """

    metadata: dict[str, dict[str, Any]]
    metrics: dict[str, float]
    warnings: list[str]


def split(
    dataset: str | Path,
    train: str | Path,
    validation: str | Path,
    test: str | Path,
    report_path: str | Path,
    metrics_path: str | Path,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_by: str = TEXT,
    seed: int = 0,
    require_labels: bool = False,
    source: Mapping[str, Any] | None = None,
) -> Split:
    """Splits a Dataset; every row goes to exactly one side, with all its columns, in the Dataset's order.

    Args:
        dataset: The Dataset's folder.
        train: Where the rows to train on go.
        validation: Where the rows to choose a checkpoint and hyper-parameters on go.
        test: Where the rows to judge the model on go.
        report_path: Where the HTML report goes.
        metrics_path: Where the numbers go as JSON, with the labels of each split and the warnings.
        validation_fraction: Share of the keys for validation; 0 leaves it empty.
        test_fraction: Share of the keys for test; 0 leaves it empty.
        split_by: `text` keeps equal normalized texts on one side, `id` goes by the id alone, and the name of any column
            keeps the rows of each of its values on one side.
        seed: Draws another split.
        require_labels: Whether rows without a label are left out of all splits.
        source: The metadata of the Dataset, for `source_uri` and `digest`.

    Returns:
        The metadata of the splits, the metrics and the warnings.

    Raises:
        InputError: The fractions leave nothing to train on, there is no such column, it cannot name groups, or labels
            are required and no row has one. Nothing is written then.
    """
    bounds = Bounds(validation_fraction, test_fraction)
    schema = read_schema(dataset)
    if split_by not in schema.names:
        raise InputError(
            f"There is no column {split_by!r} to split by.", f"Give split_by one of: {', '.join(schema.names)}."
        )
    folders = dict(zip(SPLITS, map(Path, (train, validation, test)), strict=True))
    divider = _Divider(bounds, split_by, seed, require_labels)
    with ExitStack() as stack:
        writers = [stack.enter_context(DatasetWriter(folder, schema)) for folder in folders.values()]
        for batch in read_batches(dataset):
            for writer, rows in zip(writers, divider.divide(batch), strict=True):
                writer.write(rows)
        if require_labels and not any(writer.rows for writer in writers):
            raise InputError(
                f"No row has a label: {divider.left_out:,} rows have none.",
                "Check label_column, or give rows with labels.",
            )
    summary = divider.summarize(folders)
    write_texts({metrics_path: _json(summary), report_path: render_report(summary)})
    print(summary.headline, flush=True)
    for warning in summary.warnings:
        print(f"Warning: {warning}", flush=True)
    origin = {"source_uri": (source or {}).get("source_uri", ""), "dataset_digest": (source or {}).get("digest", "")}
    metadata = {}
    for place, (name, writer) in enumerate(zip(SPLITS, writers, strict=True)):
        shares = {"split": name, "fractions": bounds.shares, "split_by": split_by, "seed": seed}
        labels = {"labels": _short_enough(summary.labels_of(place)), "unlabelled": int(summary.unlabelled[place])}
        metadata[name] = metadata_of(writer, **labels, **shares, **origin)
    return Split(metadata, summary.metrics, summary.warnings)


class _Divider:
    """Divides batches, and keeps what the report needs: label counts, and 8 or 16 bytes per row."""

    def __init__(self, bounds: Bounds, split_by: str, seed: int, require_labels: bool):
        self.bounds, self.split_by, self.seed, self.require_labels = bounds, split_by, seed, require_labels
        self.counts = LabelCounts()
        self.left_out = self.without_group = 0
        self._keys: list[list[np.ndarray]] = [[] for _ in SPLITS]
        self._texts: list[list[np.ndarray]] = [[] for _ in SPLITS]

    def divide(self, batch: pa.RecordBatch) -> list[pa.RecordBatch]:
        """Returns the rows of each split."""
        if self.require_labels:
            labelled = batch.filter(batch.column(LABEL).is_valid())
            self.left_out += batch.num_rows - labelled.num_rows
            batch = labelled
        texts = [normalize_text(text) for text in batch.column(TEXT).to_pylist()]
        keys, without = read_keys(batch, self.split_by, texts)
        self.without_group += without
        hashes = hash_keys(keys, self.seed)
        text_hashes = None if self.split_by == TEXT else hash_keys(texts, self.seed)
        sides = self.bounds.sides(hashes)
        self.counts.add(batch.column(LABEL), sides)
        parts = []
        for side in range(len(SPLITS)):
            here = sides == side
            self._keys[side].append(hashes[here])
            if text_hashes is not None:
                self._texts[side].append(text_hashes[here])
            parts.append(batch.filter(pa.array(here)))
        return parts

    def summarize(self, folders: dict[str, Path]) -> Summary:
        """Computes what there is to say about the splits, whose Datasets are in place."""
        keys, texts = ([_join(parts) for parts in hashes] for hashes in (self._keys, self._texts))
        balance: Balance | None = measure_balance(self.counts.labels, self.counts.table)
        # Texts that decide on the side are never on two.
        leaks: list[Leakage] = [] if self.split_by == TEXT else find_leakage(folders, texts)
        sizes = np.unique(_join(keys), return_counts=True)[1]
        return Summary(
            shares=self.bounds.shares,
            split_by=self.split_by,
            rows=[len(part) for part in keys],
            left_out=self.left_out,
            without_group=self.without_group,
            keys=len(sizes),
            largest_key_rows=int(sizes.max(initial=0)),
            labels=self.counts.labels,
            table=self.counts.table,
            too_many_labels=self.counts.too_many,
            unlabelled=self.counts.unlabelled,
            balance=balance,
            leaks=leaks,
        )


def _join(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def _short_enough(labels: list[str]) -> list[str]:
    return labels if len(json.dumps(labels)) <= LABELS_BYTES else []


def _json(summary: Summary) -> str:
    rows = [dict(zip(SPLITS, counts, strict=True)) for counts in summary.table.tolist()]
    content = {
        **summary.metrics,
        "label_counts": dict(zip(summary.labels, rows, strict=True)),
        "warnings": summary.warnings,
    }
    return json.dumps(content, ensure_ascii=False, indent=1)
