"""Checks of what is refused, by Vertex AI or by Kubernetes, and when it is often too late: when the step starts."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from emulator.custom_jobs import LAUNCHER
from pipelines.lint.subject import Finding, Severity, Step, Subject, Target, Task, register
from pipelines.machines import applied_profile
from pipelines.machines.table import (
    MAX_MEMORY_GIB,
    MAX_VCPU,
    STRATEGIES,
    accelerator_problem,
    accelerators,
    machine_problem,
    table,
)

MAX_TASKS, MAX_ARTIFACTS, MAX_PAYLOAD, MAX_METADATA = 10_000, 100, 131_072, 204_800
MAX_SPEC = 1 << 20
_UNITS = {"": 1e-9, "k": 1e-6, "M": 1e-3, "G": 1, "T": 1e3, "Ki": 2**10 / 1e9, "Mi": 2**20 / 1e9, "Gi": 2**30 / 1e9}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([kKMGT]i?|)")


@register("gpu")
def check_gpus(subject: Subject) -> Iterator[Finding]:
    """GPUs and machines that do not exist."""
    for step in subject.steps:
        resources = step.container.get("resources", {})
        accelerator = resources.get("accelerator", {})
        name = accelerator.get("resourceType") or accelerator.get("type") or ""
        count = str(accelerator.get("resourceCount") or accelerator.get("count") or "")
        if "{{$" not in name + count:
            check = _on_vertex if subject.target is Target.VERTEX else _on_kubernetes
            for message, remedy in check(name, count):
                yield Finding(Severity.ERROR, step.where, message, remedy, step.keys)
        if subject.target is Target.VERTEX:
            yield from _limits(step, resources)
    for label, job in subject.custom_jobs.items():
        for message, remedy in _custom_job(job.spec["job_spec"]):
            where = f"the Custom Job of step {label.removeprefix('exec-')}"
            yield Finding(Severity.ERROR, where, message, remedy, ("executors", label))
    for task, job_spec in _given_custom_jobs(subject):
        for message, remedy in _custom_job(job_spec):
            yield Finding(Severity.ERROR, f"the Custom Job of {task.where}", message, remedy, task.keys)


def _on_vertex(name: str, count: str) -> Iterator[tuple[str, str]]:
    if not name:
        if count not in ("", "0"):
            yield f"It asks for {count} GPUs of no kind.", "Name the kind: set_accelerator_type('NVIDIA_L4')."
    elif applied_profile(name):
        yield (
            f"The GPU profile {name} needs a Custom Job, which is not laid on.",
            "Compile with pipelines.compile: compile_spec(pipeline), or `python -m pipelines.compile`.",
        )
    elif "/" in name:
        yield (
            f"The accelerator {name} is a resource of Kubernetes, which Vertex AI does not know.",
            f"Name Vertex AI's: {', '.join(accelerators())}; or lint for a server of your own with --target kfp.",
        )
    elif not name.startswith("TPU_") and (problem := accelerator_problem(name, int(count) if count.isdigit() else 0)):
        message, _, remedy = problem.partition(": ")
        yield f"{message}.", f"{remedy[:1].upper()}{remedy[1:]}"


def _on_kubernetes(name: str, count: str) -> Iterator[tuple[str, str]]:
    if name in table()["accelerators"] or applied_profile(name):
        yield (
            f"The accelerator {name} becomes the name of a resource, which no node has: the pod waits for ever.",
            "Compile with `python -m pipelines.compile --target kfp`, or name nvidia.com/gpu and a node selector.",
        )


def _limits(step: Step, resources: Mapping[str, Any]) -> Iterator[Finding]:
    cpu = _number(str(resources.get("resourceCpuLimit") or resources.get("cpuLimit") or "0"))
    memory = _gigabytes(str(resources.get("resourceMemoryLimit") or f"{resources.get('memoryLimit') or 0}G"))
    if cpu > MAX_VCPU or memory > MAX_MEMORY_GIB * 2**30 / 1e9:
        yield Finding(
            Severity.ERROR,
            step.where,
            f"It asks for {cpu:g} CPUs and {memory:g} GB; Vertex AI gives a plain step at most {MAX_VCPU} and "
            f"{MAX_MEMORY_GIB} GB.",
            "Ask for less, or for a Custom Job on a machine type: a GPU profile does that.",
            step.keys,
        )
    if resources.get("resourceMemoryRequest") or resources.get("memoryRequest"):
        yield Finding(
            Severity.NOTE,
            step.where,
            "It has a memory request, which Vertex AI does not read: it picks the machine by the limits.",
            "Use set_memory_limit.",
            step.keys,
        )


def _given_custom_jobs(subject: Subject) -> Iterator[tuple[Task, dict[str, Any]]]:
    """Yields the jobs of `CustomTrainingJobOp` and Google's wrapper whose machines a task gives as they are."""
    for task in subject.tasks:
        label = task.component.get("executorLabel", "")
        container = subject.executors.get(label, {}).get("container", {})
        if label in subject.custom_jobs or LAUNCHER not in container.get("command", []):
            continue
        definitions = task.component.get("inputDefinitions", {}).get("parameters", {})
        values = {name: each.get("defaultValue") for name, each in definitions.items()}
        for name, each in task.spec.get("inputs", {}).get("parameters", {}).items():
            values[name] = each.get("runtimeValue", {}).get("constant")
        pools, strategy = values.get("worker_pool_specs"), values.get("strategy")
        known = isinstance(strategy, str) and "{{$" not in strategy
        if isinstance(pools, list) and all(isinstance(pool, dict) for pool in pools):
            yield task, {"worker_pool_specs": pools, "scheduling": {"strategy": strategy if known else ""}}


