"""Adds slices and speed to the page of an evaluation."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.charts import BLUE, GREY, INK, draw_svg, short_name
from components.evaluation.evaluate_classifier.intervals import Interval
from components.evaluation.evaluate_classifier.latency import Latency
from components.evaluation.evaluate_classifier.slices import Slice
from components.reports import Cell, Chart, Column, Page, Table, Tile, unique_names

# Below this many rows a slice says little, and is not named in the note.
FEW_ROWS = 30
# Slices that the note names; the tables have them all.
NAMED_SLICES = 5


def add_slices(page: Page, slices: Sequence[Slice], metrics: Mapping[str, float]) -> None:
    """Adds a plot and a table for each way of slicing, and a note when a slice is clearly worse than the whole."""
    if not slices:
        return
    accuracy = metrics["accuracy"]
    weak = sorted(
        (
            one
            for one in slices
            if one.accuracy_interval and one.accuracy_interval.high < accuracy and one.labelled_rows >= FEW_ROWS
        ),
        key=lambda one: one.accuracy or 0.0,
    )
    if weak:
        named = "; ".join(
            f"{one.column} “{unique_names([one.value])[0]}” {one.accuracy:.3f} ({one.labelled_rows:,} rows)"
            for one in weak[:NAMED_SLICES]
        )
        more = f"; and {len(weak) - NAMED_SLICES} more" if len(weak) > NAMED_SLICES else ""
        page.notes.append(f"Clearly less accurate than the whole ({accuracy:.3f}): {named}{more}.")
    for number, column in enumerate(dict.fromkeys(one.column for one in slices)):
        of_column = [one for one in slices if one.column == column]
        heading = f"Slices by {column}"
        caption = "A dot per slice with its 95 % interval; the dashed line is the accuracy over all rows."
        page.charts.append(Chart(heading, slice_chart(heading, of_column, accuracy), caption))
        # Before the table of the most confident errors, which is last and may be long.
        page.tables.insert(1 + number, _slice_table(heading, of_column))
    page.footer.append(
        "Intervals hold the true value in 95 of 100 cases: Wilson's for the accuracy, the percentile bootstrap for the "
        "macro F1, which is too narrow where a slice has few rows of a class. Of 20 slices, one may lie outside by "
        "chance."
    )


def _slice_table(heading: str, slices: Sequence[Slice]) -> Table:
    numbers = ("rows", "labelled", "accuracy", "95 % interval", "macro F1", "95 % interval")
    names = unique_names([one.value for one in slices])
    rows = [
        [
            Cell(name, tag="few rows" if one.labelled_rows < FEW_ROWS else ""),
            one.rows,
            one.labelled_rows,
            Cell(f"{one.accuracy:.3f}", share=one.accuracy) if one.accuracy is not None else None,
            _interval(one.accuracy_interval),
            f"{one.macro_f1:.3f}" if one.macro_f1 is not None else None,
            _interval(one.macro_f1_interval),
        ]
        for name, one in zip(names, slices, strict=True)
    ]
    return Table(heading, [Column(slices[0].column), *(Column(name, "number") for name in numbers)], rows)


def _interval(interval: Interval | None) -> str | None:
    return f"{interval.low:.3f} to {interval.high:.3f}" if interval else None


def slice_chart(title: str, slices: Sequence[Slice], overall: float) -> str:
    """Draws the accuracy of slices with their intervals, the first slice on top."""
    drawn = [one for one in slices if one.accuracy is not None]
    names = unique_names([one.value for one in drawn])

    def draw(figure: Figure, axes: Axes) -> None:
        places = np.arange(len(drawn))
        centres = np.array([one.accuracy for one in drawn], float)
        lows = np.array([one.accuracy_interval.low for one in drawn if one.accuracy_interval], float)
        highs = np.array([one.accuracy_interval.high for one in drawn if one.accuracy_interval], float)
        axes.axvline(overall, color=INK, linewidth=0.8, linestyle="--")
        axes.hlines(places, lows, highs, color=GREY, linewidth=1.6)
        axes.scatter(centres, places, color=BLUE, s=26, zorder=3)
        axes.set_yticks(places, [short_name(name, 30) for name in names])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(drawn) - 0.4, -0.6)
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel("accuracy")

    return draw_svg(title, (4.6, 0.9 + 0.26 * max(1, len(drawn))), draw)


def add_latency(page: Page, latency: Latency, rows_per_second: float, batch_size: int) -> None:
    """Adds the model's speed, and on what it was measured."""
    page.subtitle += f", classified on {latency.device} in {latency.precision}"
    page.tiles += [
        Tile("ms per row, median", _three_digits(latency.p50)),
        Tile("ms per row, 95 % within", _three_digits(latency.p95)),
        Tile("rows per second", f"{rows_per_second:,.0f}"),
    ]
    size = f" of up to {batch_size} rows" if batch_size else ""
    page.footer.append(
        f"Latency is the time from a text to its probabilities, one text at a time, for {latency.texts} texts spread "
        f"over the rows, after a warm-up. Rows per second are over the whole pass, in batches{size}. "
        f"Both on {latency.device}, in {latency.precision}, tokenization included."
    )


def _three_digits(value: float) -> str:
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


def absent_page(title: str, reference: str, rows: int) -> Page:
    """Returns the page that stands for the evaluation of a model that does not exist yet."""
    named = f": {reference!r} names no model" if reference else ""
    return Page(
        title,
        f"{rows:,} rows, none of them classified",
        notes=[f"There is no champion yet{named}, so there is nothing to evaluate. The first candidate has no rival."],
    )
