"""Splits texts into words without a model, and counts them in bounded memory."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.data.hashing import hash_keys
from components.data.statistics import Overlap, Statistics, VocabularyStatistics, WordSample

MOST_WORDS = 500_000
SAMPLE_WORDS = 32_768
FREQUENT_WORDS = 40
WORD_CHARACTERS = 64
# Scripts that put no space between words: each of their characters counts as a word.
_UNSPACED = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"
_BETWEEN_WORDS = r"[^\p{L}\p{N}\p{M}]+"


def split_words(texts: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Splits texts into words.

    A word is a run of letters, digits and the marks on them, in lower case and in Unicode's NFKC form, cut to
    `WORD_CHARACTERS`. In scripts without spaces (Han, Kana, Thai, Lao, Khmer, Myanmar) every character is a word.

    Returns:
        All words in order, and how many each text has: integers of shape (texts,).
    """
    texts = pc.utf8_lower(pc.utf8_normalize(texts, form="NFKC"))
    if pc.any(pc.match_substring_regex(texts, pattern=_UNSPACED)).as_py():
        texts = pc.replace_substring_regex(texts, pattern=_UNSPACED, replacement=r" \1 ")
    lists = pc.split_pattern_regex(texts, pattern=_BETWEEN_WORDS)
    pieces = lists.flatten()
    filled = pc.not_equal(pieces, "")
    ends = np.cumsum(np.concatenate([[0], filled.to_numpy(zero_copy_only=False)]))
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    counts = ends[offsets[1:]] - ends[offsets[:-1]]
    return pc.utf8_slice_codeunits(pieces.filter(filled), 0, WORD_CHARACTERS), counts


class Vocabulary:
    """Counts words; of more than `most` different ones it keeps a sample.

    A word is kept or not by its hash alone, from its first occurrence on: counts are exact, a sample does not depend on
    the order of the texts, and samples of two datasets hold the same words.

    Args:
        most: The most words that are kept.
    """

    def __init__(self, most: int = MOST_WORDS):
        self.occurrences = 0
        self._most = most
        self._level = 0
        self._words: dict[str, int] = {}

    def add(self, words: pa.Array) -> None:
        """Takes the words of the next texts."""
        self.occurrences += len(words)
        counted = pc.value_counts(words)
        values, counts = counted.field(0).to_pylist(), counted.field(1).to_pylist()
        batch = dict(zip(values, counts, strict=True))
        for word, count in thin(batch, 0, self._level).items():
            self._words[word] = self._words.get(word, 0) + count
        while len(self._words) > self._most:
            self._words = thin(self._words, self._level, self._level + 1)
            self._level += 1

    def statistics(self) -> VocabularyStatistics:
        """Returns what the words are like."""
        return VocabularyStatistics(
            occurrences=self.occurrences,
            distinct=len(self._words) << self._level,
            distinct_exact=self._level == 0,
            most_frequent=most_frequent(self._words),
            sample=self._sample(),
        )

    def _sample(self) -> WordSample:
        words, level = self._words, self._level
        while len(words) > SAMPLE_WORDS:
            words = thin(words, level, level + 1)
            level += 1
        return WordSample(level=level, words=dict(sorted(words.items(), key=_by_frequency)))


def compare(vocabulary: VocabularyStatistics, reference: Statistics) -> Overlap:
    """Compares words with those of a reference, on the words that both samples could hold."""
    own, other = vocabulary.sample, reference.vocabulary.sample
    level = max(own.level, other.level)
    words, known = thin(own.words, own.level, level), thin(other.words, other.level, level)
    shared = {word: count for word, count in words.items() if word in known}
    return Overlap(
        reference_rows=reference.rows,
        reference_digest=reference.digest,
        known_words=_share(len(shared), len(words)),
        known_occurrences=_share(sum(shared.values()), sum(words.values())),
        found_words=_share(len(shared), len(known)),
        exact=level == 0,
        most_frequent_new=most_frequent({word: count for word, count in words.items() if word not in known}),
    )


def thin(words: dict[str, int], level: int, wanted: int) -> dict[str, int]:
    """Keeps the words of a sample at `level` that a sample at the level `wanted`, as high or higher, has."""
    if wanted <= level or not words:
        return words
    kept = hash_keys(words, seed=0) < np.uint64(2 ** (64 - wanted))
    return {word: count for (word, count), keep in zip(words.items(), kept.tolist(), strict=True) if keep}


def most_frequent(words: dict[str, int]) -> list[tuple[str, int]]:
    """Returns the most frequent words, with their occurrences."""
    return sorted(words.items(), key=_by_frequency)[:FREQUENT_WORDS]


def _by_frequency(entry: tuple[str, int]) -> tuple[int, str]:
    return -entry[1], entry[0]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
