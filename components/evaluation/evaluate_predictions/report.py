"""Renders an evaluation as a page that opens in a browser without a network."""

from components.charts import bar_chart
from components.evaluation.evaluate_predictions import charts
from components.evaluation.evaluate_predictions.limits import MATRIX_LABELS, group_matrix
from components.evaluation.evaluate_predictions.scores import ClassScores, Evaluation
from components.evaluation.evaluate_predictions.tally import Tally
from components.reports import Cell, Chart, Column, Page, Table, Tile, Value, unique_names

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


def build_page(evaluation: Evaluation, counts: Tally, title: str = "") -> Page:
    """Returns the page, to which more plots and tables may be added.

    Args:
        evaluation: The numbers.
        counts: What they were computed from.
        title: The heading; "Evaluation of predictions" by default.
    """
    page = Page(
        title or "Evaluation of predictions",
        f"{counts.rows:,} rows, {counts.labelled_rows:,} of them labelled",
        notes=list(evaluation.notes),
        tiles=[Tile(name, f"{evaluation.metrics[key]:.3f}") for key, name in _HEADLINES if key in evaluation.metrics],
        charts=_charts(evaluation, counts),
    )
    if counts.labelled_rows:
        page.tables += [_class_table(evaluation), _error_table(counts)]
        page.footer = _footer(evaluation, counts)
    return page


def _class_table(evaluation: Evaluation) -> Table:
    by_weight = sorted(evaluation.classes, key=lambda one: -(one.support + one.predicted))
    kept = {one.label for one in by_weight[:TABLE_CLASSES]}
    shown = [one for one in evaluation.classes if one.label in kept]
    names = ["rows", "predicted", "precision", "recall", "F1"] + ["ROC AUC"] * (evaluation.roc is not None)
    rows: list[list[Value]] = []
    for one in shown:
        label = Cell(one.label, tag="" if one.known else "unknown to the model")
        row: list[Value] = [label, one.support, one.predicted, f"{one.precision:.3f}", f"{one.recall:.3f}"]
        row.append(Cell(f"{one.f1:.3f}", share=one.f1))
        if evaluation.roc:
            row.append(f"{one.roc.area:.3f}" if one.roc else None)
        rows.append(row)
    caption = ""
    if len(shown) < len(evaluation.classes):
        caption = (
            f"The {len(shown)} classes with the most rows, of {len(evaluation.classes):,}; "
            "the file of the classification metrics has them all."
        )
    return Table("Classes", [Column("class"), *(Column(name, "number") for name in names)], rows, caption)


def _error_table(counts: Tally) -> Table:
    columns = [Column("score", "number"), Column("label"), Column("prediction"), Column("text", "text"), Column("id")]
    rows = [
        [f"{error.score:.3f}" if error.score >= 0 else None, error.label, error.prediction, error.text, error.id]
        for error in sorted(counts.errors, reverse=True)
    ]
    caption = "Look here first: wrong labels and unclear classes come to the top."
    return Table("Most confident errors", columns, rows, caption, empty="There are none: every labelled row is right.")


def _footer(evaluation: Evaluation, counts: Tally) -> list[str]:
    sentences = [
        "Macro averages run over the classes that have rows or predictions; a ratio with nothing to count is 0, "
        "as in scikit-learn."
    ]
    if evaluation.roc:
        error = max((one.roc.area_error for one in evaluation.classes if one.roc), default=0.0)
        sentences.append(
            f"ROC curves come from histograms of {counts.totals.shape[1]:,} bins, even in log-odds, so that any number "
            f"of rows fits in memory: areas under the classes' curves are off by at most {error:.1g}. "
            "Log loss is in nats, over the rows whose label the model knows."
        )
    return [
        *sentences,
        "The calibration error is the mean gap between score and accuracy over 15 equal bins of scores.",
    ]


def _charts(evaluation: Evaluation, counts: Tally) -> list[Chart]:
    drawn: list[Chart] = []

    def add(heading: str, svg: str, caption: str, wide: bool = False) -> None:
        drawn.append(Chart(heading, svg, caption, wide))

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
    return bar_chart("F1 by class", names, [("F1", [one.f1 for one in shown])], "F1"), caption


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
    return bar_chart("What was predicted", names, series, "rows"), caption


def _most(classes: list[ClassScores]) -> list[ClassScores]:
    return sorted(classes, key=lambda one: -(one.support + one.predicted))[:BARS]
