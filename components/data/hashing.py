"""Hashes of texts, by which rows are split and duplicates are found: what reads the same is one text."""

import hashlib
import unicodedata
from collections.abc import Iterable

import numpy as np


def normalize_text(text: str) -> str:
    """Brings texts that a reader takes for the same to one form.

    Returns:
        The text in Unicode's NFKC form with case folded, and with every run of white space as one space. Accents and
        punctuation stay.
    """
    if not text.isascii():
        # Folding case can undo the composition, as it does for a Greek iota below a vowel.
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.casefold().split())


def hash_keys(keys: Iterable[str], seed: int) -> np.ndarray:
    """Hashes keys to 64 bits, evenly, and the same on every machine for ever.

    Args:
        keys: The keys.
        seed: Another seed gives hashes that have nothing to do with those of this one.

    Returns:
        Unsigned integers of shape (keys,).
    """
    salt = str(seed).encode()
    digests = [hashlib.blake2b(key.encode(), digest_size=8, key=salt).digest() for key in keys]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
