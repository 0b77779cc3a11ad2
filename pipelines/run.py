"""Runs a pipeline on this machine, without any message: the same compiled spec, one process, one record."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from components.errors import InputError
from emulator.records import JobRecord, TaskRecord
from emulator.runner import run_job
from emulator.watch import Watch, metrics_table
from pipelines.compile import PIPELINES, compile_pipeline
from triggers.errors import PermanentError
from triggers.spec import check_parameters, declared_parameters, typed


def absolute_paths(spec: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Makes relative paths absolute, because a step's working directory is the run's folder.

    Args:
        spec: The compiled pipeline.
        parameters: Its parameters by name.

    Returns:
        The parameters; a text is taken for a path when its name ends in `_uri`, or when a file or folder is there now,
        and it has no scheme.
    """
    declared = declared_parameters(spec)

    def absolute(name: str, value: Any) -> Any:
        if declared[name]["parameterType"] != "STRING" or not value or "://" in value:
            return value
        path = Path(value).expanduser()
        # A version in a model store here: the store's folder for a model is there, and what follows the @ is not.
        stored = Path(value.rpartition("@")[0]).expanduser()
        is_path = name.endswith("_uri") or ("/" in value and (path.exists() or ("@" in value and stored.is_dir())))
        return str(path.absolute()) if is_path else value

    return {name: absolute(name, value) for name, value in parameters.items()}


def show_results(console: Console, tasks: Iterable[TaskRecord]) -> None:
    """Prints what a person wants to see of a run: metrics, where reports are, and what the last steps returned."""
    for task in tasks:
        for artifacts in task.outputs.artifacts.values():
            for artifact in artifacts:
                if artifact.type == "system.Metrics" and artifact.metadata:
                    console.print(metrics_table(artifact.metadata))
                elif artifact.type in ("system.HTML", "system.Markdown"):
                    console.print(f"Report: {artifact.path}", highlight=False, soft_wrap=True)
        for name, value in task.outputs.parameters.items():
            if not task.dag:
                console.print(f"{task.name}.{name}: {value}", highlight=False, markup=False, soft_wrap=True)


def _texts(options: list[str]) -> dict[str, str]:
    texts = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise InputError(f"--param {option} has no =.", "Write --param NAME=VALUE.")
        texts[name] = value
    return texts


def run(name: str, options: list[str], folder: Path, enable_caching: bool, console: Console) -> JobRecord:
    """Compiles a pipeline and runs it here.

    Args:
        name: One of `pipelines.compile.PIPELINES`.
        options: Parameters as `NAME=VALUE`, typed from the compiled spec.
        folder: Where runs are kept, each in a folder of its own, beside the cache that they share.
        enable_caching: False runs every step anew.
        console: Where progress and results are printed.

    Returns:
        The record of the run.

    Raises:
        InputError: There is no such pipeline, or an option is malformed.
        PermanentError: A parameter is unknown, missing or of the wrong type.
    """
    if name not in PIPELINES:
        raise InputError(f"There is no pipeline {name!r}.", f"There are: {', '.join(PIPELINES)}.")
    spec = compile_pipeline(name)
    parameters = absolute_paths(spec, check_parameters(spec, typed(spec, _texts(options))))
    run_folder = folder.absolute() / f"{name}-{datetime.now():%Y%m%d-%H%M%S-%f}"
    console.print(f"Running {name} in {run_folder}", highlight=False, soft_wrap=True)
    with Watch(console) as watch:

        def show(task: TaskRecord) -> None:
            if not task.dag:
                note = "from the cache" if task.cached else task.error
                watch.show(task.path, task.name, task.state, task.start, task.end, note)

        return run_job(
            spec,
            parameters,
            run_folder,
            enable_caching=None if enable_caching else False,
            cache_folder=folder.absolute() / ".cache",
            on_task=show,
        )


def main(
    name: Annotated[str, typer.Argument(help=f"The pipeline: {', '.join(PIPELINES)}.")],
    param: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter; may be repeated.")] = None,
    folder: Annotated[Path, typer.Option(help="Where runs and their cache are kept.")] = Path("out/runs"),
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Take finished steps from the cache.")] = True,
) -> None:
    """Run a pipeline on this machine.

    Example: python -m pipelines.run basic --param first=trans --param second=former
    """
    console, errors = Console(), Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        record = run(name, param or [], folder, cache, console)
    except (InputError, PermanentError) as error:
        errors.print(f"[bold red]{error.headline}[/]")
        errors.print(error.remedy, markup=False)
        raise typer.Exit(2) from None
    show_results(console, record.tasks)
    if record.state != "SUCCEEDED":
        errors.print(f"[bold red]The run ended as {record.state}.[/]")
        errors.print(str(record.error.get("message", "")), markup=False)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
