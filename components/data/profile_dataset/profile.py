"""Describes a Dataset in one pass and in bounded memory: statistics as JSON, and a page for people."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.data.profile_dataset.columns import ColumnCounts, missing_values
from components.data.profile_dataset.duplicates import SeenTexts
from components.data.profile_dataset.lengths import LengthCounts
from components.data.profile_dataset.report import build_page
from components.data.profile_dataset.scripts import ScriptCounts
from components.data.profile_dataset.words import Vocabulary, compare, split_words
from components.data.read_dataset.checks import LabelCounts
from components.data.statistics import Labels, Statistics, Tokens, read_statistics
from components.datasets import LABEL, TEXT, count_rows, read_batches, read_schema
from components.models import is_absent
from components.progress import Progress
from components.storage import write_texts

# What is held at once: scripts take some 20 bytes a character while they are counted.
BATCH_ROWS = 8192
BATCH_CHARACTERS = 2_000_000
# Tokenizers answer "no limit" with a number of 30 digits.
NO_LIMIT = 10_000_000
TOKENIZE_ROWS = 512


def profile(
    dataset_path: str | Path,
    statistics_path: str | Path,
    metrics_path: str | Path,
    report_path: str | Path,
    reference_path: str | Path = "",
    model_path: str | Path = "",
    metadata: Mapping[str, Any] | None = None,
    title: str = "",
) -> dict[str, float]:
    """Profiles a Dataset and writes its three files.

    Args:
        dataset_path: The Dataset's folder.
        statistics_path: Where the statistics go, as JSON (`components.data.statistics.Statistics`).
        metrics_path: Where the numbers go that are returned, as JSON.
        report_path: Where the HTML report goes.
        reference_path: Statistics of another Dataset whose vocabulary is compared; '' for none.
        model_path: A Model whose tokenizer counts the tokens; '' or an absent Model counts words.
        metadata: The Dataset's, of which `digest` and `source_uri` are written down.
        title: The report's heading; "Profile of a dataset" by default.

    Returns:
        Finite numbers by name.

    Raises:
        InputError: There is no Dataset, or the reference is no statistics. Nothing is written then.
    """
    reference = read_statistics(reference_path) if str(reference_path) else None
    tokenizer = Tokenizer(model_path) if str(model_path) and not is_absent(model_path) else None
    statistics = describe(dataset_path, tokenizer, metadata or {})
    if reference:
        statistics.reference = compare(statistics.vocabulary, reference)
    metrics = _metrics(statistics)
    write_texts(
        {
            statistics_path: statistics.model_dump_json(indent=1),
            metrics_path: json.dumps(metrics, indent=1, allow_nan=False),
            report_path: build_page(statistics, title).render(),
        }
    )
    print(_summary(statistics), flush=True)
    return metrics


class Tokenizer:
    """Counts tokens as a model reads them, special tokens included.

    Args:
        folder: The Model's folder.

    Attributes:
        limit: The most tokens it says its model can read; 0 when it does not say.
    """

    def __init__(self, folder: str | Path):
        from transformers import AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()  # it warns of every text that is longer than the model reads
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        limit = self._tokenizer.model_max_length
        self.limit = int(limit) if 0 < limit < NO_LIMIT else 0

    def count(self, texts: list[str]) -> np.ndarray:
        """Returns the tokens of each text: integers of shape (texts,)."""
        counts: list[int] = []
        for start in range(0, len(texts), TOKENIZE_ROWS):
            encoded = self._tokenizer(
                texts[start : start + TOKENIZE_ROWS],
                truncation=False,
                return_attention_mask=False,
                return_token_type_ids=False,
            )
            counts += map(len, encoded["input_ids"])
        return np.array(counts, np.int64)


def describe(
    path: str | Path,
    tokenizer: Tokenizer | None = None,
    metadata: Mapping[str, Any] | None = None,
    batch_rows: int = BATCH_ROWS,
) -> Statistics:
    """Returns a Dataset's statistics, without a comparison.

    Args:
        path: The Dataset's folder.
        tokenizer: Counts the tokens; without it words are counted.
        metadata: The Dataset's.
        batch_rows: The most rows that are read at once; the statistics do not depend on it.
    """
    columns = {field.name: ColumnCounts(field) for field in read_schema(path)}
    characters, tokens, scripts = LengthCounts(), LengthCounts(), ScriptCounts()
    words, seen, labels, rows = Vocabulary(), SeenTexts(), LabelCounts(), 0
    with Progress(count_rows(path), "profile_dataset") as progress:
        for batch in _small_batches(path, batch_rows):
            texts = batch.column(TEXT)
            lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
            filled = ~missing_values(texts, TEXT).to_numpy(zero_copy_only=False)
            found, counts = split_words(texts)
            if tokenizer:
                counts = tokenizer.count(texts.to_pylist())
            characters.add(lengths[filled])
            tokens.add(counts[filled])
            words.add(found)
            scripts.add(texts, lengths)
            seen.add(texts.to_pylist(), batch.column(LABEL))
            labels.add(batch.column(LABEL))
            for name, column in columns.items():
                column.add(batch.column(name))
            rows += batch.num_rows
            progress.update(batch.num_rows)
    limit = tokenizer.limit if tokenizer else 0
    known = metadata or {}
    return Statistics(
        digest=str(known.get("digest", "")),
        source_uri=str(known.get("source_uri", "")),
        rows=rows,
        columns=[column.statistics() for column in columns.values()],
        characters=characters.statistics(),
        tokens=Tokens(
            unit="tokens" if tokenizer else "words",
            limit=limit,
            beyond_limit=tokens.beyond(limit) if limit else 0,
            lengths=tokens.statistics(),
        ),
        duplicates=seen.statistics(path),
        labels=Labels(
            counts=dict(sorted(labels.counts.items())), unlabelled=labels.unlabelled, complete=labels.complete
        ),
        scripts=scripts.statistics(),
        vocabulary=words.statistics(),
    )


def _small_batches(path: str | Path, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Reads batches of at most `BATCH_CHARACTERS` characters, or of one text that is longer."""
    for batch in read_batches(path, batch_rows=batch_rows):
        ends = np.cumsum(pc.utf8_length(batch.column(TEXT)).to_numpy(zero_copy_only=False).astype(np.int64))
        start = 0
        while start < batch.num_rows:
            before = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + BATCH_CHARACTERS, side="right")))
            yield batch.slice(start, stop - start)
            start = stop


