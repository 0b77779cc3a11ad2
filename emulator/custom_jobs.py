"""Steps wrapped in a Custom Job: their own command is what runs here, and the job that it stands for is recorded.

On Vertex AI such a step runs the launcher of google-cloud-pipeline-components, which creates a Custom Job and waits for
it. Here the container is taken out of the job before kfp.local sees the pipeline.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LAUNCHER = "google_cloud_pipeline_components.container.v1.custom_job.launcher"
RESOURCES = "gcp_resources"
_INPUT = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")
_ESCAPED = re.compile(r"\{\{\$(\.[^{}]+?)?\.json_escape\[[01]\]\}\}")


@dataclass(frozen=True)
class CustomJob:
    """The Custom Job that a step stands for.

    Attributes:
        spec: The CustomJob, as its JSON gives it.
        inputs: Inputs of the component that only the launcher reads.
    """

    spec: dict[str, Any]
    inputs: frozenset[str] = field(default_factory=frozenset)

    @property
    def about(self) -> dict[str, Any]:
        """What is recorded of it: machine, strategy and number of machines."""
        pools = self.spec["job_spec"]["worker_pool_specs"]
        machine = pools[0].get("machine_spec", {})
        about = {
            "profile": self.spec.get("labels", {}).get("machine", ""),
            "machineType": machine.get("machine_type", ""),
            "acceleratorType": machine.get("accelerator_type", ""),
            "acceleratorCount": int(machine.get("accelerator_count", 0)),
            "strategy": self.spec["job_spec"].get("scheduling", {}).get("strategy") or "STANDARD",
            "replicas": sum(int(pool.get("replica_count", 1)) for pool in pools),
        }
        return {key: value for key, value in about.items() if value}

    @property
    def container(self) -> dict[str, Any]:
        """The step's own container, with the variable by which a program knows its place in the job."""
        inner = self.spec["job_spec"]["worker_pool_specs"][0]["container_spec"]
        cluster = {
            "cluster": {"workerpool0": ["localhost:2222"]},
            "environment": "cloud",
            "task": {"type": "workerpool0", "index": 0},
            "job": json.dumps(self.about, sort_keys=True),
        }
        env = [*inner.get("env", []), {"name": "CLUSTER_SPEC", "value": json.dumps(cluster)}]
        container: dict[str, Any] = {"image": inner.get("image_uri", ""), "env": env}
        for key in ("command", "args"):
            container[key] = [_ESCAPED.sub(_unescaped, part) for part in inner.get(key, [])]
        return container


class CustomJobs(dict[str, CustomJob]):
    """The Custom Jobs of a pipeline, by executor."""

    def record(self, label: str, job_name: str, path: str) -> dict[str, Any]:
        """Returns what is recorded of a task that runs an executor; empty for one that is no Custom Job.

        Args:
            label: The executor.
            job_name: The PipelineJob's name, `projects/P/locations/L/pipelineJobs/ID`.
            path: The task's path.
        """
        if label not in self:
            return {}
        number = int.from_bytes(hashlib.sha256(f"{job_name} {path}".encode()).digest()[:8], "big") >> 1
        name = f"{job_name.rpartition('/pipelineJobs/')[0]}/customJobs/{number}"
        return {"name": name, **self[label].about}


def unwrap(spec: dict[str, Any]) -> tuple[dict[str, Any], CustomJobs]:
    """Takes the steps' own containers out of their Custom Jobs.

    Args:
        spec: A compiled pipeline; it is not changed. Jobs are found whose JSON is whole, and those of
            `create_custom_training_job_from_component` whose settings no task overrides.

    Returns:
        The pipeline, and its Custom Jobs.
    """
    deployment = spec.get("deploymentSpec", {})
    executors, components = dict(deployment.get("executors", {})), dict(spec.get("components", {}))
    jobs = CustomJobs()
    for name, component in components.items():
        label = component.get("executorLabel", "")
        job = _custom_job(executors.get(label, {}).get("container", {}), component, _given(spec, name))
        if job:
            jobs[label] = job
            components[name] = _without_inputs(component, job.inputs)
    for label, job in jobs.items():
        executors[label] = {"container": job.container}
    if not jobs:
        return spec, jobs
    return spec | {"components": components, "deploymentSpec": deployment | {"executors": executors}}, jobs


def write_resources(folder: Path, name: str) -> None:
    """Writes what the launcher writes: which job it created.

    Args:
        folder: Where the outputs of the task are.
        name: The Custom Job's name.
    """
    location = name.split("/")[3]
    uri = f"https://{location}-aiplatform.googleapis.com/v1/{name}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESOURCES).write_text(json.dumps({"resources": [{"resourceType": "CustomJob", "resourceUri": uri}]}))


def _custom_job(container: Mapping[str, Any], component: dict[str, Any], given: set[str]) -> CustomJob | None:
    args = container.get("args", [])
    if LAUNCHER not in container.get("command", []) or "--payload" not in args[:-1]:
        return None
    payload = args[args.index("--payload") + 1]
    inputs = {name for part in args for name in _INPUT.findall(part)}
    definitions = component.get("inputDefinitions", {}).get("parameters", {})
    for name in inputs:
        if name in given or name not in definitions:
            return None
        payload = payload.replace(f"{{{{$.inputs.parameters['{name}']}}}}", _text(definitions[name]))
    try:
        job = CustomJob(json.loads(payload), frozenset(inputs))
        return job if job.container["image"] else None
    except (ValueError, KeyError, IndexError, TypeError):
        return None


def _text(definition: Mapping[str, Any]) -> str:
    """Returns an input's default as it stands in the launcher's JSON."""
    empty: dict[str, Any] = {"STRUCT": {}, "LIST": [], "STRING": ""}
    default = definition.get("defaultValue", empty.get(definition["parameterType"]))
    return json.dumps(default)[1:-1] if isinstance(default, str) else json.dumps(default)


def _given(spec: dict[str, Any], component: str) -> set[str]:
    """Returns the inputs that some task gives to a component."""
    dags = [each.get("dag", {}) for each in (spec["root"], *spec.get("components", {}).values())]
    tasks = [task for dag in dags for task in dag.get("tasks", {}).values()]
    of_component = [task for task in tasks if task.get("componentRef", {}).get("name") == component]
    return {name for task in of_component for name in task.get("inputs", {}).get("parameters", {})}


def _without_inputs(component: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    definitions = component.get("inputDefinitions", {})
    left = {name: each for name, each in definitions.get("parameters", {}).items() if name not in names}
    return component | {"inputDefinitions": definitions | {"parameters": left}} if names else component


def _unescaped(match: re.Match[str]) -> str:
    return "{{$" + (match[1] or "") + "}}"
