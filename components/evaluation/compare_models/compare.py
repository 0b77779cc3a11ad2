"""Compares a candidate with the champion on the same rows, and decides whether it takes its place."""

import math
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from components.datasets import count_rows
from components.evaluation.compare_models.comparison import Comparison
from components.evaluation.compare_models.decide import Rules, decide, describe_unknown_labels
from components.evaluation.compare_models.metrics import LOG_LOSS, measure_gain
from components.evaluation.compare_models.pairs import Predictions, count_pairs
from components.evaluation.compare_models.report import render_report
from components.evaluation.compare_models.resample import measure_certainty
from components.storage import filesystem, write_texts

DECISION = "decision.json"


def compare(
    candidate: str | Path,
    champion: str | Path,
    rules: Rules,
    seed: int = 0,
    candidate_labels: Sequence[str] = (),
    champion_labels: Sequence[str] = (),
    champion_absent: bool = False,
) -> Comparison:
    """Compares two models' predictions of the same rows.

    Args:
        candidate: The folder of the candidate's predictions.
        champion: The folder of the champion's.
        rules: What the candidate has to satisfy.
        seed: The same seed gives the same decision.
        candidate_labels: The candidate's labels in the order of `probabilities`; empty when they are not known.
        champion_labels: The champion's.
        champion_absent: Whether the champion's predictions stand for a champion that does not exist yet; they must
            then have no rows, and the candidate is not compared.

    Raises:
        InputError: The two are not predictions of the same rows, or lack what the metric needs.
    """
    ours = Predictions(candidate, candidate_labels, "candidate")
    has_champion = not (champion_absent and count_rows(champion) == 0)
    # Read beside itself, a candidate without a champion needs no code of its own; its gain of 0 is never looked at.
    theirs = Predictions(champion, champion_labels, "champion") if has_champion else ours
    pairs = count_pairs(ours, theirs, with_losses=rules.metric == LOG_LOSS)
    gain = measure_gain(pairs, rules.metric) if pairs.labelled_rows else None
    certainty = None
    if gain and has_champion and rules.confidence and math.isfinite(gain.candidate - gain.champion):
        certainty = measure_certainty(gain, rules.confidence, rules.resamples, seed)
    models = [(one.name, one.labels) for one in ((ours, theirs) if has_champion else (ours,))]
    remark = describe_unknown_labels(pairs, models)
    verdict = decide(rules, pairs.labelled_rows, gain, certainty, has_champion, remark)
    return Comparison(rules, verdict, pairs, gain, certainty, has_champion)


def write_comparison(
    comparison: Comparison, decision_path: str | Path, report_path: str | Path, output_uri: str = ""
) -> None:
    """Writes a comparison's files.

    Args:
        comparison: The comparison.
        decision_path: Where the numbers and the reason go as JSON.
        report_path: Where the HTML report goes.
        output_uri: The folder or `gs://` prefix that gets `decision.json`; "" for none.

    Raises:
        InputError: `output_uri` is neither local nor `gs://`.
    """
    if output_uri:
        filesystem(output_uri)  # A scheme that nothing can be written to is refused before anything is.
    time = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    decision = comparison.to_json(time)
    write_texts({decision_path: decision, report_path: render_report(comparison)})
    print(comparison.verdict.reason, flush=True)
    if output_uri:
        print(f"The decision is at {publish_decision(decision, output_uri)}", flush=True)


def publish_decision(decision: str, output_uri: str) -> str:
    """Writes `decision.json` whole, in place of an earlier one.

    Returns:
        Its absolute path or `gs://` URI.
    """
    fs, path = filesystem(output_uri)
    if output_uri.startswith("gs://"):
        target = f"{path.rstrip('/')}/{DECISION}"
        fs.pipe_file(target, decision.encode())
        return f"gs://{target}"
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".decision-", dir=folder) as temporary:
        file = Path(temporary) / DECISION
        file.write_text(decision, encoding="utf-8")
        file.replace(folder / DECISION)
    return str(folder / DECISION)
