"""Reverses a text as a reader sees it."""

import unicodedata


def reverse(text: str) -> str:
    r"""Returns the text backwards, with each accent still on its letter.

    A character and the combining marks that follow it stay together, so that `"e\u0301a"` becomes `"ae\u0301"`.
    """
    clusters: list[str] = []
    for character in text:
        if clusters and unicodedata.combining(character):
            clusters[-1] += character
        else:
            clusters.append(character)
    return "".join(reversed(clusters))
