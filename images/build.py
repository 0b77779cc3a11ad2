"""Builds the images that steps run in, with docker, podman or buildah: `python -m images.build --help`."""

import os
import shlex
import subprocess
import sys
from enum import StrEnum
from typing import Annotated

import typer

from emulator.engines import Engine, engines
from images.sources import NAME, ROOT, source_digest, version


class Target(StrEnum):
    """What an image is for."""

    CPU = "cpu"
    GPU = "gpu"


def tag_of(target: Target, repository: str = "localhost") -> str:
    """Returns an image's full name: the version, and beside it the kind of hardware for GPUs."""
    return f"{repository}/{NAME}:{version()}{'-gpu' if target is Target.GPU else ''}"


def build_command(engine: Engine, target: Target, repository: str = "localhost") -> list[str]:
    """Returns the command line that builds an image.

    Args:
        engine: What builds it.
        target: Which one.
        repository: Where it is to be pushed to.
    """
    values = {"VERSION": version(), "SOURCE_DIGEST": source_digest()}
    arguments = [f"--file={ROOT / 'images' / 'Dockerfile'}", f"--target={target}"]
    arguments += [f"--build-arg={name}={value}" for name, value in values.items()]
    arguments += shlex.split(os.environ.get("BUILD_ARGS", ""))
    return engine.build_command(tag_of(target, repository), ROOT, arguments)


def main(
    targets: Annotated[list[Target] | None, typer.Argument(help="cpu, gpu; both when none is given.")] = None,
    repository: Annotated[
        str, typer.Option(help="Where images are pushed to, such as europe-west4-docker.pkg.dev/my-project/images.")
    ] = "localhost",
    push: Annotated[bool, typer.Option("--push", help="Push what was built.")] = False,
) -> None:
    """Build the images that steps run in.

    Options of the engine are taken from BUILD_ARGS, such as "--build-arg CUDA=130" or "--build-arg BASE_IMAGE=...".

    Example: python -m images.build cpu --repository europe-west4-docker.pkg.dev/my-project/images --push
    """
    found = engines()
    if not found:
        print(
            "None of docker, podman and buildah works on this machine: install one, or use Cloud Build.",
            file=sys.stderr,
        )
        raise typer.Exit(1)
    for target in targets or list(Target):
        _run(build_command(found[0], target, repository))
        if push:
            _run([found[0].name, "push", tag_of(target, repository)])
        print(f"Built {tag_of(target, repository)} with {found[0].name}.")


def _run(command: list[str]) -> None:
    code = subprocess.run(command).returncode
    if code:
        raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(main)
