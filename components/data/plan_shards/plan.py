"""Plans the row ranges that parallel steps work on."""

from itertools import pairwise
from pathlib import Path

from components.datasets import count_rows
from components.errors import InputError


def plan(dataset: str | Path, num_shards: int) -> list[str]:
    """Divides a Dataset's rows, without reading them.

    Args:
        dataset: The Dataset's folder.
        num_shards: The number of shards wanted.

    Returns:
        `"start:stop"` for each shard, in the rows' order and without gaps. Sizes differ by at most one row. There are
        never more shards than rows, but at least one: an empty Dataset gives `["0:0"]`.

    Raises:
        InputError: `num_shards` is below 1, or there is no Dataset.
    """
    if num_shards < 1:
        raise InputError(f"num_shards is {num_shards}.", "Give the number of parallel steps, 1 or more.")
    rows = count_rows(dataset)
    shards = divide(rows, num_shards)
    print(f"{rows:,} rows in {len(shards):,} shard{'s' * (len(shards) > 1)}: {shards[0]} to {shards[-1]}", flush=True)
    return shards


def divide(rows: int, num_shards: int) -> list[str]:
    """Divides a number of rows; `plan` says how."""
    count = max(1, min(num_shards, rows))
    bounds = [rows * shard // count for shard in range(count + 1)]
    return [f"{start}:{stop}" for start, stop in pairwise(bounds)]
