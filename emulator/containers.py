"""Runs container components: on the project's own image the command here, on another image in a container.

A container sees the folder of its own task, which it may write to, the artifacts that are its inputs, and nothing else
of this machine; it has no network unless `CONTAINER_NETWORK` names one. Both are stricter than Vertex AI, so what runs
here does not rely on what lies around on this machine.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from components.errors import InputError
from components.image import COMPONENT_IMAGE, TRAINING_IMAGE
from emulator.children import MARK
from emulator.engines import CONTAINERS, Engine, Mount, find_image
from emulator.steps import run_step

EXECUTOR_MODULE = "kfp.dsl.executor_main"
# An input artifact with this in its metadata is a folder that the program may write to.
WRITABLE = "writable"
# The output artifact whose text says why a program failed.
FAILURE = "failure"
_MAX_FAILURE = 2000
# A tag stays when the image behind it is built anew; the image's id in the environment keeps the cache from lying.
_IMAGE_ID = "KFP_TRANSFORMERS_IMAGE_ID"
# What buildah itself adds at the end of a program's output.
_OF_ENGINE = re.compile(r"^(subprocess exited with status \d+|Error: exit status \d+)$")


def is_container_component(container: dict[str, Any]) -> bool:
    """Returns whether an executor's container is a program of an image, and no Python function of the spec."""
    parts = [*container.get("command", []), *container.get("args", [])]
    return bool(container) and not any(EXECUTOR_MODULE in str(part) for part in parts)


def is_own_image(image: str) -> bool:
    """Returns whether this environment stands for an image: the constant one, or what `COMPONENT_IMAGE` says."""
    return image.startswith(COMPONENT_IMAGE.partition(":")[0] + ":") or image == os.environ.get("COMPONENT_IMAGE")


def check_container(task: str, container: dict[str, Any]) -> InputError | None:
    """Returns why a container component cannot run here; None when it can.

    Args:
        task: The name of the task, for the message.
        container: The executor's container.
    """
    image = str(container.get("image", ""))
    if is_own_image(image):
        if container.get("command"):
            return None
        return InputError(
            f"The task {task} names no command, and the image {image} has no program of its own.",
            "Give the container a command.",
        )
    if image == TRAINING_IMAGE:
        return InputError(
            f"The task {task} trains in an image that the run names, and it still carries the placeholder {image}.",
            "Submit it through the trigger or pipelines.run, with the parameter training_image.",
        )
    if find_image(image):
        return None
    return InputError(
        f"The task {task} is a container component of the image {image}, and none of docker, podman and buildah has "
        "that image on this machine.",
        f"Build or pull it there (docker pull {image}), or run the pipeline on Vertex AI. If the environment of the "
        f"emulator stands for it, start the emulator with COMPONENT_IMAGE={image}.",
    )


def complete_containers(spec: dict[str, Any]) -> dict[str, Any]:
    """Returns a pipeline whose container components say all that will run: the image's entry point, and the image's id.

    Args:
        spec: A compiled pipeline; it is not changed.
    """
    deployment = spec.get("deploymentSpec", {})
    executors = dict(deployment.get("executors", {}))
    for label, executor in executors.items():
        container = executor.get("container", {})
        if is_container_component(container) and not is_own_image(container["image"]):
            found = find_image(container["image"])
            if found:
                executors[label] = {**executor, "container": _complete(container, found[1])}
    return spec | {"deploymentSpec": deployment | {"executors": executors}}