def _custom_job(job_spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    strategy = job_spec.get("scheduling", {}).get("strategy") or "STANDARD"
    if strategy not in STRATEGIES:
        yield f"There is no strategy {strategy!r}.", f"Use one of {', '.join(STRATEGIES)}."
    for pool in job_spec["worker_pool_specs"]:
        machine = pool.get("machine_spec", {})
        machine_type, accelerator = machine.get("machine_type", ""), machine.get("accelerator_type", "")
        count = str(machine.get("accelerator_count") or 0)
        if not machine_type or "{{$" in f"{machine_type}{accelerator}{count}":
            continue  # Left to a persistent resource, or known only when it runs.
        if accelerator == "ACCELERATOR_TYPE_UNSPECIFIED":
            accelerator, count = "", "0"
        problem = machine_problem(machine_type, accelerator, int(float(count)))
        if problem and not machine_type.startswith(("ct", "cloud-tpu")):
            message, _, remedy = problem.rstrip(".").partition(": ")
            yield f"{message}.", f"{remedy[:1].upper()}{remedy[1:]}."
        allowed = table()["accelerators"].get(accelerator, {}).get("strategies", STRATEGIES[:2])
        if strategy in STRATEGIES and strategy not in allowed:
            yield f"{accelerator or 'A CPU'} is not given as {strategy}.", f"Use {' or '.join(allowed)}."
        disk = pool.get("disk_spec", {}).get("boot_disk_type", "")
        if disk.startswith("pd-") and machine_type.startswith(tuple(f"{each}-" for each in table()["hyperdisk_only"])):
            yield f"{machine_type} has no boot disk {disk}.", "Use hyperdisk-balanced, or leave the disk out."


@register("vertex")
def check_platform(subject: Subject) -> Iterator[Finding]:
    """What a Kubeflow Pipelines server takes and Vertex AI does not."""
    if subject.target is not Target.VERTEX:
        return
    alone = "Take it out for Vertex AI, or lint for a Kubeflow Pipelines server with --target kfp."

    def refused(where: str, message: str, remedy: str, keys: tuple[str, ...] = ()) -> Finding:
        return Finding(Severity.ERROR, where, message, remedy, keys)

    if len(subject.documents) > 1:
        yield refused(
            "the file", "It has a second document, for Kubernetes; Vertex AI reads one.", alone, ("platforms",)
        )
    elif "platforms" in subject.raw:
        yield refused("the file", "It has settings for Kubernetes.", alone, ("platforms",))
    version = str(subject.raw.get("schemaVersion"))
    if not re.fullmatch(r"2\.[01]\.\d+", version):
        yield refused("the file", f"Its schema version is {version}.", "Compile with kfp 2.", ("schemaVersion",))
    for task in subject.tasks:
        if task.spec.get("cachingOptions", {}).get("cacheKey"):
            yield refused(task.where, "It has a cache key of its own, which Vertex AI does not know.", alone, task.keys)
    for name, component in {"": subject.raw["root"], **subject.raw.get("components", {})}.items():
        where = f"component {name.removeprefix('comp-')}" if name else "the pipeline"
        keys = ("components", name) if name else ("root",)
        if component.get("taskConfigPassthroughs"):
            yield refused(where, "It passes settings of Kubernetes on (TaskConfig).", alone, keys)
        for input_name, definition in component.get("inputDefinitions", {}).get("parameters", {}).items():
            if definition.get("parameterType") == "TASK_CONFIG":
                yield refused(where, f"The input {input_name} is a TaskConfig of Kubernetes.", alone, keys)
            if definition.get("literals"):
                yield Finding(
                    Severity.WARNING,
                    where,
                    f"The input {input_name} lists the values that it takes, which Vertex AI is not known to read.",
                    "Leave the list out, and check the value in the step.",
                    keys,
                )
    for label, executor in subject.executors.items():
        if executor.get("importer", {}).get("downloadToWorkspace"):
            yield refused(
                f"importer {label}", "It downloads to a workspace of Kubernetes.", alone, ("executors", label)
            )
    if "{{$.workspace_path}}" in json.dumps(subject.raw):
        yield refused("the file", "It uses a workspace of Kubernetes.", alone)


@register("limits")
def check_limits(subject: Subject) -> Iterator[Finding]:
    """Vertex AI's limits of size and number."""
    if subject.target is not Target.VERTEX:
        return
    if len(subject.tasks) > MAX_TASKS:
        yield Finding(
            Severity.ERROR,
            "the file",
            f"It has {len(subject.tasks)} tasks; a job has {MAX_TASKS} at most.",
            "Split it.",
        )
    size = len(json.dumps(subject.raw).encode())
    if size > MAX_SPEC:
        yield Finding(
            Severity.WARNING,
            "the file",
            f"The pipeline takes {size / 2**20:.1f} MiB, and a request to Vertex AI a few at most.",
            "Move code and embedded files into the image.",
        )
    for task in subject.tasks:
        given = task.spec.get("inputs", {}).get("parameters", {})
        constants = [each["runtimeValue"].get("constant") for each in given.values() if "runtimeValue" in each]
        yield from _payload(task.where, constants, task.keys)
        artifacts = sum(len(task.component.get(kind, {}).get("artifacts", {})) for kind in _DEFINITIONS)
        if artifacts > MAX_ARTIFACTS:
            message = f"It has {artifacts} artifacts; a task has {MAX_ARTIFACTS} at most."
            yield Finding(Severity.ERROR, task.where, message, "Put several into one folder.", task.keys)
    defaults = subject.spec["root"].get("inputDefinitions", {}).get("parameters", {}).values()
    yield from _payload("the pipeline", [each.get("defaultValue") for each in defaults], ("root", "inputDefinitions"))
    for label, executor in subject.executors.items():
        metadata = len(json.dumps(executor.get("importer", {}).get("metadata", {})).encode())
        if metadata > MAX_METADATA:
            message = f"Its metadata takes {metadata} bytes; an artifact's takes {MAX_METADATA} at most."
            yield Finding(Severity.ERROR, f"importer {label}", message, "Put it into a file.", ("executors", label))


_DEFINITIONS = ("inputDefinitions", "outputDefinitions")


def _payload(where: str, values: list[Any], keys: tuple[str, ...]) -> Iterator[Finding]:
    size = len(json.dumps(values).encode())
    if size > MAX_PAYLOAD // 2:
        severity = Severity.ERROR if size > MAX_PAYLOAD else Severity.WARNING
        message = (
            f"Its parameters take {size} bytes; a task's take {MAX_PAYLOAD} at most, with what it is given besides."
        )
        yield Finding(severity, where, message, "Put large values into a file, and pass its URI.", keys)


def _number(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(m?)", text)
    return float(found[1]) / (1000 if found[2] else 1) if found else 0.0


def _gigabytes(text: str) -> float:
    found = _QUANTITY.fullmatch(text)
    return float(found[1]) * _UNITS.get(found[2], 0) if found else 0.0
