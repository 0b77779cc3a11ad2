"""Shows a search: how it went, which values did well, and what mattered."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from components.charts import BLUE, GREY, INK, RED, bar_chart, draw_svg, short_name
from components.progress import format_duration
from components.reports import Cell, Chart, Column, Page, Table, Tile
from components.training.tune_hyperparameters.search import REASON, finished_trials, format_value

# With fewer the importance is that of chance.
IMPORTANCE_TRIALS = 10
TABLE_TRIALS = 500
_ENDED = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed"}


@dataclass(frozen=True)
class Searched:
    """A search that ended.

    Attributes:
        study: Its trials, at least one of them complete.
        space: What was searched.
        fixed: What was not.
        metric: What trials are compared by.
        trials: How many were wanted.
    """

    study: optuna.Study
    space: Mapping[str, BaseDistribution]
    fixed: Mapping[str, Any]
    metric: str
    trials: int


def build_page(searched: Searched) -> Page:
    """Returns the report of a search."""
    study, metric = searched.study, _metric_name(searched.metric)
    finished = finished_trials(study)
    counts = {state: sum(trial.state == state for trial in finished) for state in _ENDED}
    seconds = sum(trial.duration.total_seconds() for trial in finished if trial.duration)
    best = study.best_trial
    page = Page(
        "Search for hyper-parameters",
        f"{len(finished)} trials in {format_duration(seconds)}, {counts[TrialState.PRUNED]} stopped early, "
        f"{counts[TrialState.FAIL]} failed; compared by {metric} on the validation rows",
        tiles=[
            Tile(f"best {metric}", f"{study.best_value:.4f}"),
            *(Tile(name, format_value(value)) for name, value in best.params.items() if not isinstance(value, str)),
        ],
        charts=[
            Chart(
                "History",
                history_chart(finished, study.direction == optuna.study.StudyDirection.MINIMIZE, metric),
                "A dot per trial; the line is the best so far. The first trial takes the defaults.",
                wide=True,
            )
        ],
        tables=[_best_table(searched), _trial_table(searched, finished)],
        footer=[
            "A trial that is stopped early counts with its last evaluation. The value of a trial is its best "
            "checkpoint's on the validation rows, of which the best of many trials is a little too good: judge the "
            "model on rows that took no part in the search."
        ],
    )
    if len(finished) < searched.trials:
        page.notes.append(f"The time was over after {len(finished)} of {searched.trials} trials.")
    importance = find_importance(study)
    if importance:
        chart = bar_chart("What mattered", list(importance), [("share", list(importance.values()))], "share")
        page.charts.append(
            Chart(
                "What mattered",
                chart,
                "How much each had to do with reaching the best values (PED-ANOVA, over the complete trials): a hint.",
            )
        )
    for name, distribution in searched.space.items():
        caption = f"Each trial's {metric}; the best trial is ringed."
        page.charts.append(Chart(name, parameter_chart(name, distribution, finished, best, metric), caption))
    return page


def find_importance(study: optuna.Study) -> dict[str, float]:
    """Returns the share of each hyper-parameter in the differences; empty when too few trials tell."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < IMPORTANCE_TRIALS or len({trial.value for trial in complete}) < 2:
        return {}
    found = optuna.importance.get_param_importances(study)
    return found if all(math.isfinite(value) for value in found.values()) else {}


