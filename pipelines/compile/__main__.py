"""Compiles every pipeline to compiled/<name>.json, and the GPU profiles to compiled/machines.json."""

import json
import os
import time
from collections.abc import Iterator
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from components.errors import InputError
from components.image import COMPONENT_IMAGE
from pipelines.compile import PIPELINES, compile_pipeline, difference, interface, to_json
from pipelines.machines import machines_json
from pipelines.machines.table import GKE_ACCELERATOR
from triggers import machine


def _documents(image: str) -> Iterator[tuple[str, str]]:
    for name in PIPELINES:
        yield f"{name}.json", to_json(compile_pipeline(name, image))
    yield "machines.json", to_json(machines_json())


class Target(StrEnum):
    """What a pipeline is compiled for."""

    VERTEX = "vertex"
    KFP = "kfp"


def _table(folder: Path, documents: dict[str, str]) -> Table:
    table = Table(
        Column("file", no_wrap=True), "steps", "GPU steps", "required parameters", "KiB", title=f"Compiled to {folder}"
    )
    for name, text in documents.items():
        document = json.loads(text)
        if "root" not in document:
            table.add_row(name, "", "", f"{len(document['machines'])} GPU profiles", f"{len(text) / 1024:.0f}")
            continue
        executors = document["deploymentSpec"]["executors"].values()
        gpu = sum(map(machine.asks_for_accelerator, executors))
        inputs = document["root"].get("inputDefinitions", {}).get("parameters", {})
        required = ", ".join(k for k, v in inputs.items() if not v.get("isOptional"))
        table.add_row(name, str(len(executors)), str(gpu), required, f"{len(text) / 1024:.0f}")
    return table


def main(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 with a diff when a file is out of date.")
    ] = False,
    image: Annotated[str, typer.Option(help="The image that steps run in, best by digest.")] = COMPONENT_IMAGE,
    output: Annotated[Path, typer.Option(help="The folder to write to, or to check.")] = Path("compiled"),
    target: Annotated[
        Target, typer.Option(help="vertex: JSON. kfp: YAML for a Kubeflow Pipelines server, in the folder kfp/.")
    ] = Target.VERTEX,
    pipeline_root: Annotated[str, typer.Option(help="kfp: where artifacts are kept, gs://, s3:// or minio://.")] = "",
    secret: Annotated[
        list[str] | None,
        typer.Option(help="kfp: VARIABLE=SECRET/KEY, an environment variable of every step from a Kubernetes secret."),
    ] = None,
    gpu_label: Annotated[
        str, typer.Option(help="kfp: the label of nodes that names their GPU; '' takes any GPU.")
    ] = GKE_ACCELERATOR,
) -> None:
    """Compile every pipeline, to JSON for Vertex AI or to YAML for Kubeflow Pipelines.

    Example: python -m pipelines.compile --image europe-docker.pkg.dev/my-project/images/python@sha256:...
    """
    for name in PIPELINES:
        import_module(f"pipelines.{name}")
    start = time.perf_counter()
    if target is Target.KFP:
        try:
            _write_for_kfp(image, output / "kfp", pipeline_root, secret or [], gpu_label)
        except InputError as error:
            Console(stderr=True).print(f"[bold red]{error.headline}[/]\n{error.remedy}", highlight=False)
            raise typer.Exit(2) from None
        return
    documents = dict(_documents(image))
    if check:
        _check(output, documents)
        return
    _show_interfaces(Console(highlight=False, soft_wrap=True), output, documents)
    for name, text in documents.items():
        _write(output / name, text)
    Console().print(_table(output, documents))
    Console().print(f"{len(documents)} files in {time.perf_counter() - start:.2f} s after imports.", highlight=False)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def _write_for_kfp(image: str, folder: Path, pipeline_root: str, secrets: list[str], gpu_label: str) -> None:
    try:
        from pipelines.compile.kubernetes import Secret, to_kfp
    except ImportError as error:
        raise InputError("kfp-kubernetes is missing.", 'pip install "kfp-transformers[kubernetes]"') from error

    parsed = tuple(Secret.parse(secret) for secret in secrets)
    for name in PIPELINES:
        _write(folder / f"{name}.yaml", to_kfp(compile_pipeline(name, image), pipeline_root, parsed, gpu_label))
    Console().print(f"Wrote {len(PIPELINES)} pipelines to {folder}.", highlight=False, soft_wrap=True)


def _show_interfaces(console: Console, folder: Path, documents: dict[str, str]) -> None:
    """Prints what changed for the callers of each pipeline whose committed file differs."""
    for name, text in documents.items():
        path = folder / name
        if path.exists() and difference(name, path.read_text(), text):
            try:
                before = json.loads(path.read_text())
            except ValueError:
                continue
            changes = interface.compare(before, json.loads(text))
            console.print(f"{name}: {interface.verdict(changes)}", markup=False)


def _check(folder: Path, documents: dict[str, str]) -> None:
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    stale = False
    for name, text in documents.items():
        path = folder / name
        lines = difference(name, path.read_text(), text) if path.exists() else [f"{path} does not exist."]
        stale = stale or bool(lines)
        for line in lines:
            errors.print(line, markup=False, style={"+": "green", "-": "red"}.get(line[:1]))
    for path in sorted(folder.glob("*.json")):
        if path.name not in documents:
            stale = True
            errors.print(f"{path} belongs to no pipeline: delete it, or add the pipeline to PIPELINES.", markup=False)
            errors.print(f"{path.name}: BREAKING: the pipeline was removed", markup=False)
    _show_interfaces(errors, folder, documents)
    if stale:
        errors.print("compiled/ is out of date: run `python -m pipelines.compile` and commit what it writes.")
        raise typer.Exit(1)
    Console().print(f"{len(documents)} files in {folder} are up to date.", highlight=False)


if __name__ == "__main__":
    typer.run(main)
