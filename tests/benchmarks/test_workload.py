"""The texts of the benchmarks have the lengths that the tables state."""

import numpy as np
import pytest

from benchmarks.workload import Language, build_model, build_tokenizer, spread_labels
from components.inference.engine import TextClassifier


@pytest.mark.parametrize(
    ("texts", "median", "longest_share"), [("short", 24, 0.0), ("long", 124, 0.05)], ids=["short", "long"]
)
def test_texts_of_any_seed_have_the_stated_lengths(texts: str, median: int, longest_share: float) -> None:
    tokenizer = build_tokenizer(Language())
    for seed in (1, 2):
        made = getattr(Language(seed), texts)(600)
        lengths = np.array([len(ids) for ids in tokenizer(made, verbose=False)["input_ids"]])
        assert abs(np.median(lengths) / median - 1) < 0.1
        assert abs((lengths > 512).mean() - longest_share) < 0.03
        assert len(set(made)) == len(made)


def test_a_model_of_random_weights_gives_different_labels(tmp_path):
    """Else all ways of computing it would agree, whatever they compute."""
    model = build_model(tmp_path / "model", "MiniLM", Language())
    spread_labels(model)
    answers = TextClassifier(model, backend="torch").classify(Language(1).short(100))
    counts = np.bincount(answers.argmax(axis=1), minlength=5)
    assert counts.max() < 60
    assert (counts > 0).sum() >= 4
