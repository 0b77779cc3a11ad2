"""Plans the row ranges that parallel steps work on: as many tokens in each, as far as the texts' lengths tell."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from components.datasets import TEXT, count_rows, read_batches
from components.errors import InputError

# A language with spaces has 4 to 5 bytes a token in its own vocabulary, others fewer characters of more bytes.
BYTES_PER_TOKEN = 4.5
# What models read of a text when nobody says how much.
USUAL_TOKENS = 512
# Of a row beside its text: special tokens, reading and writing.
ROW_TOKENS = 3
# Rows whose sum is kept. A hundred million rows are 25,000 numbers.
BLOCK_ROWS = 4096


def plan(dataset: str | Path, num_shards: int, max_length: int = 0) -> list[str]:
    """Divides a Dataset's rows so that every shard is about as much work. Of the rows it reads the texts' lengths.

    Args:
        dataset: The Dataset's folder.
        num_shards: The number of shards wanted.
        max_length: The most tokens of a text that are read in the shards; 0 means 512.

    Returns:
        `"start:stop"` for each shard, in the rows' order and without gaps. There are never more shards than rows, but
        at least one: an empty Dataset gives `["0:0"]`.

    Raises:
        InputError: `num_shards` is below 1, or there is no Dataset.
    """
    if num_shards < 1:
        raise InputError(f"num_shards is {num_shards}.", "Give the number of parallel steps, 1 or more.")
    rows = count_rows(dataset)
    count = max(1, min(num_shards, rows))
    tokens = max_length or USUAL_TOKENS
    bounds = [0, rows] if count == 1 else find_bounds(dataset, rows, count, tokens)
    shards = [f"{start}:{stop}" for start, stop in pairwise(bounds)]
    print(f"{rows:,} rows in {len(shards):,} shard{'s' * (len(shards) > 1)}: {shards[0]} to {shards[-1]}", flush=True)
    return shards


def find_bounds(dataset: str | Path, rows: int, count: int, tokens: int) -> list[int]:
    """Returns the first row of each shard and the end, for two or more shards and no fewer rows.

    Args:
        dataset: The Dataset's folder.
        rows: Its rows.
        count: The number of shards.
        tokens: The most tokens of a text that are read.
    """
    sums = np.array([block.sum() for block in read_costs(dataset, tokens)])
    ends = np.cumsum(sums)
    wanted = ends[-1] * np.arange(1, count) / count
    # The block in which a bound lies is read again, for the row.
    blocks = np.searchsorted(ends, wanted, side="right").clip(0, len(ends) - 1)
    found = []
    for number, goal in zip(blocks, wanted, strict=True):
        start = int(number) * BLOCK_ROWS
        (costs,) = read_costs(dataset, tokens, start, min(start + BLOCK_ROWS, rows))
        within = np.searchsorted(ends[number] - sums[number] + np.cumsum(costs), goal + 1e-6, side="right")
        found.append(start + int(within))
    return spread(found, rows)


def spread(found: list[int], rows: int) -> list[int]:
    """Moves bounds as little as needed to leave every shard a row, and adds the first and the last one."""
    bounds = [0]
    for number, bound in enumerate(found):
        bounds.append(min(max(bound, bounds[-1] + 1), rows - (len(found) - number)))
    return [*bounds, rows]


def read_costs(dataset: str | Path, tokens: int, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
    """Estimates the tokens of each row from its text's bytes.

    Args:
        dataset: The Dataset's folder.
        tokens: The most tokens of a text that are read.
        start: The first row.
        stop: The row to stop before; the end by default.

    Yields:
        The costs of `BLOCK_ROWS` rows at a time; the last block may have fewer.
    """
    waiting = np.empty(0)
    for batch in read_batches(dataset, columns=[TEXT], start=start, stop=stop):
        lengths = pc.binary_length(batch.column(0)).to_numpy(zero_copy_only=False)
        waiting = np.concatenate([waiting, ROW_TOKENS + np.minimum(lengths / BYTES_PER_TOKEN, tokens)])
        while len(waiting) >= BLOCK_ROWS:
            yield waiting[:BLOCK_ROWS]
            waiting = waiting[BLOCK_ROWS:]
    if len(waiting):
        yield waiting
