"""Draws the plots of an evaluation."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from components.charts import BLUE, CURVES, GREY, INK, RED, compact_number, draw_svg, short_name
from components.evaluation.evaluate_predictions.scores import RocCurve

# White that lets the page through where there is nothing, so that an empty cell is dark on a dark page.
_HEAT = LinearSegmentedColormap.from_list(
    "heat", [(0.23, 0.49, 0.85, 0), (0.23, 0.49, 0.85, 0.55), (0.12, 0.33, 0.66, 1)]
)


def confusion_chart(names: Sequence[str], matrix: np.ndarray) -> str:
    """Draws a confusion matrix, coloured by the share of each label's rows; legible from 1 to 100 labels."""
    size = len(names)
    side = max(3.4, min(11.0, 1.6 + 0.55 * size if size <= 12 else 3.2 + 0.17 * size))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    font = 9 if size <= 12 else max(3.2, min(9.0, 0.62 * side * 72 / size * 0.8))

    def draw(figure: Figure, axes: Axes) -> None:
        # On a scale of square roots a few stray errors stay visible beside a strong diagonal.
        axes.imshow(np.sqrt(shares), cmap=_HEAT, vmin=0, vmax=1, interpolation="nearest")
        ticks = [short_name(name, 22) for name in names]
        rotation, anchor = (45, "right") if size <= 12 else (90, "center")
        axes.set_xticks(range(size), ticks, rotation=rotation, ha=anchor, fontsize=font)
        axes.set_yticks(range(size), ticks, fontsize=font)
        axes.set_xlabel("prediction")
        axes.set_ylabel("label")
        axes.tick_params(length=0)
        axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=GREY, linewidth=0.4 if size <= 30 else 0.15, alpha=0.5)
        axes.tick_params(which="minor", length=0)
        if size <= 30:
            for row, column in np.argwhere(matrix):
                axes.text(
                    column,
                    row,
                    compact_number(int(matrix[row, column])),
                    ha="center",
                    va="center",
                    fontsize=9 if size <= 12 else 6,
                    color="white" if shares[row, column] > 0.3 else INK,
                )

    return draw_svg(f"Confusion matrix of {size} labels", (side, side), draw)


def roc_chart(curves: Sequence[tuple[str, RocCurve]], headline: tuple[str, RocCurve] | None) -> str:
    """Draws ROC curves; the headline, if there is one, is dashed and in the ink colour."""

    def draw(figure: Figure, axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, linestyle=":")
        for colour, (name, roc) in zip(CURVES, curves, strict=False):
            x, y = _thin_curve(roc)
            axes.plot(x, y, color=colour, linewidth=1.4, label=f"{short_name(name, 28)}  {roc.area:.3f}")
        if headline:
            name, roc = headline
            x, y = _thin_curve(roc)
            axes.plot(x, y, color=INK, linewidth=1.2, linestyle="--", label=f"{short_name(name, 28)}  {roc.area:.3f}")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        axes.legend(loc="lower right", title="area under the curve", title_fontsize=8)

    return draw_svg("ROC curves", (4.6, 4.4), draw)


def score_chart(right: np.ndarray, wrong: np.ndarray | None) -> str:
    """Draws how sure the model was, for right and wrong rows apart; without `wrong`, for all rows."""
    edges = np.linspace(0, 1, len(right) + 1)

    def draw(figure: Figure, axes: Axes) -> None:
        axes.stairs(right, edges, fill=True, color=BLUE, alpha=0.75, label="right" if wrong is not None else None)
        if wrong is not None:
            axes.stairs(right + wrong, edges, baseline=right, fill=True, color=RED, alpha=0.85, label="wrong")
            axes.legend(loc="upper left")
        axes.set_xlim(0, 1)
        axes.set_xlabel("score")
        axes.set_ylabel("rows")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))

    return draw_svg("Distribution of scores", (4.6, 3.2), draw)


def calibration_chart(counts: np.ndarray, right: np.ndarray, sums: np.ndarray) -> str:
    """Draws the accuracy of each bin of scores against its mean score."""
    filled = counts > 0
    means, accuracy = sums[filled] / counts[filled], right[filled] / counts[filled]
    areas = 12 + 150 * counts[filled] / counts.max()

    def draw(figure: Figure, axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.7, linestyle=":")
        axes.plot(means, accuracy, color=BLUE, linewidth=1)
        axes.scatter(means, accuracy, s=areas, color=BLUE, alpha=0.6, linewidths=0)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.04, 1.04))
        axes.set_xlabel("mean score (area of a dot: rows)")
        axes.set_ylabel("share that is right")

    return draw_svg("Calibration", (4.6, 3.2), draw)


def _thin_curve(roc: RocCurve) -> tuple[np.ndarray, np.ndarray]:
    step = max(1, len(roc.thresholds) // 400)
    keep = np.unique(np.append(np.arange(0, len(roc.thresholds), step), len(roc.thresholds) - 1))
    return roc.false_positive_rates[keep], roc.true_positive_rates[keep]
