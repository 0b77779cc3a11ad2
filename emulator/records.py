"""What is kept of a job and of each of its tasks: the record.json in a job's folder.

A record is written whole (to a temporary file, then moved), so a reader never sees half of one. While a job's process
runs, only that process writes it; before and after, only whoever started the process does.
"""

import dataclasses
import json
import os
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

JOB_FILE, RECORD_FILE, LOG_FILE, ARTIFACTS_FOLDER = "job.json", "record.json", "log.txt", "artifacts"
FINAL_STATES = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "NOT_TRIGGERED"})

# google.rpc.Code, as Vertex AI gives it for a pipeline whose task failed, was cancelled, or was lost with its process.
FAILED_PRECONDITION, CANCELLED, INTERNAL = 9, 1, 13


def now() -> str:
    """Returns this moment in UTC as RFC 3339 with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass
class ArtifactRecord:
    """An artifact that a task took or made.

    Attributes:
        name: Its name, as the step sees it.
        type: Its schema title, such as `system.Dataset`.
        uri: Where it is; on this machine the same as `path`.
        path: The file or folder.
        metadata: What the step said about it.
    """

    name: str
    type: str
    uri: str
    path: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class Values:
    """The inputs or the outputs of a task: parameters by name, and lists of artifacts by name."""

    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, list[ArtifactRecord]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Values":
        """Makes the values from their JSON form."""
        artifacts = {
            name: [ArtifactRecord(**item) for item in items] for name, items in document.get("artifacts", {}).items()
        }
        return cls(document.get("parameters", {}), artifacts)


@dataclass
class TaskRecord:
    """What is known of one task.

    Attributes:
        path: Unique within the job: the names of the tasks around it and its own, joined by `/`. An iteration of a
            loop is named `<loop>-iteration-<n>`.
        name: The task's name in the pipeline.
        component: The name of its component, without the compiler's prefix `comp-`.
        title: What the pipeline's author calls it: its display name, or its name.
        parent: The path of the task around it (a sub-pipeline, a loop, a condition, an exit handler); "" at the top.
        state: RUNNING, SUCCEEDED, FAILED, CANCELLED, or NOT_TRIGGERED (its condition was false, or a task that it
            depends on failed).
        start: When it started, UTC, RFC 3339.
        end: When it ended; "" while it runs.
        inputs: What it was given, its defaults included.
        outputs: What it made.
        error: Why it failed; "" otherwise.
        cached: Whether its outputs are those of an earlier run.
        dag: Whether it is a task around others, which runs nothing itself.
        custom_job: The Custom Job that the step stands for: its name, machine and strategy; empty for a plain step.
        container: A container component's image, command and engine ("" for the present environment); empty for others.
    """

    path: str
    name: str
    component: str
    title: str = ""
    parent: str = ""
    state: str = "RUNNING"
    start: str = ""
    end: str = ""
    inputs: Values = field(default_factory=Values)
    outputs: Values = field(default_factory=Values)
    error: str = ""
    cached: bool = False
    dag: bool = False
    custom_job: dict[str, Any] = field(default_factory=dict)
    container: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "TaskRecord":
        """Makes the record from its JSON form."""
        values = {key: Values.from_json(document[key]) for key in ("inputs", "outputs")}
        return cls(**{**document, **values})

    @property
    def finished(self) -> bool:
        """Whether its state will not change any more."""
        return self.state in FINAL_STATES


@dataclass
class JobRecord:
    """What is known of one job.

    Attributes:
        name: Its resource name, `projects/P/locations/L/pipelineJobs/ID`.
        state: PENDING, RUNNING, CANCELLING, SUCCEEDED, FAILED or CANCELLED.
        created: When it was accepted, UTC, RFC 3339.
        start: When its process started; "" before.
        end: When it ended; "" before.
        updated: When the record was last written.
        error: `{"code", "message"}` of a failed job; empty otherwise.
        tasks: Its tasks in the order of their start.
        outputs: The outputs of the whole pipeline.
    """

    name: str
    state: str = "PENDING"
    created: str = field(default_factory=now)
    start: str = ""
    end: str = ""
    updated: str = ""
    error: dict[str, Any] = field(default_factory=dict)
    tasks: list[TaskRecord] = field(default_factory=list)
    outputs: Values = field(default_factory=Values)

    @property
    def id(self) -> str:
        """The last part of the resource name."""
        return self.name.rsplit("/", 1)[-1]

    @property
    def finished(self) -> bool:
        """Whether the job has ended."""
        return self.state in FINAL_STATES

    def task(self, name: str) -> TaskRecord:
        """Returns a task by its path, or by its name where only one task has it.

        Raises:
            KeyError: There is no such task, or more than one has that name.
        """
        found = [task for task in self.tasks if task.path == name] or [task for task in self.tasks if task.name == name]
        if len(found) != 1:
            raise KeyError(f"{len(found)} tasks are named {name!r}; there are: {[task.path for task in self.tasks]}")
        return found[0]

    def close(self, state: str, code: int = 0, message: str = "") -> None:
        """Ends the job, and with it every task that has not ended."""
        self.state, self.end = state, now()
        self.error = {"code": code, "message": message} if message else {}
        for task in self.tasks:
            if not task.finished:
                task.state, task.end, task.error = state, self.end, task.error or message

    def to_json(self) -> dict[str, Any]:
        """Returns the record as it is written to record.json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "JobRecord":
        """Makes the record from its JSON form."""
        tasks = [TaskRecord.from_json(task) for task in document["tasks"]]
        return cls(**{**document, "tasks": tasks, "outputs": Values.from_json(document["outputs"])})

    def save(self, folder: Path) -> None:
        """Writes record.json into the job's folder, whole."""
        self.updated = now()
        write_json(folder / RECORD_FILE, self.to_json())

    @classmethod
    def load(cls, folder: Path) -> "JobRecord":
        """Reads record.json from the job's folder."""
        return cls.from_json(json.loads((folder / RECORD_FILE).read_text()))


def write_json(path: Path, document: Any) -> None:
    """Writes a JSON file whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(document, file, ensure_ascii=False, default=str)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
