"""Renders a comparison of two models as a page."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.charts import BLUE, GREY, INK, RED, bar_chart, draw_svg
from components.evaluation.compare_models.comparison import Comparison
from components.evaluation.compare_models.metrics import LOG_LOSS, OVERALL, ConfusionGain
from components.evaluation.compare_models.pairs import Example
from components.evaluation.compare_models.resample import mcnemar_p_value, one_sided
from components.reports import Cell, Chart, Column, Page, Table, Tile, Value, unique_names

BARS = 30
TABLE_LABELS = 500


def render_report(comparison: Comparison) -> str:
    """Returns the page."""
    verdict, rules, pairs = comparison.verdict, comparison.rules, comparison.pairs
    heading = "The candidate is blessed" if verdict.blessed else "The candidate is not blessed"
    page = Page(heading, f"{pairs.rows:,} rows, {pairs.labelled_rows:,} of them labelled", [verdict.reason])
    if comparison.candidate is not None:
        page.tiles.append(Tile(f"{rules.metric} of the candidate", f"{comparison.candidate:.4g}"))
    if comparison.champion is not None:
        page.tiles.append(Tile(f"{rules.metric} of the champion", f"{comparison.champion:.4g}"))
    if comparison.difference is not None:
        page.tiles.append(Tile("gain", f"{comparison.difference:+.4g}"))
    certainty = comparison.certainty
    if certainty:
        level = f"{rules.confidence * 100:.4g}%"
        page.tiles.append(Tile(f"lower end of the gain's {level} interval", f"{certainty.low:+.4g}"))
        page.charts.append(_gain_chart(comparison))
    if comparison.gain:
        by_rows = ConfusionGain(pairs, "accuracy")
        page.charts.append(_label_chart(comparison, by_rows))
        page.tables = [_overall(comparison), *_agreement(comparison), _labels(comparison, by_rows)]
        if comparison.has_champion:
            page.tables += [
                _examples("Rows that only the champion gets right", pairs.lost),
                _examples("Rows that only the candidate gets right", pairs.won),
            ]
    page.footer = [
        "All averages run over the labels that have rows, for both models; a prediction that is none of them is wrong."
    ]
    if certainty:
        page.footer.append(
            f"The interval is a paired bootstrap of {len(certainty.gains):,} resamples of the rows. Two equally good"
            f" models, whose outputs are exchanged row by row at random, gain as much with probability"
            f" {certainty.p_value:.2g}."
        )
    return page.render()


def _gain_chart(comparison: Comparison) -> Chart:
    certainty, rules = comparison.certainty, comparison.rules
    assert certainty and comparison.difference is not None
    gain = comparison.difference
    counts, edges = np.histogram(certainty.gains, bins=60)

    def draw(figure: Figure, axes: Axes) -> None:
        inside = certainty.low > rules.minimum_gain
        axes.stairs(counts, edges, fill=True, color=BLUE if inside else GREY, alpha=0.8)
        axes.axvspan(certainty.low, certainty.high, color=BLUE, alpha=0.12, linewidth=0, label="interval")
        axes.axvline(gain, color=INK, linewidth=1, label=f"gain {gain:+.4g}")
        asked = f"asked: more than {rules.minimum_gain:.4g}"
        axes.axvline(rules.minimum_gain, color=RED, linewidth=1.2, linestyle="--", label=asked)
        axes.set_xlabel(f"gain in {rules.metric}" + (" (how much lower it is)" if rules.metric == LOG_LOSS else ""))
        axes.set_ylabel("resamples")
        figure.legend(loc="outside upper center", ncols=3)

    caption = (
        "How the gain varies when the rows are drawn again. The candidate is blessed only if the whole interval is to"
        " the right of the dashed line."
    )
    return Chart("Gain", draw_svg("Distribution of the gain", (4.6, 3.2), draw), caption)


def _label_chart(comparison: Comparison, scores: ConfusionGain) -> Chart:
    support = scores.confusions[0].support[0]
    shown = np.argsort(-support, kind="stable")[:BARS].tolist()
    names = unique_names([comparison.pairs.labels[place] for place in shown])
    models = ["candidate", "champion"][: 1 + comparison.has_champion]
    series = [
        (model, [float(scores.confusions[number].score("f1", place)[0]) for place in shown])
        for number, model in enumerate(models)
    ]
    caption = f"The {BARS} labels with the most rows, of {len(support):,}." if len(support) > BARS else ""
    return Chart("F1 by label", bar_chart("F1 by label", names, series, "F1"), caption)


def _overall(comparison: Comparison) -> Table:
    rows: list[list[Value]] = []
    for metric in OVERALL:
        rows.append([_tagged(metric, comparison), *_values(ConfusionGain(comparison.pairs, metric), comparison)])
    if comparison.rules.metric == LOG_LOSS and comparison.gain:
        rows.append([_tagged(f"{LOG_LOSS} (lower is better)", comparison), *_loss_values(comparison)])
    return Table("Metrics", [Column("metric"), *_value_columns(comparison)], rows)


def _tagged(metric: str, comparison: Comparison) -> Value:
    return Cell(metric, tag="decides") if metric.split(" ")[0] == comparison.rules.metric else metric


def _value_columns(comparison: Comparison) -> list[Column]:
    names = ["candidate", "champion", "gain"] if comparison.has_champion else ["candidate"]
    return [Column(name, "number") for name in names]


def _values(gain: ConfusionGain, comparison: Comparison) -> list[Value]:
    values: list[Value] = [f"{gain.candidate:.4f}"]
    if comparison.has_champion:
        values += [f"{gain.champion:.4f}", f"{gain.candidate - gain.champion:+.4f}"]
    return values


def _loss_values(comparison: Comparison) -> list[Value]:
    numbers = [comparison.candidate, comparison.champion, comparison.difference]
    formats = ["{:.4f}", "{:.4f}", "{:+.4f}"]
    values: list[Value] = [
        None if number is None else form.format(number) for number, form in zip(numbers, formats, strict=True)
    ]
    return values if comparison.has_champion else values[:1]


def _agreement(comparison: Comparison) -> list[Table]:
    if not comparison.has_champion:
        return []
    pairs = comparison.pairs
    label, ours, theirs = pairs.cells.T
    only_candidate, only_champion = one_sided(pairs)
    total = pairs.labelled_rows
    rows: list[list[Value]] = []
    for name, cells in (
        ("both right", (ours == label) & (theirs == label)),
        ("only the candidate right", only_candidate),
        ("only the champion right", only_champion),
        ("both wrong", (ours != label) & (theirs != label)),
    ):
        count = int(pairs.counts[cells].sum())
        rows.append([name, count, Cell(f"{count / total:.3f}", share=count / total)])
    caption = f"McNemar's exact test, of the rows that only one model gets right: p = {mcnemar_p_value(pairs):.3g}."
    return [Table("Agreement", [Column("rows"), Column("number", "number"), Column("share", "number")], rows, caption)]


def _labels(comparison: Comparison, scores: ConfusionGain) -> Table:
    ours, theirs = scores.confusions
    support = ours.support[0]
    order = np.argsort(-support, kind="stable").tolist()
    columns = [Column("label"), Column("rows", "number")]
    rows: list[list[Value]] = []
    for kind in ("F1", "recall"):
        names = [kind, f"champion's {kind}", "gain"] if comparison.has_champion else [kind]
        columns += [Column(name, "number") for name in names]
    for place in order[:TABLE_LABELS]:
        cells: list[Value] = [comparison.pairs.labels[place], int(support[place])]
        for kind in ("f1", "recall"):
            values = [float(one.score(kind, place)[0]) for one in (ours, theirs)]
            cells.append(f"{values[0]:.3f}")
            if comparison.has_champion:
                cells += [f"{values[1]:.3f}", f"{values[0] - values[1]:+.3f}"]
        rows.append(cells)
    caption = f"The {len(rows):,} labels with the most rows, of {len(order):,}." if len(rows) < len(order) else ""
    return Table("Labels", columns, rows, caption)


def _examples(heading: str, examples: list[Example]) -> Table:
    columns = [Column("text", "text"), Column("label"), Column("candidate"), Column("champion"), Column("id")]
    rows: list[list[Value]] = [[one.text, one.label, one.candidate, one.champion, one.id] for one in examples]
    caption = f"The first {len(rows)}." if len(rows) > 1 else ""
    return Table(heading, columns, rows, caption)
