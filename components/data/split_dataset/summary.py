"""What there is to say about a split: numbers, and warnings for who trains on it."""

from dataclasses import dataclass

import numpy as np

from components.data.split_dataset.assign import SPLITS
from components.data.split_dataset.balance import MOST_LABELS, Balance
from components.data.split_dataset.leakage import Leakage
from components.datasets import ID, TEXT
from components.reports import unique_names

# A share this far from the one asked for is worth a sentence; rarer than this, label shares differ by chance.
SHARE_TOLERANCE = 0.02
UNLIKELY = 0.001
NAMED_LABELS = 10


@dataclass(frozen=True)
class Summary:
    """A split in numbers; lists and arrays follow the order of `SPLITS`.

    Attributes:
        shares: The share asked for, by the split's name.
        split_by: `text`, `id` or a column.
        rows: Rows per split.
        left_out: Rows that are in no split, because labels were required and they have none.
        without_group: Rows without a group, which went by their text.
        keys: Different normalized texts, ids or groups.
        largest_key_rows: Rows of the key that has the most.
        labels: Every label, sorted; empty when there are too many.
        table: Labelled rows of shape (labels, splits).
        too_many_labels: Whether labels were not counted, because there are more than `MOST_LABELS`.
        unlabelled: Rows without a label.
        balance: How alike the splits' labels are; None without labelled rows.
        leaks: Texts on two sides; empty when the split is by text.
    """

    shares: dict[str, float]
    split_by: str
    rows: list[int]
    left_out: int
    without_group: int
    keys: int
    largest_key_rows: int
    labels: list[str]
    table: np.ndarray
    too_many_labels: bool
    unlabelled: np.ndarray
    balance: Balance | None
    leaks: list[Leakage]

    @property
    def headline(self) -> str:
        """One sentence with the size of each split."""
        sizes = ", ".join(f"{name} {rows:,}" for name, rows in zip(SPLITS, self.rows, strict=True))
        return f"{sum(self.rows):,} rows split by {self.split_by}: {sizes}."

    def labels_of(self, split: int) -> list[str]:
        """Returns the labels that occur in a split, sorted as text."""
        return [name for name, rows in zip(self.labels, self.table[:, split], strict=True) if rows]

    @property
    def metrics(self) -> dict[str, float]:
        """Finite numbers by name."""
        metrics: dict[str, float] = {"rows": sum(self.rows)}
        for place, name in enumerate(SPLITS):
            metrics[f"{name}_rows"] = self.rows[place]
            metrics[f"{name}_unlabelled_rows"] = int(self.unlabelled[place])
        metrics |= {"left_out_rows": self.left_out, "keys": self.keys, "largest_key_rows": self.largest_key_rows}
        leaked = {f"{leak.split}_in_{leak.other}": leak.rows for leak in self.leaks}
        for pair in ("validation_in_train", "test_in_train", "test_in_validation"):
            metrics[f"leaked_{pair}"] = leaked.get(pair, 0)
        if self.balance:
            metrics |= {f"label_distance_{name}": value for name, value in self.balance.distances.items()}
            metrics["largest_label_deviation"] = self.balance.deviation
            metrics["label_chi_square"] = self.balance.chi_square
            metrics["label_p_value"] = self.balance.p_value
        return metrics

    @property
    def warnings(self) -> list[str]:
        """What a person has to know before training, a sentence each."""
        return [*self._about_rows(), *self._about_labels(), *self._about_leaks()]

    def _about_rows(self) -> list[str]:
        said = []
        if self.left_out:
            said.append(f"{self.left_out:,} rows have no label and are in no split.")
        total = sum(self.rows)
        for name, rows in zip(SPLITS, self.rows, strict=True):
            asked = self.shares[name]
            if asked and not rows:
                said.append(f"{name} is empty, although {asked:.3g} of the rows were asked for.")
            elif asked and abs(rows / total - asked) > SHARE_TOLERANCE:
                why = f"hashes divide so few {self.key_name} unevenly"
                if self.keys < total:
                    why = f"the {self.keys:,} different {self.key_name} are divided, not the rows, and one of them has"
                    why += f" {self.largest_key_rows:,} rows"
                said.append(f"{name} has {rows / total:.3f} of the rows instead of {asked:.3f}: {why}.")
        if self.without_group:
            said.append(f"{self.without_group:,} rows have no {self.split_by}; they were split by their text.")
        return said

    def _about_labels(self) -> list[str]:
        if self.too_many_labels:
            return [f"There are more than {MOST_LABELS:,} labels, so they were not counted. Is it the right column?"]
        said = []
        without = int(self.unlabelled.sum())
        if without:
            said.append(f"{without:,} rows have no label; require_labels leaves them out.")
        for place, name in enumerate(SPLITS):
            column = self.table[:, place]
            missing = [label for label, rows in zip(self.labels, column, strict=True) if not rows]
            if self.rows[place] and missing:
                outcome = "a model cannot learn them" if name == "train" else "nothing there says how well they do"
                several = "labels have" if len(missing) > 1 else "label has"
                said.append(f"{len(missing):,} {several} no row in {name}, so {outcome}: {_list(missing)}.")
        if self.balance and self.balance.p_value < UNLIKELY:
            said.append(
                f"The splits' labels differ by more than chance (p {self.balance.p_value:.1g}); the most, by"
                f" {self.balance.deviation:.3f}, the share of {_list([self.balance.deviating_label])}"
                f" in {self.balance.deviating_split}."
            )
        return said

    def _about_leaks(self) -> list[str]:
        return [
            f"{leak.rows:,} rows of {leak.split} ({leak.rows / self.rows[SPLITS.index(leak.split)]:.1%}) have the same"
            f" text as a row of {leak.other}; split by text, or remove them."
            for leak in self.leaks
            if leak.rows
        ]

    @property
    def key_name(self) -> str:
        """What the hash is of, in the plural."""
        return {TEXT: "texts", ID: "ids"}.get(self.split_by, f"values of {self.split_by}")


def _list(labels: list[str]) -> str:
    named = ", ".join(f"“{name}”" for name in unique_names(labels[:NAMED_LABELS]))
    return named + (f" and {len(labels) - NAMED_LABELS:,} more" if len(labels) > NAMED_LABELS else "")
