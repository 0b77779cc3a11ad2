"""What the tests of training share; it imports torch only where that is used."""

import pytest

from components.models import write_absent
from tests.components.training.corpus import build_base, make_rows, write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with the Datasets train and validation, the classifier base of other labels, and the absent Model."""
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder / "train", make_rows(81, seed=1))
    write_dataset(folder / "validation", make_rows(40, seed=2))
    build_base(folder / "base")
    write_absent(folder / "absent", "")
    return folder


@pytest.fixture
def one_thread(monkeypatch):
    """Models this small gain nothing from a second thread, which waits for a core where tests run side by side."""
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
