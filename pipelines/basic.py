"""The introductory pipeline: two components, one after the other."""

from kfp import dsl

from components import concat, reverse


@dsl.pipeline(name="basic", description="Joins two texts and reverses the result.")
def basic(first: str, second: str = "") -> str:
    """Joins two texts and reverses the result.

    Args:
        first: The text that comes first.
        second: The text that follows it.

    Returns:
        Both texts, joined and reversed.
    """
    joined = concat(first=first, second=second)
    return reverse(text=joined.output).output
