"""The texts of the benchmarks have the lengths that the tables state."""

import numpy as np
import pytest

from benchmarks.workload import Language, build_tokenizer


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
