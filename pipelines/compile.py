"""Compiles every pipeline to compiled/<name>.json, and the GPU profiles to compiled/machines.json."""

import difflib
import json
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf import json_format
from rich.console import Console
from rich.table import Column, Table

from components.image import COMPONENT_IMAGE
from pipelines.machines import machines_json

PIPELINES = ("basic", "batch_classification")


def compile_pipeline(name: str, image: str = COMPONENT_IMAGE) -> dict[str, Any]:
    """Compiles one pipeline.

    Args:
        name: One of `PIPELINES`.
        image: The image that steps run in, best by digest; the default is the constant that submission replaces.

    Returns:
        The PipelineSpec as JSON: one document, since Vertex AI takes no platform features.

    Raises:
        ValueError: The pipeline uses a platform feature, which Vertex AI refuses.
    """
    pipeline = getattr(import_module(f"pipelines.{name}"), name)
    if json_format.MessageToDict(pipeline.platform_spec):
        raise ValueError(
            f"The pipeline {name} uses kfp-kubernetes or a workspace. Vertex AI refuses both: take them out."
        )
    spec = json_format.MessageToDict(pipeline.pipeline_spec)
    for executor in spec["deploymentSpec"]["executors"].values():
        if executor.get("container", {}).get("image") == COMPONENT_IMAGE:
            executor["container"]["image"] = image
    return spec


def to_json(document: dict[str, Any]) -> str:
    """Returns a document as it is committed: sorted and indented, so that a change is a small diff."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def difference(name: str, committed: str, current: str) -> list[str]:
    """Returns the lines of a unified diff between a committed file and what would be written now.

    The version of the kfp SDK is left out of the comparison, and so is the image: both say where a spec was compiled,
    not what it does.
    """
    before, after = (_comparable(text).splitlines() for text in (committed, current))
    return list(
        difflib.unified_diff(before, after, f"compiled/{name} (committed)", f"compiled/{name} (now)", lineterm="")
    )


def _comparable(text: str) -> str:
    try:
        document = json.loads(text)
    except ValueError:
        return text
    document.pop("sdkVersion", None)
    for executor in document.get("deploymentSpec", {}).get("executors", {}).values():
        executor.get("container", {}).pop("image", None)
    return to_json(document)


def _documents(image: str) -> Iterator[tuple[str, str]]:
    for name in PIPELINES:
        yield f"{name}.json", to_json(compile_pipeline(name, image))
    yield "machines.json", to_json(machines_json())


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
        gpu = sum("accelerator" in executor.get("container", {}).get("resources", {}) for executor in executors)
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
) -> None:
    """Compile every pipeline to JSON for Vertex AI.

    Example: python -m pipelines.compile --image europe-docker.pkg.dev/my-project/images/python@sha256:...
    """
    documents = dict(_documents(image))
    if check:
        _check(output, documents)
        return
    output.mkdir(parents=True, exist_ok=True)
    for name, text in documents.items():
        temporary = output / f".{name}.{os.getpid()}"
        temporary.write_text(text)
        temporary.replace(output / name)
    Console().print(_table(output, documents))


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
    if stale:
        errors.print("compiled/ is out of date: run `python -m pipelines.compile` and commit what it writes.")
        raise typer.Exit(1)
    Console().print(f"{len(documents)} files in {folder} are up to date.", highlight=False)


if __name__ == "__main__":
    typer.run(main)