def _metrics(statistics: Statistics) -> dict[str, float]:
    characters, tokens, duplicates = statistics.characters, statistics.tokens.lengths, statistics.duplicates
    unit, rows, counts = statistics.tokens.unit, statistics.rows, statistics.labels.counts
    metrics: dict[str, float] = {
        "rows": rows,
        "blank_texts": statistics.column(TEXT).missing,
        "unlabelled_rows": statistics.labels.unlabelled,
        "labels": len(counts),
        "duplicate_rows": duplicates.rows,
        "duplicate_share": duplicates.rows / rows if rows else 0.0,
        "conflicting_rows": duplicates.conflicting_rows,
        "median_characters": characters.percentiles["50"],
        "longest_characters": characters.maximum,
        f"median_{unit}": tokens.percentiles["50"],
        f"longest_{unit}": tokens.maximum,
        "distinct_words": statistics.vocabulary.distinct,
    }
    if counts and sum(counts.values()):
        metrics["majority_share"] = max(counts.values()) / sum(counts.values())
    if statistics.tokens.limit:
        metrics["rows_beyond_token_limit"] = statistics.tokens.beyond_limit
    if statistics.reference:
        metrics["known_words"] = statistics.reference.known_words
        metrics["known_word_occurrences"] = statistics.reference.known_occurrences
    return metrics


def _summary(statistics: Statistics) -> str:
    characters, tokens = statistics.characters, statistics.tokens
    parts = [
        f"Profiled {statistics.rows:,} rows",
        f"median {characters.percentiles['50']:,} characters and {tokens.lengths.percentiles['50']:,} {tokens.unit}",
        f"{len(statistics.labels.counts):,} labels" if statistics.labels.complete else "too many labels to list",
        f"{statistics.duplicates.rows:,} rows repeat an earlier text",
    ]
    blank = statistics.column(TEXT).missing
    return ", ".join(parts + [f"{blank:,} blank texts"] * bool(blank)) + "."
