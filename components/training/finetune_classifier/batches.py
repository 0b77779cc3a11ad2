"""Puts rows together into batches that depend on the seed alone, whatever the number of processes and restarts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from components.training.finetune_classifier.data import EncodedRows

IGNORED = -100
# Odd 64-bit constants that spread seed, epoch, row and position over all bits before they are mixed.
_SPREAD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], dtype=np.uint64)


@dataclass(frozen=True)
class Padding:
    """How rows of different length become one matrix.

    Attributes:
        token: The padding token's id.
        token_type: The padding's token type.
        left: Whether the padding comes first.
    """

    token: int
    token_type: int
    left: bool


@dataclass(frozen=True)
class Masking:
    """How tokens are hidden while training.

    Attributes:
        share: Share of the tokens that are hidden at each pass.
        token: What stands in their place.
        kept: The ids of the special tokens, which are never hidden.
    """

    share: float
    token: int
    kept: tuple[int, ...]


@dataclass(frozen=True)
class Share:
    """A process's part of one optimizer step.

    Attributes:
        epoch: The pass over the training rows, from 0.
        rows: The rows' numbers.
        scales: What each row's loss counts in the step; over all processes they add up to 1.
    """

    epoch: int
    rows: np.ndarray
    scales: np.ndarray


class GlobalBatches(Sampler[list[Share]]):
    """Samples one optimizer step after the other, grouped by length so that little is padded.

    Trainer's own sampler groups the batches of one process; with two processes it makes other batches than with one.
    Here the order follows from seed and epoch, and each process takes every n-th row of the same step.

    Args:
        encoded: The training rows.
        batch_size: Rows per step, over all processes.
        class_weights: The weight of a row of each class, (labels,).
        seed: Seeds the order.
        process: This process's number.
        processes: All processes.
    """

    def __init__(
        self, encoded: EncodedRows, batch_size: int, class_weights: np.ndarray, seed: int, process: int, processes: int
    ):
        self._lengths = encoded.lengths.tolist()
        self._weights = class_weights[encoded.labels]
        self._batch_size, self._seed = batch_size, seed
        self._process, self._processes = process, processes
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-len(self._lengths) // self._batch_size)

    def __iter__(self) -> Iterator[list[Share]]:
        epoch = self._epoch
        generator = torch.Generator().manual_seed(int(_mix(np.uint64(self._seed), np.uint64(epoch))) >> 1)
        order = np.asarray(get_length_grouped_indices(self._lengths, self._batch_size, generator=generator))
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            weights = self._weights[batch]
            mine = slice(self._process, None, self._processes)
            rows, scales = batch[mine], weights[mine] / weights.sum()
            # The last step may have fewer rows than there are processes; each needs one to have gradients at all.
            if not len(rows):
                rows, scales = batch[:1], np.zeros(1)
            yield [Share(epoch, rows, scales)]


class TrainingRows(Dataset[dict[str, torch.Tensor]]):
    """Gives the inputs of a share of a step.

    Args:
        encoded: The rows.
        padding: How they are padded.
        masking: How tokens are hidden; None hides none.
        seed: Seeds what is hidden.
    """

    def __init__(self, encoded: EncodedRows, padding: Padding, masking: Masking | None, seed: int):
        self._encoded, self._padding, self._masking, self._seed = encoded, padding, masking, seed

    def __len__(self) -> int:
        return len(self._encoded)

    def __getitem__(self, share: Share) -> dict[str, torch.Tensor]:
        inputs = pad_rows(self._encoded, share.rows, self._padding)
        if self._masking:
            hide_tokens(inputs, share.rows, self._masking, self._seed, share.epoch)
        tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
        tensors["labels"] = torch.from_numpy(self._encoded.labels[share.rows].astype(np.int64))
        tensors["scales"] = torch.from_numpy(share.scales.astype(np.float32))
        return tensors


class EpochLoader(DataLoader[Any]):
    """A loader that lets Trainer choose the epoch of its batches."""

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass."""
        assert isinstance(self.batch_sampler, GlobalBatches)
        self.batch_sampler.set_epoch(epoch)


def make_loader(rows: TrainingRows, batches: GlobalBatches) -> EpochLoader:
    """Returns the loader of a process's shares.

    Padding some rows takes a fraction of a millisecond, less than handing them over from a worker process would.
    """
    return EpochLoader(
        rows,
        batch_sampler=batches,
        collate_fn=_only,
        # Otherwise each pass draws a number from the generator that dropout depends on.
        generator=torch.Generator(),
    )


def pad_rows(encoded: EncodedRows, rows: np.ndarray, padding: Padding) -> dict[str, np.ndarray]:
    """Returns rows as matrices, (rows, tokens of the longest): input_ids, attention_mask, perhaps token_type_ids."""
    lengths = encoded.lengths[rows]
    places = np.arange(lengths.max())
    filled = places >= lengths.max() - lengths[:, None] if padding.left else places < lengths[:, None]
    inputs = {
        "input_ids": np.full(filled.shape, padding.token, dtype=np.int64),
        "attention_mask": filled.astype(np.int64),
    }
    inputs["input_ids"][filled] = np.concatenate([encoded.tokens(row) for row in rows])
    if encoded.has_token_types:
        inputs["token_type_ids"] = np.full(filled.shape, padding.token_type, dtype=np.int64)
        inputs["token_type_ids"][filled] = np.concatenate([encoded.token_types(row) for row in rows])
    return inputs


def hide_tokens(inputs: dict[str, np.ndarray], rows: np.ndarray, masking: Masking, seed: int, epoch: int) -> None:
    """Hides a share of the tokens, in place; which ones follows from seed, epoch, row and position alone."""
    ids, attended = inputs["input_ids"], inputs["attention_mask"]
    # Counted among the row's own tokens: how much is padded depends on its neighbours.
    positions = np.cumsum(attended, axis=1).astype(np.uint64)
    draws = _mix(np.uint64(seed), np.uint64(epoch), rows.astype(np.uint64)[:, None], positions)
    hidden = (draws >> np.uint64(11)) * 2.0**-53 < masking.share
    ids[hidden & (attended == 1) & ~np.isin(ids, masking.kept)] = masking.token


def trim(inputs: dict[str, torch.Tensor], left: bool) -> dict[str, torch.Tensor]:
    """Cuts off the columns that are padding in every row."""
    width = int(inputs["attention_mask"].sum(dim=1).max())
    part = slice(-width, None) if left else slice(None, width)
    return {name: values[:, part] if values.dim() == 2 else values for name, values in inputs.items()}


def _mix(*values: Any) -> Any:
    """Hashes numbers to 64 even bits (the finalizer of splitmix64)."""
    with np.errstate(over="ignore"):
        state = np.uint64(0)
        for value, spread in zip(values, _SPREAD, strict=False):
            state = state ^ (value + np.uint64(1)) * spread
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
        return state


def _only(shares: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return shares[0]
