"""Shows a job as Vertex AI's REST API does."""

import hashlib
from typing import Any

from emulator.jobs import Job
from emulator.records import FAILED_PRECONDITION, ArtifactRecord, JobRecord, TaskRecord

JOB_STATES = {
    "PIPELINE_STATE_UNSPECIFIED": 0,
    "PIPELINE_STATE_QUEUED": 1,
    "PIPELINE_STATE_PENDING": 2,
    "PIPELINE_STATE_RUNNING": 3,
    "PIPELINE_STATE_SUCCEEDED": 4,
    "PIPELINE_STATE_FAILED": 5,
    "PIPELINE_STATE_CANCELLING": 6,
    "PIPELINE_STATE_CANCELLED": 7,
    "PIPELINE_STATE_PAUSED": 8,
}
_TASK_STATES = {"RUNNING": 2, "SUCCEEDED": 3, "CANCELLED": 6, "FAILED": 7, "SKIPPED": 8, "NOT_TRIGGERED": 9}
_EXECUTION_STATES = {"NEW": 1, "RUNNING": 2, "COMPLETE": 3, "FAILED": 4, "CACHED": 5, "CANCELLED": 6}
_POLICIES = {
    "PIPELINE_FAILURE_POLICY_UNSPECIFIED": 0,
    "PIPELINE_FAILURE_POLICY_FAIL_SLOW": 1,
    "PIPELINE_FAILURE_POLICY_FAIL_FAST": 2,
}
_LIVE = {"LIVE": 2}
_EXECUTION_OF_TASK = {"SUCCEEDED": "COMPLETE", "SKIPPED": "CACHED", "NOT_TRIGGERED": "NEW"}


def state_of(job: Job) -> str:
    """Returns a job's state by the name that the API gives it."""
    return f"PIPELINE_STATE_{job.state}"


def to_vertex(job: Job, parent: str, int_enums: bool = False) -> dict[str, Any]:
    """Returns a PipelineJob in JSON.

    Args:
        job: The job.
        parent: `projects/P/locations/L` as the request names it, by the project's id or its number.
        int_enums: Whether enums are numbers, as Google's clients ask for.
    """
    record, document = job.record, dict(job.document)
    runtime = document.get("runtimeConfig", {})
    if "failurePolicy" in runtime:
        policy = _enum(runtime["failurePolicy"], _POLICIES, int_enums)
        document["runtimeConfig"] = {**runtime, "failurePolicy": policy}
    view = {
        **document,
        "name": f"{parent}/pipelineJobs/{record.id}",
        "state": _enum(state_of(job), JOB_STATES, int_enums),
        "createTime": record.created,
        "startTime": record.start,
        "endTime": record.end,
        "updateTime": record.updated,
        "error": record.error,
        "jobDetail": {"taskDetails": [_task(record, task, parent, int_enums) for task in record.tasks]},
    }
    return _without_empty(view)


def _task(record: JobRecord, task: TaskRecord, parent: str, int_enums: bool) -> dict[str, Any]:
    # Vertex AI calls a task skipped when the cache had its outputs.
    state = "SKIPPED" if task.cached and task.state == "SUCCEEDED" else task.state
    task_id = _id(record, task.path)
    execution_state = _EXECUTION_OF_TASK.get(state, state)
    parameters = {
        **{f"input:{name}": value for name, value in task.inputs.parameters.items()},
        **{f"output:{name}": value for name, value in task.outputs.parameters.items()},
    }
    execution: dict[str, Any] = {
        "name": f"{parent}/metadataStores/default/executions/{task_id}",
        "displayName": task.name,
        "state": _enum(execution_state, _EXECUTION_STATES, int_enums),
        "schemaTitle": "system.DagExecution" if task.dag else "system.ContainerExecution",
        "schemaVersion": "0.0.1",
        "createTime": task.start,
        "updateTime": task.end or task.start,
        "metadata": {
            **parameters,
            "task_path": task.path,
            "component": task.component,
            **({"custom_job": task.custom_job} if task.custom_job else {}),
            **({"container": task.container} if task.container else {}),
        },
    }
    view = {
        "taskId": task_id,
        "parentTaskId": _id(record, task.parent) if task.parent else "",
        "taskName": task.name,
        "taskUniqueName": task.path,
        "createTime": task.start,
        "startTime": task.start,
        "endTime": task.end,
        "state": _enum(state, _TASK_STATES, int_enums),
        "execution": None if task.state == "NOT_TRIGGERED" else execution,
        "executorDetail": {"customJobDetail": {"job": task.custom_job["name"]}} if task.custom_job else {},
        "error": {"code": FAILED_PRECONDITION, "message": task.error} if task.error else {},
        "inputs": _artifacts(task.inputs.artifacts, parent, int_enums),
        "outputs": _artifacts(task.outputs.artifacts, parent, int_enums),
    }
    return _without_empty(view)


def _artifacts(artifacts: dict[str, list[ArtifactRecord]], parent: str, int_enums: bool) -> dict[str, Any]:
    return {
        name: {"artifacts": [_artifact(record, parent, int_enums) for record in records]}
        for name, records in artifacts.items()
    }


def _artifact(record: ArtifactRecord, parent: str, int_enums: bool) -> dict[str, Any]:
    digest = hashlib.sha256(record.uri.encode()).hexdigest()[:16]
    return {
        "name": f"{parent}/metadataStores/default/artifacts/{digest}",
        "displayName": record.name,
        "uri": record.uri,
        "state": _enum("LIVE", _LIVE, int_enums),
        "schemaTitle": record.type,
        "schemaVersion": "0.0.1",
        "metadata": record.metadata,
    }


def _id(record: JobRecord, path: str) -> str:
    # An int64, which JSON carries as text.
    digest = hashlib.sha256(f"{record.created} {record.id} {path}".encode()).digest()
    return str(int.from_bytes(digest[:8], "big") >> 1)


def _enum(name: str, numbers: dict[str, int], as_int: bool) -> int | str:
    return numbers.get(name, 0) if as_int else name


def _without_empty(view: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in view.items() if value not in ("", None, {})}
