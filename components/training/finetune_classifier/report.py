"""Shows a training run: a page with its curves and settings, and logs for TensorBoard."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.charts import BLUE, GREY, RED, draw_svg
from components.progress import format_duration
from components.reports import Chart, Column, Page, Table, Tile
from components.training.finetune_classifier.callbacks import evaluations_of


def render_report(
    metadata: Mapping[str, Any],
    metrics: Mapping[str, float],
    history: Sequence[Mapping[str, float]],
    notes: Sequence[str],
) -> str:
    """Returns the page of a training run.

    Args:
        metadata: The Model's metadata.
        metrics: The best checkpoint's metrics.
        history: Trainer's log.
        notes: What was done to the base model, and what a reader must know of the data.
    """
    evaluations = evaluations_of([dict(entry) for entry in history])
    page = Page(
        "Fine-tuning",
        f"{len(metadata['labels'])} labels"
        + (f", base model {metadata['base_model']}" if metadata["base_model"] else ""),
        notes=[f"{note[:1].upper()}{note[1:]}." for note in notes],
        tiles=[
            Tile("macro F1, validation", f"{metrics['macro_f1']:.3f}"),
            Tile("accuracy, validation", f"{metrics['accuracy']:.3f}"),
            Tile("loss, validation", f"{metrics['loss']:.3f}"),
            Tile("epochs", f"{metrics['epochs']:g}"),
            Tile("time", format_duration(metrics["seconds"])),
            Tile("rows per second", f"{metrics['rows_per_second']:,.0f}"),
        ],
        footer=[
            "The training loss is the one that is minimized: with class weights, label smoothing, dropout and hidden"
            " tokens, where they are set.",
            "The validation loss is the mean negative log-likelihood of the true label, in nats.",
        ],
    )
    best = int(metrics["best_step"])
    losses = [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]
    rates = [(entry["step"], entry["learning_rate"]) for entry in history if "learning_rate" in entry]
    page.charts.append(Chart("Loss", _loss_chart(losses, evaluations, best), "Dotted: the checkpoint that was kept."))
    page.charts.append(
        Chart(
            "Validation", _metric_chart(evaluations, best), f"The best by {metadata['metric']} is after step {best:,}."
        )
    )
    page.charts.append(Chart("Learning rate", _rate_chart(rates), "After each step, as the schedule has it."))
    page.tables.append(
        Table(
            "Evaluations",
            [Column(name, "number") for name in ("step", "epoch", "loss", "accuracy", "macro F1")],
            [
                [int(one["step"]), *(f"{one[name]:.3f}" for name in ("epoch", "loss", "accuracy", "macro_f1"))]
                for one in evaluations
            ],
        )
    )
    how = ("device", "precision", "processes", "max_length", "steps", "resumed_after_step")
    settings = {**metadata["hyperparameters"], **{name: metadata[name] for name in how}, **metadata["versions"]}
    rows = [[name, "the model's own" if value is None else str(value)] for name, value in settings.items()]
    page.tables.append(Table("Settings", [Column("name"), Column("value")], rows))
    return page.render()


def write_logs(history: Sequence[Mapping[str, float]], folder: Path) -> None:
    """Writes the whole history, also of what was trained before a restart, as TensorBoard's event files.

    Args:
        history: Trainer's log.
        folder: The folder to write.
    """
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for entry in history:
            for name, value in entry.items():
                if name.startswith("eval_"):
                    tag = f"validation/{name.removeprefix('eval_')}"
                elif name in ("loss", "grad_norm", "learning_rate"):
                    tag = f"train/{name}"
                else:
                    continue
                writer.add_scalar(tag, value, int(entry["step"]), walltime=entry["time"])


def _loss_chart(losses: Sequence[tuple[float, float]], evaluations: Sequence[Mapping[str, float]], best: int) -> str:
    def draw(figure: Figure, axes: Axes) -> None:
        axes.plot(*zip(*losses, strict=True), color=GREY, linewidth=1.0, label="training")
        steps = [one["step"] for one in evaluations]
        axes.plot(steps, [one["loss"] for one in evaluations], color=RED, marker="o", markersize=3, label="validation")
        _finish(axes, best, "loss")
        axes.set_ylim(bottom=0)

    return draw_svg("Training and validation loss by step", (4.6, 3.2), draw)


def _metric_chart(evaluations: Sequence[Mapping[str, float]], best: int) -> str:
    def draw(figure: Figure, axes: Axes) -> None:
        steps = [one["step"] for one in evaluations]
        for name, label, colour in (("macro_f1", "macro F1", BLUE), ("accuracy", "accuracy", GREY)):
            axes.plot(steps, [one[name] for one in evaluations], color=colour, marker="o", markersize=3, label=label)
        _finish(axes, best, "share")
        axes.set_ylim(0, 1)

    return draw_svg("Validation metrics by step", (4.6, 3.2), draw)


def _rate_chart(rates: Sequence[tuple[float, float]]) -> str:
    def draw(figure: Figure, axes: Axes) -> None:
        axes.plot(*zip(*rates, strict=True), color=BLUE, linewidth=1.2)
        axes.set(xlabel="step", ylabel="learning rate")
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))

    return draw_svg("Learning rate by step", (4.6, 3.2), draw)


def _finish(axes: Axes, best: int, unit: str) -> None:
    axes.axvline(best, color=GREY, linewidth=0.8, linestyle=":")
    axes.set(xlabel="step", ylabel=unit)
    axes.legend()
