"""Turns a window of texts into token ids: each different text once, in one flat array."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.inference.engine.loading import LoadedModel

# The tokenizer holds some hundred bytes a token until a call returns, also of tokens that it cuts off.
TOKENIZE_ROWS, TOKENIZE_CHARACTERS = 4096, 1_000_000
# Languages with spaces have 3 to 6 characters a token. A prefix with fewer tokens than are read is given up.
CHARACTERS_PER_TOKEN = 10
# With these, words between spaces become tokens by themselves, and so a text may be cut between two of them.
_SPLIT_AT_SPACES = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit", "ByteLevel", "Metaspace"}
_SPLIT_FURTHER = {"Punctuation", "Digits"}


@dataclass
class Tokens:
    """The tokens of some texts, one after the other.

    Attributes:
        ids: All token ids, int32.
        types: All token types, int32; None where every one of them is 0.
        offsets: Where each text begins in `ids`, and the end: int64, one more than there are texts.
    """

    ids: np.ndarray
    types: np.ndarray | None
    offsets: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each text."""
        return np.diff(self.offsets)

    def take(self, order: np.ndarray) -> "Tokens":
        """Returns the texts in another order."""
        lengths = self.lengths[order]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(self.offsets[order] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Tokens(self.ids[places], None if self.types is None else self.types[places], offsets)

    def pad(self, start: int, stop: int, width: int, padding: "Padding", rows: int = 0) -> dict[str, np.ndarray]:
        """Returns some texts as the arrays that a model takes: int64, (texts or rows, width).

        Args:
            start: The first text.
            stop: The text behind the last one.
            width: At least the tokens of the longest of them.
            padding: What stands where a text has ended.
            rows: Where there are fewer texts, the last one stands in so many rows' rest. A row without any text would
                give no number, which a model may spread.
        """
        lengths = self.lengths[start:stop, None]
        columns = np.arange(width)
        mask = columns >= width - lengths if padding.left else columns < lengths
        here = slice(self.offsets[start], self.offsets[stop])
        arrays = {}
        for name in padding.inputs:
            if name == "attention_mask":
                arrays[name] = mask.astype(np.int64)
            elif name == "input_ids":
                arrays[name] = np.full(mask.shape, padding.token, dtype=np.int64)
                arrays[name][mask] = self.ids[here]
            else:
                arrays[name] = np.full(mask.shape, padding.token_type, dtype=np.int64)
                arrays[name][mask] = 0 if self.types is None else self.types[here]
        missing = rows - (stop - start)
        if missing > 0:
            return {name: np.pad(array, ((0, missing), (0, 0)), mode="edge") for name, array in arrays.items()}
        return arrays


@dataclass(frozen=True)
class Padding:
    """What stands where a text has ended.

    Attributes:
        inputs: The names of the arrays that the model takes.
        token: The token id.
        token_type: The token type.
        left: Whether it stands before the text.
    """

    inputs: tuple[str, ...]
    token: int
    token_type: int
    left: bool


class WindowTokenizer:
    """Tokenizes windows of texts as the model's tokenizer does, only faster.

    The tokenizer's own library answers in half of the time when it is asked for ids alone. Where that gives anything
    else than the tokenizer itself, as with those that are written in Python, the tokenizer itself is asked.
    """

    def __init__(self, loaded: LoadedModel):
        self._tokenizer, self._max_length = loaded.tokenizer, loaded.max_length
        self._backend = getattr(loaded.tokenizer, "backend_tokenizer", None)
        self._with_types = "token_type_ids" in loaded.inputs
        self.padding = Padding(
            tuple(loaded.inputs), loaded.tokenizer.pad_token_id, loaded.tokenizer.pad_token_type_id, loaded.pad_left
        )
        probe = [
            "",
            "A word, and another: ação 漢字 🙂 it's 1,234.5!",
            "  two  spaces\tand\nlines " * loaded.max_length,
        ]
        expected = self._ask_tokenizer(probe)
        # What truncates and pads, the call before has set: nobody else may ask this tokenizer from now on.
        self._fast = self._backend is not None and _same(self._ask_backend(probe), expected)
        self._with_types = self._with_types and any(types is not None and types.any() for _, types in expected)
        self._prefix = loaded.max_length * CHARACTERS_PER_TOKEN if self._fast and self._words_stand_alone() else 0

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Returns the tokens of texts, in their order."""
        ids: list[np.ndarray] = []
        types: list[np.ndarray] = []
        for part in _parts(texts):
            rows = self._ask_backend(part) if self._fast else self._ask_tokenizer(part)
            ids += [row for row, _ in rows]
            types += [row for _, row in rows if row is not None]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in ids], dtype=np.int64)])
        flat = np.concatenate(ids) if ids else np.empty(0, np.int32)
        return Tokens(flat, np.concatenate(types) if types else None, offsets)

    def _ask_tokenizer(self, texts: list[str]) -> "_Rows":
        encoded = self._tokenizer(texts, truncation=True, max_length=self._max_length, padding=False)
        types = encoded.get("token_type_ids") if self._with_types else None
        return [self._row(ids, types[number] if types else None) for number, ids in enumerate(encoded["input_ids"])]

    def _ask_backend(self, texts: list[str]) -> "_Rows":
        prefixes = [self._cut(text) for text in texts] if getattr(self, "_prefix", 0) else texts
        encodings = self._encode(prefixes)
        for number, encoding in enumerate(encodings):
            # A prefix that is not read to the end says all that the whole text does.
            if len(prefixes[number]) < len(texts[number]) and len(encoding.ids) < self._max_length:
                encodings[number] = self._encode([texts[number]])[0]
        return [self._row(each.ids, each.type_ids if self._with_types else None) for each in encodings]

    def _encode(self, texts: list[str]) -> list[Any]:
        assert self._backend is not None
        # Runs outside of Python's lock, on all CPUs.
        encodings: list[Any] = self._backend.encode_batch_fast(texts, add_special_tokens=True)
        return encodings

    def _row(self, ids: list[int], types: list[int] | None) -> "tuple[np.ndarray, np.ndarray | None]":
        # A tokenizer without special tokens makes nothing of "", which no model can read.
        if not ids:
            return np.array([self._tokenizer.pad_token_id], np.int32), np.zeros(1, np.int32) if types else None
        return np.array(ids, np.int32), np.array(types, np.int32) if types else None

    def _cut(self, text: str) -> str:
        if len(text) <= 2 * self._prefix:
            return text
        space = text.rfind(" ", self._prefix // 2, self._prefix)
        return text if space < 0 or text[space - 1].isspace() else text[:space]

    def _words_stand_alone(self) -> bool:
        assert self._backend is not None
        if self._tokenizer.truncation_side != "right":
            return False
        if any(" " in token.content.strip() for token in self._backend.get_added_tokens_decoder().values()):
            return False
        parts = (
            list(_flatten(json.loads(self._backend.pre_tokenizer.__getstate__())))
            if self._backend.pre_tokenizer
            else []
        )
        names = {part["type"] for part in parts}
        whole = any(part.get("use_regex") is False or part.get("split") is False for part in parts)
        return bool(names & _SPLIT_AT_SPACES) and names <= _SPLIT_AT_SPACES | _SPLIT_FURTHER and not whole


_Rows = list[tuple[np.ndarray, np.ndarray | None]]


def unique_texts(texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Returns the different texts in the order of their first appearance, and for each text which of them it is."""
    numbers: dict[str, int] = {}
    inverse = np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), np.int64, len(texts))
    return list(numbers), inverse


def _same(some: _Rows, others: _Rows) -> bool:
    def equal(one: np.ndarray | None, other: np.ndarray | None) -> bool:
        return np.array_equal([] if one is None else one, [] if other is None else other)

    return all(equal(a[0], b[0]) and equal(a[1], b[1]) for a, b in zip(some, others, strict=True))


def _flatten(pre_tokenizer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if pre_tokenizer["type"] != "Sequence":
        yield pre_tokenizer
    for part in pre_tokenizer.get("pretokenizers", []):
        yield from _flatten(part)


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    part: list[str] = []
    characters = 0
    for text in texts:
        if part and (len(part) == TOKENIZE_ROWS or characters + len(text) > TOKENIZE_CHARACTERS):
            yield part
            part, characters = [], 0
        part.append(text)
        characters += len(text)
    if part:
        yield part
