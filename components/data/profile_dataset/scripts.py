"""Tells in which writing systems texts are, by the Unicode property Script of their letters."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.data.statistics import Scripts

NONE, OTHER = "none", "Other"
SCRIPTS = tuple(
    """
    Latin Cyrillic Han Hiragana Katakana Hangul Arabic Hebrew Greek Devanagari Bengali Tamil Telugu Gujarati Gurmukhi
    Kannada Malayalam Oriya Sinhala Thai Lao Khmer Myanmar Tibetan Georgian Armenian Ethiopic Mongolian Cherokee
    Bopomofo Syriac Thaana Javanese Balinese Sundanese Tifinagh Nko Yi Adlam
    """.split()  # noqa: SIM905
)
_NAMES = [NONE, *SCRIPTS, OTHER]
_UNSEEN = 255


class ScriptCounts:
    """Counts letters by script, and rows by the script of most of their letters."""

    def __init__(self) -> None:
        self._letters = np.zeros(len(_NAMES), np.int64)
        self._rows = np.zeros(len(_NAMES), np.int64)
        # The script of each of Unicode's code points, looked up when a text first has it.
        self._scripts = np.full(0x110000, _UNSEEN, np.uint8)

    def add(self, texts: pa.Array, lengths: np.ndarray) -> None:
        """Takes the next texts and their lengths in characters."""
        joined = "".join(texts.to_pylist())
        codes = np.frombuffer(joined.encode("utf-32-le"), dtype="<u4")
        scripts = self._scripts[codes]
        if (scripts == _UNSEEN).any():
            self._look_up(np.unique(codes[scripts == _UNSEEN]))
            scripts = self._scripts[codes]
        cells = np.repeat(np.arange(len(texts)) * len(_NAMES), lengths) + scripts
        counts = np.bincount(cells, minlength=len(texts) * len(_NAMES)).reshape(len(texts), len(_NAMES))
        counts[:, 0] = 0  # what is no letter
        self._letters += counts.sum(axis=0)
        self._rows += np.bincount(counts.argmax(axis=1), minlength=len(_NAMES))

    def statistics(self) -> Scripts:
        """Returns what occurs, the most frequent first."""
        return Scripts(letters=_named(self._letters), rows=_named(self._rows))

    def _look_up(self, codes: np.ndarray) -> None:
        characters = pa.array([chr(code) for code in codes.tolist()], pa.string())
        letters = pc.match_substring_regex(characters, pattern=r"\p{L}").to_numpy(zero_copy_only=False)
        found = np.where(letters, _NAMES.index(OTHER), 0)
        for number, name in enumerate(SCRIPTS, 1):
            of_script = pc.match_substring_regex(characters, pattern=rf"\p{{{name}}}").to_numpy(zero_copy_only=False)
            found[letters & of_script] = number
        self._scripts[codes] = found


def _named(counts: np.ndarray) -> dict[str, int]:
    order = np.argsort(-counts, kind="stable")
    return {_NAMES[number]: int(counts[number]) for number in order if counts[number]}
