"""A comparison of two models: what was counted, what follows from it, and what was decided."""

import json
import math
from dataclasses import dataclass
from typing import Any

from components.evaluation.compare_models.decide import Rules, Verdict
from components.evaluation.compare_models.metrics import Gain
from components.evaluation.compare_models.pairs import Pairs
from components.evaluation.compare_models.resample import Certainty, mcnemar_p_value

VERSION = 1


@dataclass(frozen=True)
class Comparison:
    """A comparison with all that led to it.

    Attributes:
        rules: What the candidate had to satisfy.
        verdict: Whether it did, and why.
        pairs: The counted rows.
        gain: The two values; None without labelled rows. Without a champion, the champion's value means nothing.
        certainty: How sure the gain is; None when it was not asked for or there is nothing to compare.
        has_champion: Whether there is a champion.
    """

    rules: Rules
    verdict: Verdict
    pairs: Pairs
    gain: Gain | None
    certainty: Certainty | None
    has_champion: bool

    @property
    def champion(self) -> float | None:
        """The champion's value, if there is one and it is a number."""
        return _finite(self.gain.champion) if self.gain and self.has_champion else None

    @property
    def candidate(self) -> float | None:
        """The candidate's value, if it is a number."""
        return _finite(self.gain.candidate) if self.gain else None

    @property
    def difference(self) -> float | None:
        """By how much the candidate is better, if there are two numbers."""
        if self.gain is None or self.candidate is None or self.champion is None:
            return None
        return (self.candidate - self.champion) * (1 if self.gain.higher_is_better else -1)

    @property
    def metrics(self) -> dict[str, float]:
        """Finite numbers by name."""
        values: dict[str, float | None] = {
            "blessed": int(self.verdict.blessed),
            "rows": self.pairs.rows,
            "labelled_rows": self.pairs.labelled_rows,
            "minimum": self.rules.minimum,
            "minimum_gain": self.rules.minimum_gain,
            "confidence": self.rules.confidence,
            "candidate": self.candidate,
            "champion": self.champion,
            "gain": self.difference,
        }
        if self.certainty:
            values |= {"gain_low": self.certainty.low, "gain_high": self.certainty.high}
            values["swap_p_value"] = self.certainty.p_value
        if self.has_champion and self.gain:
            values["mcnemar_p_value"] = mcnemar_p_value(self.pairs)
        return {name: value for name, value in values.items() if value is not None}

    def to_json(self, time: str) -> str:
        """Returns the decision (version 1) as JSON.

        Args:
            time: When it was made, RFC 3339 in UTC.
        """
        content: dict[str, Any] = {
            "version": VERSION,
            "blessed": self.verdict.blessed,
            "reason": self.verdict.reason,
            "metric": self.rules.metric,
            "candidate": self.candidate,
            "champion": self.champion,
            "gain": self.difference,
            "interval": [self.certainty.low, self.certainty.high] if self.certainty else None,
            "confidence": self.rules.confidence,
            "minimum": self.rules.minimum,
            "minimum_gain": self.rules.minimum_gain,
            "rows": self.pairs.rows,
            "labelled_rows": self.pairs.labelled_rows,
            "time": time,
        }
        return json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
