from functools import partial

import numpy as np
import pytest

from components.datasets import part_files
from components.errors import InputError
from components.inference.classify_text.classify import classify
from components.inference.devices import DevicePool
from components.inference.engine import TextClassifier, windows
from tests.components.inference.test_classify_text import LABELS, make_texts, write_dataset
from tests.tiny_model import build_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("devices") / "model", LABELS, make_texts(100))


def test_two_processes_write_the_same_bytes_as_one(tmp_path, model, monkeypatch):
    monkeypatch.setattr(windows, "WINDOW_ROWS", 20)
    dataset = write_dataset(tmp_path / "dataset", make_texts(500, longest=60))
    alone = classify(dataset, model, tmp_path / "alone", include_probabilities=True)
    both = classify(dataset, model, tmp_path / "both", include_probabilities=True, device="cpu,cpu")
    assert [part.read_bytes() for part in part_files(tmp_path / "both")] == [
        part.read_bytes() for part in part_files(tmp_path / "alone")
    ]
    assert (both["devices"], both["rows"], both["labels"], both["digest"]) == (2, 500, LABELS, alone["digest"])
    assert both["tokens"] == alone["tokens"] and both["repeated_rows"] == alone["repeated_rows"]


def test_an_error_of_an_engine_is_the_pools(model):
    with pytest.raises(InputError, match="max_length is 2"):
        DevicePool(partial(TextClassifier, model, max_length=2), ["cpu"])


def test_what_fails_while_reading_is_raised_and_a_dead_process_is_noticed(model):
    def broken():
        yield make_texts(3)
        raise OSError("the disk is gone")

    pool = DevicePool(partial(TextClassifier, model, backend="torch"), ["cpu"])
    try:
        with pytest.raises(OSError, match="the disk is gone"):
            list(pool.stream(broken()))
        pool._processes[0].kill()
        with pytest.raises(RuntimeError, match="process ended with code -9"):
            list(pool.stream(iter([make_texts(3)] * 50)))
    finally:
        pool.close()


def test_no_rows_give_no_answers(model):
    pool = DevicePool(partial(TextClassifier, model, backend="torch"), ["cpu", "cpu"])
    try:
        assert list(pool.stream(iter([]))) == []
        assert pool.facts()["labels"] == LABELS and np.isclose(pool.usage.padding_share, 0)
    finally:
        pool.close()
