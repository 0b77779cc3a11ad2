"""Draws the plots of reports as SVG that follows the page's colours, in light and dark.

Everything in the ink colour becomes `currentColor`, and text stays text: the browser's own fonts show labels in any
script, and the plots stay small and sharp.

    bar_chart("Labels", ["good", "bad"], [("rows", [30, 12])], "rows")
    histogram_chart("Lengths", edges, counts, "characters", marks=[("median", 24)])
    draw_svg("Loss", (4.6, 3.2), draw)     # draw(figure, axes): any plot of matplotlib's, in INK, BLUE, RED, GREY
"""

import io
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

INK = "#010203"  # a colour that nothing else has, replaced in the SVG
BLUE, RED, GREY = "#3b7dd8", "#d6574b", "#8a919c"
CURVES = ["#3b7dd8", "#d6574b", "#3a9d6e", "#b07cc6", "#d1912e", "#2fa3b3", "#c2609c", "#8a9a3b", "#7a6fd0", "#a5705a"]
BAR_SERIES = [BLUE, GREY, "#d1912e", "#3a9d6e"]
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a label may contain a dollar sign
    "font.family": ["sans-serif"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def bar_chart(title: str, names: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], unit: str) -> str:
    """Draws a group of horizontal bars per name, the first name on top.

    Args:
        title: What a screen reader says of the plot.
        names: One line each; `components.reports.unique_names` makes them so.
        series: A name and a value per name of `names`, at most four; a legend names them when there are several.
        unit: What the values count.
    """
    places = np.arange(len(names))
    height = 0.8 / len(series)

    def draw(figure: Figure, axes: Axes) -> None:
        for number, (name, values) in enumerate(series):
            offset = (number - (len(series) - 1) / 2) * height
            bars = axes.barh(places + offset, values, height * 0.92, color=BAR_SERIES[number], label=name)
            axes.bar_label(bars, [compact_number(value) for value in values], padding=2, fontsize=7)
        axes.set_yticks(places, [short_name(name, 30) for name in names])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel(unit)
        largest = max((max(values, default=0) for _, values in series), default=0)
        axes.set_xlim(0, 1.15 * (largest or 1))
        if len(series) > 1:
            figure.legend(loc="outside upper right", ncols=len(series))

    return draw_svg(title, (4.6, 1.1 + (0.16 + 0.16 * len(series)) * max(1, len(names))), draw)


def histogram_chart(
    title: str, edges: Sequence[float], counts: Sequence[float], unit: str, marks: Sequence[tuple[str, float]] = ()
) -> str:
    """Draws how many rows fall into each bin.

    Args:
        title: What a screen reader says of the plot.
        edges: The bins' edges, one more than bins.
        counts: The rows in each bin.
        unit: What the bins measure.
        marks: Names and places of vertical lines, such as a median.
    """

    def draw(figure: Figure, axes: Axes) -> None:
        axes.stairs(counts, edges, fill=True, color=BLUE, alpha=0.75)
        for style, (name, place) in zip(("--", ":", "-."), marks, strict=False):
            axes.axvline(place, color=INK, linewidth=0.9, linestyle=style, label=f"{name}  {compact_number(place)}")
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(unit)
        axes.set_ylabel("rows")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: compact_number(value)))
        if marks:
            figure.legend(loc="outside upper right", ncols=len(marks))

    return draw_svg(title, (4.6, 3.2), draw)


def draw_svg(title: str, size: tuple[float, float], draw: Callable[[Figure, Axes], None]) -> str:
    """Draws a plot and returns it as SVG for a page.

    Args:
        title: What a screen reader says of the plot.
        size: Width and height in inches; a card of the page is 4.6 wide.
        draw: Draws into the figure and its axes.
    """
    # A constant salt: the same numbers give the same bytes, and with them the same digest of the report.
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(figure, axes)
        stream = io.StringIO()
        with warnings.catch_warnings():
            # Matplotlib lacks glyphs for many scripts; here it only measures the text, and the browser draws it.
            warnings.filterwarnings("ignore", message="Glyph")
            figure.savefig(stream, format="svg", metadata={"Date": None, "Title": title})
    svg = stream.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def short_name(name: str, columns: int) -> str:
    """Cuts a name to a width in columns of a terminal."""
    # Chinese, Japanese and Korean characters are two columns wide.
    widths = [1 + (unicodedata.east_asian_width(character) in "WF") for character in name]
    if sum(widths) <= columns:
        return name
    while sum(widths) > columns - 1:
        widths.pop()
    return name[: len(widths)] + "…"


def compact_number(value: float) -> str:
    """Writes a number for a plot: 0.25, 950, 12k, 30M."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.2f}"
    for limit, divisor, unit in ((10_000_000, 1_000_000, "M"), (10_000, 1_000, "k")):
        if value >= limit:
            return f"{value / divisor:.0f}{unit}"
    return f"{value:.0f}"
