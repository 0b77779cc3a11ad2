"""Runs a pipeline without any message: on this machine, in one process with one record, or on Vertex AI."""

import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from components.errors import InputError
from emulator.records import JobRecord, TaskRecord
from emulator.runner import run_job
from emulator.watch import Watch, metrics_table
from pipelines.compile import PIPELINES, compile_pipeline
from pipelines.machines import machines_json
from triggers import machine as machine_profiles
from triggers.errors import PermanentError
from triggers.spec import check_parameters, declared_parameters, typed
from triggers.training_image import with_training_image


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


def _texts(options: list[str], flag: str = "--param") -> dict[str, str]:
    texts = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise InputError(f"{flag} {option} has no =.", f"Write {flag} NAME=VALUE.")
        texts[name] = value
    return texts


def run(
    name: str,
    options: list[str],
    folder: Path,
    enable_caching: bool,
    console: Console,
    machines: Sequence[str] = (),
) -> JobRecord:
    """Compiles a pipeline and runs it here.

    Args:
        name: One of `pipelines.compile.PIPELINES`.
        options: Parameters as `NAME=VALUE`, typed from the compiled spec.
        folder: Where runs are kept, each in a folder of its own, beside the cache that they share.
        enable_caching: False runs every step anew.
        console: Where progress and results are printed.
        machines: GPU profiles in order of preference. The steps run here all the same; what they would run on is
            recorded.

    Returns:
        The record of the run.

    Raises:
        InputError: There is no such pipeline, or an option is malformed.
        PermanentError: A parameter is unknown, missing or of the wrong type.
    """
    if name not in PIPELINES:
        raise InputError(f"There is no pipeline {name!r}.", f"There are: {', '.join(PIPELINES)}.")
    spec = compile_pipeline(name)
    if machines:
        chosen = machine_profiles.choose(machines_json()["machines"], list(machines))
        console.print(_what_a_machine_does(name, spec, str(chosen)), highlight=False, markup=False, soft_wrap=True)
        spec = machine_profiles.lay(spec, chosen.profile)
    parameters = absolute_paths(spec, check_parameters(spec, typed(spec, _texts(options))))
    # Whoever runs it here by hand may use any image that is here.
    spec = with_training_image(spec, parameters, allowed=None)
    run_folder = folder.absolute() / f"{name}-{datetime.now():%Y%m%d-%H%M%S-%f}"
    console.print(f"Running {name} in {run_folder}", highlight=False, soft_wrap=True)
    with Watch(console) as watch:

        def show(task: TaskRecord) -> None:
            if not task.dag:
                note = "from the cache" if task.cached else task.error or _custom_job(task)
                watch.show(task.path, task.name, task.state, task.start, task.end, note)

        return run_job(
            spec,
            parameters,
            run_folder,
            enable_caching=None if enable_caching else False,
            cache_folder=folder.absolute() / ".cache",
            on_task=show,
        )


def _what_a_machine_does(name: str, spec: dict[str, Any], machine: str) -> str:
    if any(map(machine_profiles.asks_for_accelerator, spec["deploymentSpec"]["executors"].values())):
        return f"The GPU steps are for {machine}."
    return f"No step of {name} asks for a GPU, so the machine {machine} changes nothing."


def _custom_job(task: TaskRecord) -> str:
    job = task.custom_job
    return f"for a Custom Job, {job['strategy']}, on {job['machineType']}" if job else ""


class Backend(StrEnum):
    """Where a pipeline runs."""

    LOCAL = "local"
    VERTEX = "vertex"


def _submit(console: Console, name: str, texts: dict[str, str], **options: Any) -> None:
    # What submits is not needed for a run here.
    from pipelines.submit import console_address, submit

    if name not in PIPELINES:
        raise InputError(f"There is no pipeline {name!r}.", f"There are: {', '.join(PIPELINES)}.")
    job, submitted, existed = submit(name, texts, **options)
    console.print(f"The job {job} {'was already submitted' if existed else 'is submitted'}.", markup=False)
    if submitted.machine.name:
        console.print(_what_a_machine_does(name, compile_pipeline(name), str(submitted.machine)), markup=False)
    if not os.environ.get("AIPLATFORM_EMULATOR_HOST"):
        console.print(console_address(job), markup=False)


def main(
    name: Annotated[str, typer.Argument(help=f"The pipeline: {', '.join(PIPELINES)}.")],
    param: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter; may be repeated.")] = None,
    folder: Annotated[Path, typer.Option(help="Where runs and their cache are kept.")] = Path("out/runs"),
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Take finished steps from the cache.")] = True,
    machine: Annotated[list[str] | None, typer.Option(help="A GPU profile; several in order of preference.")] = None,
    backend: Annotated[
        Backend, typer.Option(help="local: this machine. vertex: Vertex AI, or AIPLATFORM_EMULATOR_HOST.")
    ] = Backend.LOCAL,
    run_key: Annotated[str, typer.Option(help="vertex: the same key is the same run, such as daily-{date}.")] = "",
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="vertex: a label of the job.")] = None,
) -> None:
    """Run a pipeline on this machine, or submit it to Vertex AI as a message would.

    Example: python -m pipelines.run basic --param first=trans --param second=former
    """
    console, errors = Console(), Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        if backend is Backend.VERTEX:
            options = {"machines": machine or [], "run_key": run_key, "labels": _texts(label or [], "--label")}
            screen = Console(highlight=False, soft_wrap=True)
            _submit(screen, name, _texts(param or []), enable_caching=cache, **options)
            return
        if run_key or label:
            raise InputError("--run-key and --label are for --backend vertex.", "Add it, or leave them out.")
        record = run(name, param or [], folder, cache, console, machine or [])
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
