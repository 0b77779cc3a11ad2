"""Looks at the labels of the training and the validation rows before anything is trained."""

from collections import Counter
from collections.abc import Sequence

from components.errors import InputError

# What compare_models can tell apart; a label column that holds free text has as many labels as rows.
MOST_LABELS = 10_000


def check_labels(counts: Counter[str], validation_counts: Counter[str]) -> list[str]:
    """Checks that there is something to tell apart.

    Returns:
        What a reader should know of the labels, a sentence each.

    Raises:
        InputError: All training rows have the same label, or there are too many labels to be classes.
    """
    if len(counts | validation_counts) > MOST_LABELS:
        raise InputError(
            f"There are more than {MOST_LABELS:,} labels, in {counts.total():,} training rows.",
            "Check that label_column is the right one.",
        )
    if len(counts) < 2:
        raise InputError(
            f"All training rows have the label {next(iter(counts))!r}: there is nothing to tell apart.",
            "Give rows of two or more labels, and check label_column.",
        )
    unseen = sorted(set(validation_counts) - set(counts))
    if not unseen:
        return []
    names = ", ".join(map(repr, unseen[:5])) + (", ..." if len(unseen) > 5 else "")
    rows = sum(validation_counts[label] for label in unseen)
    return [f"no training row has the label {names}, so the {rows} validation rows that have it cannot be got right"]


def class_weights(counts: Counter[str], labels: Sequence[str], kind: str) -> list[float]:
    """Returns what a row of each class counts: 1, or by `balanced` what gives every class of the data the same sum."""
    if kind == "none":
        return [1.0] * len(labels)
    return [counts.total() / (len(counts) * counts[label]) if counts[label] else 0.0 for label in labels]
