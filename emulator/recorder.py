"""Keeps a job's record up to date while its tasks run, from several threads, and turns kfp's values into records."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.dsl import executor

from emulator.records import ArtifactRecord, JobRecord, TaskRecord, Values, now

# Inputs that the compiler adds for text made of several channels; no step declares them.
CHANNEL = "pipelinechannel--"


class Recorder:
    """Writes record.json at each change of a task's state.

    Args:
        record: The job's record. Tasks in it that did not finish, from an earlier process, are started afresh.
        folder: The job's folder.
    """

    def __init__(self, record: JobRecord, folder: Path):
        self.record, self.folder = record, folder
        self._lock = threading.Lock()
        record.tasks = [task for task in record.tasks if task.finished and task.state != "NOT_TRIGGERED"]
        self._tasks = {task.path: task for task in record.tasks}

    def start(self, task: TaskRecord) -> TaskRecord:
        """Puts a task that starts into the record, in place of an earlier attempt of it."""
        earlier = self._tasks.get(task.path)
        task.start = earlier.start if earlier and task.dag else now()
        with self._lock:
            if earlier:
                self.record.tasks.remove(earlier)
            self.record.tasks.append(task)
            self._tasks[task.path] = task
            self.record.save(self.folder)
        return task

    def finished(self, path: str) -> TaskRecord | None:
        """Returns the record of a task that an earlier process of this job finished, or None."""
        task = self._tasks.get(path)
        return task if task and task.state == "SUCCEEDED" and not task.dag else None

    def close(self, task: TaskRecord, state: str, outputs: dict[str, Any] | None = None, error: str = "") -> None:
        """Records the end of a task."""
        with self._lock:
            task.state, task.error, task.outputs, task.end = state, error, to_values(outputs or {}), now()
            self.record.save(self.folder)

    def change(self, change: Callable[[], None]) -> None:
        """Changes the record and writes it."""
        with self._lock:
            change()
            self.record.save(self.folder)

    def first_error(self, path: str) -> str:
        """Returns `Task '...' failed: ...` for the first task in or under a path that failed; "" when none did."""
        for task in sorted(self.record.tasks, key=lambda task: task.end):
            inside = not path or task.path == path or task.path.startswith(f"{path}/")
            if inside and task.state == "FAILED" and not task.dag:
                return f"Task '{task.name}' failed: {task.error}"
        dags = [task.error for task in self.record.tasks if task.dag and task.path == path]
        return dags[0] if dags else ""


def to_values(values: dict[str, Any]) -> Values:
    """Sorts a task's arguments or outputs, as kfp.local has them, into parameters and artifacts."""
    result = Values()
    for name, value in values.items():
        items = value if isinstance(value, list) and value else [value]
        if all(isinstance(item, dsl.Artifact) for item in items):
            result.artifacts[name] = [_to_record(item) for item in items]
        else:
            result.parameters[name] = value
    return result


def to_outputs(values: Values, lists: set[str]) -> dict[str, Any]:
    """Returns the outputs of a recorded task as kfp.local has them.

    Args:
        values: The recorded outputs.
        lists: The names of those outputs that are lists of artifacts.
    """
    outputs = dict(values.parameters)
    for name, records in values.artifacts.items():
        artifacts = [_to_artifact(record) for record in records]
        outputs[name] = artifacts if name in lists else artifacts[0]
    return outputs


def _to_record(artifact: dsl.Artifact) -> ArtifactRecord:
    # A Metrics output that wrote no file has no path; it still has a uri.
    return ArtifactRecord(artifact.name, artifact.schema_title, artifact.uri, artifact.path or "", artifact.metadata)


def _to_artifact(record: ArtifactRecord) -> dsl.Artifact:
    return executor.create_artifact_instance(
        {
            "name": record.name,
            "uri": record.uri,
            "metadata": record.metadata,
            "type": {"schemaTitle": record.type},
        }
    )
