import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.progress import Progress
from components.training.finetune_classifier import data
from components.training.finetune_classifier.batches import (
    GlobalBatches,
    Masking,
    Padding,
    TrainingRows,
    hide_tokens,
    pad_rows,
    trim,
)
from components.training.finetune_classifier.data import EncodedRows, encode_dataset
from tests.components.training.corpus import make_rows, write_dataset
from tests.tiny_model import train_tokenizer


class Rows:
    """Encoded rows in memory."""

    has_token_types = False

    def __init__(self, lengths, labels=None):
        self.lengths = np.asarray(lengths)
        self.labels = np.zeros(len(lengths), dtype=np.int32) if labels is None else np.asarray(labels)

    def __len__(self):
        return len(self.lengths)

    def tokens(self, row):
        return np.arange(10, 10 + self.lengths[row])


def steps_of(rows, batch_size, processes, weights, epoch=0, seed=0):
    """Returns, per step, all processes' (row, scale)."""
    samplers = [GlobalBatches(rows, batch_size, weights, seed, process, processes) for process in range(processes)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    steps = []
    for shares in zip(*samplers, strict=True):
        parts = [(row, scale) for (share,) in shares for row, scale in zip(share.rows, share.scales, strict=True)]
        steps.append(parts)
    return steps


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=70),
    batch_size=st.integers(1, 20),
    processes=st.integers(1, 5),
    epoch=st.integers(0, 3),
    draw=st.integers(0, 2**32 - 1),
)
def test_any_number_of_processes_takes_the_same_steps(lengths, batch_size, processes, epoch, draw):
    rows = Rows(lengths, np.random.default_rng(draw).integers(0, 3, len(lengths)))
    weights = np.array([0.5, 1.0, 4.0])
    alone = steps_of(rows, batch_size, 1, weights, epoch, seed=draw)
    together = steps_of(rows, batch_size, processes, weights, epoch, seed=draw)
    assert len(alone) == len(together) == -(-len(lengths) // batch_size)
    # Every row once in an epoch, and in the same step with the same scale on any number of processes.
    assert sorted(row for step in alone for row, _ in step) == list(range(len(lengths)))
    for one, many in zip(alone, together, strict=True):
        assert sorted(one) == sorted((row, scale) for row, scale in many if scale)
        assert sum(scale for _, scale in many) == pytest.approx(1)
        total = sum(weights[rows.labels[row]] for row, _ in one)
        assert all(scale == pytest.approx(weights[rows.labels[row]] / total) for row, scale in one)


def test_batches_are_of_like_length_and_differ_by_epoch():
    lengths = np.random.default_rng(0).integers(1, 200, 2000)
    rows = Rows(lengths)
    first, second = (steps_of(rows, 16, 1, np.ones(1), epoch) for epoch in (0, 1))
    padded = sum(16 * max(lengths[row] for row, _ in step) for step in first)
    assert padded < 1.1 * lengths.sum()
    assert first != second
    # What does not fit into memory shows at once.
    assert max(lengths[row] for row, _ in first[0]) == lengths.max()


@given(share=st.sampled_from([0.1, 0.3, 0.9]), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_what_is_hidden_does_not_depend_on_the_neighbours(share, seed, epoch):
    rows = Rows([400, 30, 300])
    masking = Masking(share, token=4, kept=(10, 11))

    def hide(numbers, left):
        inputs = pad_rows(rows, np.array(numbers), Padding(token=0, token_type=0, left=left))
        hide_tokens(inputs, np.array(numbers), masking, seed, epoch)
        return [line[kept == 1] for line, kept in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]

    together, alone = hide([0, 1, 2], left=False), hide([1], left=True)
    assert (together[1] == alone[0]).all()
    for line in together:
        assert list(line[:2]) == [10, 11]
    hidden = np.mean(np.concatenate(together) == 4)
    assert abs(hidden - share) < 0.12


def test_what_is_hidden_changes_by_pass_and_row():
    rows = Rows([200, 200])
    masking = Masking(0.5, token=4, kept=())

    def hide(epoch):
        inputs = pad_rows(rows, np.array([0, 1]), Padding(0, 0, False))
        hide_tokens(inputs, np.array([0, 1]), masking, 0, epoch)
        return inputs["input_ids"] == 4

    assert (hide(0)[0] != hide(0)[1]).any()
    assert (hide(0) != hide(1)).any()
    assert (hide(0) == hide(0)).all()


def test_padding_is_cut_off_where_all_rows_have_it():
    rows = Rows([3, 9])
    for left in (False, True):
        inputs = pad_rows(rows, np.array([0, 1]), Padding(0, 0, left))
        tensors = {name: torch.from_numpy(values[:1]) for name, values in inputs.items()} | {"labels": torch.zeros(1)}
        short = trim(tensors, left)
        assert short["input_ids"].tolist() == [[10, 11, 12]]
        assert short["attention_mask"].tolist() == [[1, 1, 1]]
        assert short["labels"].tolist() == [0]


def test_a_dataset_is_encoded_as_the_tokenizer_says(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "TOKENIZE_CHARACTERS", 5_000)
    rows = [*make_rows(700), ("", "good"), ("no label", None), ("x " * 6_000, "bad"), ("fine", "good")]
    write_dataset(tmp_path / "data", rows)
    tokenizer = train_tokenizer([text for text, _ in rows[:50]])
    with Progress(1, "test") as progress:
        encoded = encode_dataset(
            tmp_path / "data", tmp_path / "encoded", tokenizer, ["bad", "good"], 20, {"token_type_ids"}, progress
        )
    kept = [row for row in rows if row[1] is not None]
    assert len(encoded) == len(EncodedRows(tmp_path / "encoded")) == len(kept)
    for number, (text, label) in enumerate(kept):
        expected = tokenizer(text, truncation=True, max_length=20)["input_ids"]
        assert encoded.tokens(number).tolist() == expected
        assert encoded.token_types(number).tolist() == [0] * len(expected)
        assert ["bad", "good"][encoded.labels[number]] == label
    item = TrainingRows(encoded, Padding(0, 0, False), None, 0)[
        next(iter(GlobalBatches(encoded, 4, np.ones(2), 0, 0, 1)))[0]
    ]
    assert item["input_ids"].shape == item["token_type_ids"].shape and len(item["labels"]) == 4
