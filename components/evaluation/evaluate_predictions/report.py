"""Renders an evaluation as a page that opens in a browser without a network."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from components.evaluation.evaluate_predictions import charts
from components.evaluation.evaluate_predictions.limits import MATRIX_LABELS, group_matrix, unique_names
from components.evaluation.evaluate_predictions.scores import ClassScores, Evaluation
from components.evaluation.evaluate_predictions.tally import Tally

BARS = 30
CURVES = 10
TABLE_CLASSES = 500
_HEADLINES = [
    ("accuracy", "accuracy"),
    ("macro_f1", "macro F1"),
    ("weighted_f1", "weighted F1"),
    ("roc_auc", "ROC AUC"),
    ("roc_auc_macro", "ROC AUC, macro"),
    ("log_loss", "log loss"),
    ("expected_calibration_error", "calibration error"),
]


def render_report(evaluation: Evaluation, counts: Tally, title: str = "") -> str:
    """Returns the page.

    Args:
        evaluation: The numbers.
        counts: What they were computed from.
        title: The heading; "Evaluation of predictions" by default.
    """
    # Texts and labels are other people's: everything that is not a plot of ours is escaped.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    by_weight = sorted(evaluation.classes, key=lambda one: -(one.support + one.predicted))
    shown = {one.label for one in by_weight[:TABLE_CLASSES]}
    return environment.get_template("report.html").render(
        title=title or "Evaluation of predictions",
        rows=counts.rows,
        labelled_rows=counts.labelled_rows,
        headlines=[(name, evaluation.metrics[key]) for key, name in _HEADLINES if key in evaluation.metrics],
        notes=evaluation.notes,
        charts=_charts(evaluation, counts),
        classes=[one for one in evaluation.classes if one.label in shown] if counts.labelled_rows else [],
        all_classes=len(evaluation.classes),
        has_roc=evaluation.roc is not None,
        area_error=max((one.roc.area_error for one in evaluation.classes if one.roc), default=0.0),
        bins=counts.totals.shape[1],
        errors=sorted(counts.errors, reverse=True),
    )


def _charts(evaluation: Evaluation, counts: Tally) -> list[dict[str, Any]]:
    drawn: list[dict[str, Any]] = []

    def add(heading: str, svg: str, caption: str, wide: bool = False) -> None:
        # Markup: matplotlib escapes the labels that it writes into an SVG.
        drawn.append({"heading": heading, "svg": Markup(svg), "caption": caption, "wide": wide})  # noqa: S704

    if counts.labelled_rows:
        names, matrix, joined = group_matrix(evaluation, counts.pairs)
        caption = "A row per label, a column per prediction; colour: the share of the label's rows."
        if joined:
            caption += f" {joined} of {len(evaluation.classes)} labels, the rarest, are joined to keep {MATRIX_LABELS}."
        add("Confusion matrix", charts.confusion_chart(names, matrix), caption, wide=len(names) > 12)
    if evaluation.roc:
        add("ROC", *_roc(evaluation, counts))
    if counts.labelled_rows:
        add("F1 by class", *_f1_bars(evaluation))
    if counts.rows:
        add("What was predicted", *_distribution(evaluation, counts))
    if counts.score_counts.any():
        wrong, right = counts.score_counts
        caption = "How sure the model was of what it said, for right and wrong predictions."
        add("Scores", charts.score_chart(right, wrong), caption)
        chart = charts.calibration_chart(counts.score_counts.sum(axis=0), right, counts.score_sums)
        add(
            "Calibration",
            chart,
            "On the diagonal a score of 0.8 is right 8 times out of 10; below it, the model is too sure.",
        )
    elif counts.all_scores.any():
        add("Scores", charts.score_chart(counts.all_scores, None), "How sure the model was of what it said.")
    return drawn


def _roc(evaluation: Evaluation, counts: Tally) -> tuple[str, str]:
    curves = [one for one in evaluation.classes if one.roc]
    if counts.model_labels == 2:
        assert evaluation.roc
        name = unique_names([evaluation.roc_name])[0]
        return charts.roc_chart([(name, evaluation.roc)], None), f"Positive class: {name}, the second label."
    largest = sorted(curves, key=lambda one: -one.support)[:CURVES]
    caption = "Each class against all others."
    if len(curves) > CURVES:
        caption += f" Drawn: the {CURVES} classes with the most rows; the table has the area of every class."
    headline = (evaluation.roc_name, evaluation.roc) if evaluation.roc else None
    names = unique_names([one.label for one in largest])
    return charts.roc_chart(
        [(name, one.roc) for name, one in zip(names, largest, strict=True) if one.roc], headline
    ), caption


def _f1_bars(evaluation: Evaluation) -> tuple[str, str]:
    occurring = [one for one in evaluation.classes if one.support or one.predicted]
    shown = _most(occurring)
    caption = "From the best class to the worst."
    if len(shown) < len(occurring):
        caption += f" The {BARS} classes with the most rows, of {len(occurring)}."
    shown = sorted(shown, key=lambda one: -one.f1)
    names = unique_names([one.label for one in shown])
    return charts.bar_chart("F1 by class", names, [("F1", [one.f1 for one in shown])], "F1"), caption


def _distribution(evaluation: Evaluation, counts: Tally) -> tuple[str, str]:
    codes = [code for code, one in enumerate(evaluation.classes) if counts.predicted[code] or one.support]
    codes = sorted(codes, key=lambda code: -max(counts.predicted[code], evaluation.classes[code].support))
    caption = "Rows per predicted class" + (", labelled or not" if counts.labelled_rows < counts.rows else "") + "."
    if len(codes) > BARS:
        caption += f" The {BARS} largest of {len(codes)} classes."
    names = unique_names([evaluation.classes[code].label for code in codes[:BARS]])
    series = [("predicted", [counts.predicted[code] for code in codes[:BARS]])]
    if counts.labelled_rows:
        series.append(("labelled", [evaluation.classes[code].support for code in codes[:BARS]]))
    return charts.bar_chart("What was predicted", names, series, "rows"), caption


def _most(classes: list[ClassScores]) -> list[ClassScores]:
    return sorted(classes, key=lambda one: -(one.support + one.predicted))[:BARS]
