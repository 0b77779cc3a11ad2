"""Decides whether a candidate takes the champion's place, and says why in one sentence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.errors import InputError
from components.evaluation.compare_models.metrics import LOG_LOSS, Gain, check_metric
from components.evaluation.compare_models.pairs import Pairs
from components.evaluation.compare_models.resample import Certainty
from components.reports import unique_names

# What a sum of floating-point numbers can be off by, so that 0.92 - 0.90 is not more than 0.02.
ROUNDING = 1e-9
# A tail of fewer resamples than this is no estimate.
TAIL_RESAMPLES = 5
NAMED_LABELS = 3


@dataclass(frozen=True)
class Rules:
    """What a candidate has to satisfy.

    Attributes:
        metric: What is compared.
        minimum: The worst value that a candidate may have: the lowest, or for the log loss the highest; 0 for any.
        minimum_gain: The gain has to be more than this.
        confidence: The level of the interval whose lower bound has to be more than `minimum_gain`; 0 asks for none.
        resamples: How many resamples the interval comes from.

    Raises:
        InputError: A value is out of range.
    """

    metric: str = "macro_f1"
    minimum: float = 0.0
    minimum_gain: float = 0.0
    confidence: float = 0.95
    resamples: int = 2000

    def __post_init__(self) -> None:
        check_metric(self.metric)
        highest = math.inf if self.metric == LOG_LOSS else 1.0
        for name, value in (("minimum", self.minimum), ("minimum_gain", self.minimum_gain)):
            if not (math.isfinite(value) and 0 <= value <= highest):
                bounds = "0 or more" if highest > 1 else "from 0 to 1"
                raise InputError(f"{name} is {value}.", f"Give a {self.metric} {bounds}.")
        if not 0 <= self.confidence < 1:
            raise InputError(f"confidence is {self.confidence}.", "Give a level such as 0.95, or 0 for no interval.")
        if self.confidence and self.resamples * (1 - self.confidence) / 2 < TAIL_RESAMPLES:
            needed = math.ceil(2 * TAIL_RESAMPLES / (1 - self.confidence))
            raise InputError(
                f"{self.resamples:,} resamples are too few for a confidence of {self.confidence}.",
                f"Give {needed:,} resamples or more, or a lower confidence.",
            )


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate takes the champion's place.

    Attributes:
        blessed: Whether it does.
        reason: One sentence with the numbers that decided.
    """

    blessed: bool
    reason: str


def decide(
    rules: Rules, labelled_rows: int, gain: Gain | None, certainty: Certainty | None, champion: bool, remark: str = ""
) -> Verdict:
    """Applies the rules in order; the first that is not met is the reason.

    Args:
        rules: The rules.
        labelled_rows: Rows that the models were compared on.
        gain: The two values; None without labelled rows.
        certainty: How sure the gain is; None when no interval is asked for, or there is no champion.
        champion: Whether there is a champion.
        remark: What else belongs into the reason, without a full stop.
    """
    tail = f" ({labelled_rows:,} rows{remark})."
    if gain is None:
        return Verdict(False, "Not blessed: no row has a label, so nothing says how good the candidate is.")
    metric, ours, theirs = rules.metric, gain.candidate, gain.champion
    sign = 1 if gain.higher_is_better else -1
    if math.isnan(ours):
        return _refuse(f"the candidate's {metric} is not a number, because rows lack probabilities", tail)
    if rules.minimum and sign * (ours - rules.minimum) < -ROUNDING:
        bound = "less than the minimum" if gain.higher_is_better else "more than the most that is allowed,"
        return _refuse(f"the candidate's {metric} {ours:.4g} is {bound} {rules.minimum:.4g}", tail)
    if not champion:
        asked = f", which satisfies the bound of {rules.minimum:.4g}" if rules.minimum else ""
        return _bless(f"there is no champion yet, and the candidate's {metric} is {ours:.4g}{asked}", tail)
    if math.isnan(theirs):
        return _refuse(
            f"the champion's {metric} is not a number, because rows lack probabilities, so nothing shows that the"
            f" candidate's {ours:.4g} is better; compare by another metric",
            tail,
        )
    values = f"{metric} {ours:.4g} against the champion's {theirs:.4g}"
    return _compare(rules, sign * (ours - theirs), values, certainty, tail)


def _compare(rules: Rules, gain: float, values: str, certainty: Certainty | None, tail: str) -> Verdict:
    if abs(gain) <= ROUNDING:
        return _refuse(f"{values} is a tie, and the champion stays", tail)
    if gain < 0:
        return _refuse(f"{values} is worse by {-gain:.4g}", tail)
    values += f" is a gain of {gain:.4g}"
    asked = f"the {rules.minimum_gain:.4g} asked for" if rules.minimum_gain else "0"
    if gain <= rules.minimum_gain + ROUNDING:
        return _refuse(f"{values}, not more than {asked}", tail)
    if certainty is None:
        return _bless(f"{values}; no interval was asked for", tail)
    level = f"{rules.confidence * 100:.4g}% interval"
    values += f" with a {level} from {certainty.low:.4g} to {certainty.high:.4g}"
    if certainty.low <= rules.minimum_gain + ROUNDING:
        return _refuse(f"{values}, whose lower end is not above {asked}", tail)
    # Where only a few rows tell the models apart the interval is too narrow; this test is right for any number of them.
    if certainty.p_value > (1 - rules.confidence) / 2:
        chance = f"two equally good models differ as much by chance with probability {certainty.p_value:.2g}"
        return _refuse(f"{values}, but {chance}", tail)
    return _bless(f"{values}, all of it above {asked}", tail)


def _bless(because: str, tail: str) -> Verdict:
    return Verdict(True, f"Blessed: {because}{tail}")


def _refuse(because: str, tail: str) -> Verdict:
    return Verdict(False, f"Not blessed: {because}{tail}")


def describe_unknown_labels(pairs: Pairs, models: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Says which labels of the rows a model does not know, to go into the reason; "" when there are none.

    Args:
        pairs: The counted rows.
        models: The name of each model and its labels, which are empty when they are not known.
    """
    said = ""
    for name, known in models:
        unknown = [place for place, label in enumerate(pairs.labels) if known and label not in known]
        if unknown:
            rows = int(pairs.counts[np.isin(pairs.cells[:, 0], unknown)].sum())
            named = unique_names([pairs.labels[place] for place in unknown[:NAMED_LABELS]])
            labels = ", ".join(f"“{label}”" for label in named)
            labels += f" and {len(unknown) - NAMED_LABELS:,} more" * (len(unknown) > NAMED_LABELS)
            said += f"; {rows:,} with {labels}, which the {name} does not know, count as wrong for it"
    return said