def history_chart(trials: Sequence[FrozenTrial], minimize: bool, metric: str) -> str:
    """Draws the trials' values in their order, and the best so far."""

    def draw(figure: Figure, axes: Axes) -> None:
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        pruned = [trial for trial in trials if trial.state == TrialState.PRUNED and trial.value is not None]
        failed = [trial for trial in trials if trial.state == TrialState.FAIL]
        values = _values(complete)
        best = np.minimum.accumulate(values) if minimize else np.maximum.accumulate(values)
        places = [trial.number + 1 for trial in complete]
        axes.step(
            [*places, len(trials)], [*best, best[-1]], where="post", color=INK, linewidth=0.9, label="best so far"
        )
        axes.scatter(places, values, color=BLUE, s=30, zorder=3, label="complete")
        if pruned:
            axes.scatter(
                [trial.number + 1 for trial in pruned],
                _values(pruned),
                facecolors="none",
                edgecolors=GREY,
                s=30,
                label="stopped early",
            )
        if failed:
            # Without a value they stand at the lower edge.
            axes.scatter(
                [trial.number + 1 for trial in failed],
                [0.02] * len(failed),
                color=RED,
                marker="x",
                s=30,
                transform=axes.get_xaxis_transform(),
                label="failed",
            )
        axes.set_xlabel("trial")
        axes.set_ylabel(metric)
        axes.set_xlim(0.5, len(trials) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside upper right", ncols=4)

    return draw_svg("History of the trials", (9.6, 3.4), draw)


def parameter_chart(
    name: str, distribution: BaseDistribution, trials: Sequence[FrozenTrial], best: FrozenTrial, metric: str
) -> str:
    """Draws the trials' values over one hyper-parameter."""
    shown = [trial for trial in trials if trial.value is not None and name in trial.params]

    def draw(figure: Figure, axes: Axes) -> None:
        def place(trial: FrozenTrial) -> float:
            value = trial.params[name]
            if isinstance(distribution, CategoricalDistribution):
                return float(distribution.choices.index(value))
            return float(value)

        for state, colour in ((TrialState.PRUNED, GREY), (TrialState.COMPLETE, BLUE)):
            of_state = [trial for trial in shown if trial.state == state]
            faces = colour if state == TrialState.COMPLETE else "none"
            axes.scatter(
                [place(trial) for trial in of_state],
                _values(of_state),
                facecolors=faces,
                edgecolors=colour,
                alpha=0.8,
                s=28,
            )
        axes.scatter([place(best)], _values([best]), facecolors="none", edgecolors=INK, linewidths=1.2, s=90)
        if isinstance(distribution, CategoricalDistribution):
            names = [short_name(str(choice), 14) for choice in distribution.choices]
            axes.set_xticks(range(len(names)), names)
            axes.set_xlim(-0.5, len(names) - 0.5)
        elif isinstance(distribution, FloatDistribution | IntDistribution):
            margin = 0.03 * (distribution.high - distribution.low)
            axes.set_xlim(distribution.low - margin, distribution.high + margin)
            if distribution.log:
                axes.set_xlim(distribution.low / 1.1, distribution.high * 1.1)
                axes.set_xscale("log")
                axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                # Matplotlib's own labels are formulas, and text in a report stays text.
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.xaxis.set_minor_formatter(NullFormatter())
            elif isinstance(distribution, IntDistribution) or distribution.step == 1:
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(name)
        axes.set_ylabel(metric)

    return draw_svg(f"{metric} over {name}", (4.6, 3.0), draw)


def _metric_name(metric: str) -> str:
    return metric.replace("_f1", " F1")


def _values(trials: Sequence[FrozenTrial]) -> np.ndarray:
    return np.array([trial.value for trial in trials], float)


def _best_table(searched: Searched) -> Table:
    rows = [[name, format_value(value), "searched"] for name, value in searched.study.best_params.items()]
    rows += [[name, format_value(value), "fixed"] for name, value in searched.fixed.items()]
    return Table("Best hyper-parameters", [Column("name"), Column("value", "number"), Column("")], rows)


def _trial_table(searched: Searched, trials: Sequence[FrozenTrial]) -> Table:
    names = list(searched.space)
    columns = [Column("trial", "number"), Column(_metric_name(searched.metric), "number")]
    columns += [Column(name, "number") for name in names] + [Column("time", "number"), Column("ended")]
    best = searched.study.best_trial.number
    rows = [
        [
            Cell(str(trial.number + 1), tag="best" if trial.number == best else ""),
            f"{trial.value:.4f}" if trial.value is not None else None,
            *(format_value(trial.params[name]) if name in trial.params else None for name in names),
            format_duration(trial.duration.total_seconds()) if trial.duration else None,
            ": ".join(filter(None, [_ENDED[trial.state], trial.user_attrs.get(REASON, "")])),
        ]
        for trial in trials[-TABLE_TRIALS:]
    ]
    caption = f"The last {TABLE_TRIALS} of {len(trials)} trials." if len(trials) > TABLE_TRIALS else ""
    return Table("Trials", columns, rows, caption)
