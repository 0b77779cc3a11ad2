"""What a check of a compiled pipeline looks at, and what it says."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from components.errors import InputError
from emulator.custom_jobs import CustomJobs, unwrap


class Severity(StrEnum):
    """How bad it is: an error fails or is wrong, a warning will cost someone time, a note is worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Target(StrEnum):
    """Where the pipeline is to run."""

    VERTEX = "vertex"
    KFP = "kfp"


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        severity: How bad it is.
        where: The task, step or parameter, in words.
        message: What is the matter.
        remedy: What to do about it.
        keys: Keys of the file, outermost first, on the way to the place.
    """

    severity: Severity
    where: str
    message: str
    remedy: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A container that one or more tasks run.

    Attributes:
        label: The executor's key in the file.
        container: Its container, out of its Custom Job if it was in one.
        tasks: The tasks that run it.
    """

    label: str
    container: dict[str, Any]
    tasks: tuple["Task", ...]

    @property
    def where(self) -> str:
        """The step in words."""
        return f"step {self.label.removeprefix('exec-')}"

    @property
    def keys(self) -> tuple[str, ...]:
        """The way to it in the file."""
        return ("executors", self.label)

    @property
    def command(self) -> list[str]:
        """Everything that its process is started with."""
        return [str(part) for part in (*self.container.get("command", []), *self.container.get("args", []))]

    @property
    def cached(self) -> bool:
        """Whether a task that runs it may take the result of an earlier run."""
        return any(task.spec.get("cachingOptions", {}).get("enableCache") for task in self.tasks)


@dataclass(frozen=True)
class Task:
    """A task of a pipeline or of a pipeline inside it."""

    name: str
    spec: dict[str, Any]
    parent: str
    component: dict[str, Any]

    @property
    def where(self) -> str:
        """The task in words."""
        return f"task {self.name}" + (f" of {self.parent.removeprefix('comp-')}" if self.parent else "")

    @property
    def keys(self) -> tuple[str, ...]:
        """The way to it in the file."""
        return (*(("components", self.parent) if self.parent else ("root",)), "tasks", self.name)


@dataclass(frozen=True)
class Subject:
    """A file with a compiled pipeline.

    Attributes:
        path: The file.
        text: What it says.
        documents: The documents in it: the pipeline, and what platforms need.
        target: Where it is to run.
    """

    path: Path
    text: str
    documents: tuple[dict[str, Any], ...]
    target: Target = Target.VERTEX

    @cached_property
    def raw(self) -> dict[str, Any]:
        """The pipeline as it stands in the file."""
        return self.documents[0]

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The pipeline, its steps out of their Custom Jobs."""
        return unwrap(self.raw)[0]

    @cached_property
    def custom_jobs(self) -> CustomJobs:
        """The Custom Jobs, by executor."""
        return unwrap(self.raw)[1]

    @cached_property
    def tasks(self) -> list[Task]:
        """Every task."""
        components = self.spec.get("components", {})
        dags = {"": self.spec["root"]} | {name: each for name, each in components.items() if "dag" in each}
        return [
            Task(name, task, parent, components.get(task.get("componentRef", {}).get("name"), {}))
            for parent, component in dags.items()
            for name, task in component.get("dag", {}).get("tasks", {}).items()
        ]

    @cached_property
    def steps(self) -> list[Step]:
        """Every container that a task runs."""
        steps = []
        for label, executor in self.executors.items():
            tasks = tuple(task for task in self.tasks if task.component.get("executorLabel") == label)
            if "container" in executor:
                steps.append(Step(label, executor["container"], tasks))
        return steps

    @property
    def executors(self) -> dict[str, Any]:
        """The executors, by label."""
        executors: dict[str, Any] = self.spec.get("deploymentSpec", {}).get("executors", {})
        return executors

    def line_of(self, keys: tuple[str, ...]) -> int:
        """Returns the line of a place in the file, counted from 1; the last of the keys that is found in order."""
        position = 0
        for key in keys:
            found = re.compile(rf'^[ \t]*"?{re.escape(key)}"?:', re.MULTILINE).search(self.text, position)
            if not found:
                break
            position = found.end()
        return self.text.count("\n", 0, position) + 1


Check = Callable[[Subject], Iterator[Finding]]
CHECKS: dict[str, Check] = {}


def register(name: str) -> Callable[[Check], Check]:
    """Registers a check under the name by which it is ignored."""

    def add(check: Check) -> Check:
        CHECKS[name] = check
        return check

    return add


def read_spec(path: Path, target: Target = Target.VERTEX) -> Subject:
    """Reads a compiled pipeline, JSON or YAML.

    Raises:
        InputError: The file cannot be read, or is no compiled pipeline.
    """
    remedy = "Name a file that kfp 2 compiled: JSON or YAML with the keys root and deploymentSpec."
    try:
        text = path.read_text()
        if text.lstrip().startswith("{"):
            documents = [json.loads(text)]
        else:
            documents = [each for each in yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if each]
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}.", remedy) from error
    if not documents or not all(isinstance(each, dict) for each in documents):
        raise InputError(f"{path} is no compiled pipeline.", remedy)
    # What Vertex AI's own client sends has the pipeline inside a job.
    if "pipelineSpec" in documents[0]:
        documents[0] = documents[0]["pipelineSpec"]
    if not isinstance(documents[0].get("root"), dict) or "deploymentSpec" not in documents[0]:
        raise InputError(f"{path} is no compiled pipeline.", remedy)
    return Subject(path, text, tuple(documents), target)