def _complete(container: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    command, args = container.get("command") or [], container.get("args") or []
    if not command:
        command, args = image.get("Entrypoint") or [], args or image.get("Cmd") or []
    env = [*container.get("env", []), {"name": _IMAGE_ID, "value": image["id"]}]
    return {**container, "command": command, "args": args, "env": env}


@dataclass(frozen=True)
class Step:
    """A step that is about to run.

    Attributes:
        image: The image.
        command: The program and its arguments, placeholders filled.
        env: The variables that the spec sets.
        folder: The task's own folder.
        executor_input: What kfp gives a step: its inputs and where its outputs go.
    """

    image: str
    command: list[str]
    env: dict[str, str]
    folder: Path
    executor_input: dict[str, Any]

    @cached_property
    def engine(self) -> Engine | None:
        """What runs it in a container; None where it runs in this environment."""
        if self._is_python or is_own_image(self.image):
            return None
        found = find_image(self.image)
        if not found:
            raise InputError(f"The image {self.image} is no longer on this machine.", "Build or pull it again.")
        return found[0]

    @property
    def about(self) -> dict[str, Any]:
        """What the record keeps of a container component: image, command, and engine ("" for this environment)."""
        if self._is_python:
            return {}
        return {"image": self.image, "command": self.command, "engine": self.engine.name if self.engine else ""}

    def run(self, log: Callable[[str], None]) -> str:
        """Runs it.

        Args:
            log: Takes each line that it prints.

        Returns:
            Why it failed; "" when it did not.
        """
        if self._is_python:
            return run_step(self.command, self.env, log)
        for path in self._outputs():
            path.parent.mkdir(parents=True, exist_ok=True)
        if self.engine:
            error = self._run_in_container(self.engine, log)
        else:
            # `python` in the command is the image's, and this environment is the image here.
            programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
            error = run_step(self.command, {"PATH": programs, **self.env}, log)
        if error:
            return self._failure() or error
        missing = self._missing_parameter()
        if missing:
            return f"The program ended without writing its output {missing}."
        self._write_executor_output()
        return ""

    @property
    def _is_python(self) -> bool:
        return not is_container_component({"command": self.command})

    def _run_in_container(self, engine: Engine, log: Callable[[str], None]) -> str:
        if uri := self._remote_input():
            return f"A container cannot see {uri} on this machine: give a local path instead."
        if not self.command:
            return f"The image {self.image} has no entry point, and the component names no command."
        mark = os.environ.get(MARK, "")
        container = engine.prepare(f"kfp-{os.getpid()}-{os.urandom(4).hex()}", self.image)
        note = Path(mark or self.folder, CONTAINERS, container)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(engine.name)
        env = {"HOME": "/tmp", **self.env, MARK: mark}  # noqa: S108 - the user of this process has no home in the image
        network = os.environ.get("CONTAINER_NETWORK", "none")
        command = engine.start_command(container, self.image, self.command, list(self._mounts()), env, network)
        try:
            return run_step(command, {}, log, ignored=_OF_ENGINE)
        finally:
            engine.remove(container)
            note.unlink(missing_ok=True)

    def _mounts(self) -> Iterator[Mount]:
        yield Mount(self.folder, writable=True)
        for artifacts in self.executor_input.get("inputs", {}).get("artifacts", {}).values():
            for artifact in artifacts["artifacts"]:
                path = Path(artifact["uri"])
                if path.exists() and not path.is_relative_to(self.folder):
                    yield Mount(path, writable=bool(artifact.get("metadata", {}).get(WRITABLE)))

    def _remote_input(self) -> str:
        inputs = self.executor_input.get("inputs", {}).get("artifacts", {})
        uris = [artifact["uri"] for each in inputs.values() for artifact in each["artifacts"]]
        return next((uri for uri in uris if "://" in uri), "")

    def _outputs(self) -> Iterator[Path]:
        outputs = self.executor_input.get("outputs", {})
        yield Path(outputs["outputFile"])
        for parameter in outputs.get("parameters", {}).values():
            yield Path(parameter["outputFile"])
        for artifacts in outputs.get("artifacts", {}).values():
            yield from (Path(artifact["uri"]) for artifact in artifacts["artifacts"])

    @property
    def _failure_file(self) -> Path | None:
        outputs = self.executor_input.get("outputs", {}).get("artifacts", {})
        found = outputs.get(FAILURE, {}).get("artifacts", [])
        return Path(found[0]["uri"]) if found else None

    def _failure(self) -> str:
        """Returns what the program itself wrote about its failure."""
        file = self._failure_file
        if file is None or not file.is_file():
            return ""
        with file.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(_MAX_FAILURE).strip()

    def _missing_parameter(self) -> str:
        parameters = self.executor_input.get("outputs", {}).get("parameters", {})
        return next((name for name, each in parameters.items() if not Path(each["outputFile"]).is_file()), "")

    def _write_executor_output(self) -> None:
        # kfp.local takes no result from the cache that has an artifact without a file.
        if self._failure_file:
            self._failure_file.touch()
        # On Vertex AI the launcher tells which artifacts there are; a program may do so too, to give them metadata.
        outputs = self.executor_input.get("outputs", {})
        file = Path(outputs["outputFile"])
        if not file.exists():
            file.write_text(json.dumps({"artifacts": outputs.get("artifacts", {})}))
