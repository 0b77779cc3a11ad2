"""Joins two texts."""


def concat(first: str, second: str) -> str:
    """Returns the first text followed by the second."""
    return first + second
