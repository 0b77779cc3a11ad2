"""What a Dataset is found to do against its schema."""

from dataclasses import asdict, dataclass, field
from typing import Any

from components.data.schema import AnomalyKind, Severity

EXAMPLES = 5


@dataclass(frozen=True)
class Example:
    """A row: its id, the value that is not as it should be, and its text, both shortened."""

    id: str
    value: str | None
    text: str


@dataclass(frozen=True)
class Anomaly:
    """What is not as the schema says.

    Attributes:
        column: The column; empty for what concerns all rows.
        kind: What is wrong.
        severity: `error` or `warning`.
        expected: What the schema says.
        found: What is there.
        rows: The rows concerned; 0 where it is no matter of single rows.
        share: Their share of all rows.
        examples: Up to `EXAMPLES` of them.
    """

    column: str
    kind: AnomalyKind
    severity: Severity
    expected: str
    found: str
    rows: int = 0
    share: float = 0.0
    examples: list[Example] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Returns it as it stands in the JSON file."""
        return asdict(self)

    def sentence(self) -> str:
        """Says it in a line."""
        place = f"{self.column}: " if self.column else ""
        return f"{place}{self.kind.replace('_', ' ')} (expected {self.expected}; found {self.found})"


def say_rows(rows: int, share: float) -> str:
    """Says how many rows there are, and their share of all."""
    return f"{rows:,} row{'s' * (rows != 1)} ({100 * share:.3g} %)"
