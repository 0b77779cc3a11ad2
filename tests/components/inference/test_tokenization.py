import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from components.inference.engine.batching import BatchLimits
from components.inference.engine.loading import load_model
from components.inference.engine.tokenization import WindowTokenizer
from components.inference.engine.windows import make_window
from tests.components.inference.test_classify_text import LABELS, make_texts
from tests.tiny_model import build_tiny_model

PIECES = st.sampled_from([*"thevoicx ,.\n\tçã漢字🙂´", *("the ", "invoice ", "charged ", "  ", " , ")])
TEXTS = st.lists(PIECES, max_size=150).map("".join)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("tokens") / "model", LABELS, make_texts(100))


@pytest.fixture(scope="module")
def loaded(model):
    return load_model(model, max_length=24)


@pytest.fixture(scope="module")
def fast(loaded):
    tokenizer = WindowTokenizer(loaded)
    assert tokenizer._fast and tokenizer._prefix
    return tokenizer


@pytest.fixture(scope="module")
def plain(model):
    return AutoTokenizer.from_pretrained(model)


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.builds(lambda text, times: text * times, TEXTS, st.integers(1, 8)), min_size=1, max_size=5))
def test_tokens_are_those_of_the_tokenizer_also_of_texts_that_are_cut(fast, plain, texts):
    tokens = fast.tokenize(texts)
    expected = plain(texts, truncation=True, max_length=24)["input_ids"]
    found = [tokens.ids[start:stop].tolist() for start, stop in zip(tokens.offsets, tokens.offsets[1:], strict=False)]
    assert found == expected
    assert tokens.types is None


def test_a_long_text_is_cut_before_it_is_tokenized(fast):
    seen = []
    encode, fast._encode = fast._encode, lambda texts: seen.extend(map(len, texts)) or encode(texts)
    try:
        fast.tokenize(["the invoice " * 10_000, "the", "x" * 5_000, " " * 5_000 + "the"])
    finally:
        fast._encode = encode
    # A text that is one word cannot be cut, and of the last one the first part holds no word.
    assert max(seen[0], seen[1]) < 500 and seen[2] == 5_000 and max(seen[3:]) == 5_003


@pytest.mark.parametrize(
    "splitter",
    [
        None,
        pre_tokenizers.Punctuation(),
        pre_tokenizers.ByteLevel(use_regex=False),
        pre_tokenizers.Metaspace(split=False),
    ],
)
def test_where_words_do_not_stand_alone_nothing_is_cut(model, splitter):
    loaded = load_model(model, max_length=24)
    loaded.tokenizer.backend_tokenizer.pre_tokenizer = splitter
    assert WindowTokenizer(loaded)._prefix == 0


def test_a_tokenizer_of_its_own_is_asked_itself(model, plain):
    loaded = load_model(model, max_length=24)

    class Other:
        """Answers otherwise than its backend, as tokenizers with rules in Python do."""

        def __init__(self, tokenizer):
            self._tokenizer = tokenizer

        def __getattr__(self, name):
            return getattr(self._tokenizer, name)

        def __call__(self, texts, **options):
            return self._tokenizer([text.replace("printer", "invoice") for text in texts], **options)

    loaded.tokenizer = Other(loaded.tokenizer)
    tokenizer = WindowTokenizer(loaded)
    # The probes hold no printer: what differs is found only where they do, so the tokenizer is asked once more.
    assert tokenizer._fast
    loaded.tokenizer.__class__.__call__ = lambda self, texts, **options: plain(
        [f"a {text}" for text in texts], **options
    )
    tokenizer = WindowTokenizer(loaded)
    assert not tokenizer._fast
    assert tokenizer.tokenize(["the"]).ids.tolist() == plain(["a the"])["input_ids"][0]


@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 512), max_size=200),
    tokens=st.integers(1, 5000),
    rows=st.integers(0, 20),
    step=st.integers(1, 16),
    widths=st.sampled_from([(), (16, 64, 512)]),
)
def test_batches_hold_every_text_once_and_keep_to_their_limits(lengths, tokens, rows, step, widths):
    lengths = np.sort(np.array(lengths, dtype=np.int64))[::-1]
    limits = BatchLimits(tokens, rows, step, longest=512, widths=widths)
    batches = limits.cut(lengths)
    assert [row for batch in batches for row in range(batch.start, batch.stop)] == list(range(len(lengths)))
    for batch in batches:
        assert batch.width >= lengths[batch.start] and (batch.rows == 1 or batch.size <= tokens)
        assert not rows or batch.rows <= rows
        filled = limits.filled(batch)
        assert batch.rows <= filled <= 1.25 * batch.rows and filled <= limits.rows_of(batch.width)
        assert batch.width in widths if widths else batch.width % step == 0 or batch.width == 512


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(st.sampled_from(["", "the", "the invoice", "thanks for help", "a " * 60]), min_size=1, max_size=30)
)
def test_a_window_gives_each_text_its_own_answer(fast, texts):
    window = make_window(texts, fast)
    assert (np.diff(window.tokens.lengths) <= 0).all() and window.counts.sum() == len(texts)
    limits = BatchLimits(64)
    for batch in limits.cut(window.tokens.lengths):
        rows = limits.filled(batch)
        arrays = window.tokens.pad(batch.start, batch.stop, batch.width, fast.padding, rows)
        assert {array.shape for array in arrays.values()} == {(rows, batch.width)}
        # An answer that tells texts apart: the sum of the ids, without padding.
        window.take(batch, (arrays["input_ids"] * arrays["attention_mask"]).sum(axis=1, keepdims=True))
    expected = [fast.tokenize([text]).ids.sum() for text in texts]
    np.testing.assert_array_equal(window.in_order()[:, 0], expected)
    assert window.left == 0
