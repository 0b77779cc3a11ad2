"""From a compiled pipeline to the YAML for a Kubeflow Pipelines server on Kubernetes.

Vertex AI's names mean nothing there: a GPU is `nvidia.com/gpu`, and the kind of GPU is a label of the node.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from kfp import kubernetes

from components.errors import InputError
from pipelines.machines.table import GKE_ACCELERATOR, table
from triggers import custom_job, machine

GPU = "nvidia.com/gpu"
# How GKE marks the nodes of a strategy; the same name is the taint of spot nodes.
_STRATEGY_LABELS = {"SPOT": "cloud.google.com/gke-spot", "FLEX_START": "cloud.google.com/gke-flex-start"}
_SECRET = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=([a-z0-9][-a-z0-9.]*)/([-._a-zA-Z0-9]+)")
_ROOT = re.compile(r"(gs|s3|minio)://[^/]+(/.*)?")


@dataclass(frozen=True)
class Secret:
    """A key of a Kubernetes secret that every step gets as an environment variable.

    Attributes:
        variable: The environment variable.
        name: The secret.
        key: The key in it.
    """

    variable: str
    name: str
    key: str

    @classmethod
    def parse(cls, text: str) -> "Secret":
        """Reads `VARIABLE=SECRET/KEY`.

        Raises:
            InputError: It is not of that form.
        """
        found = _SECRET.fullmatch(text)
        if not found:
            raise InputError(f"--secret {text} is not of the form VARIABLE=SECRET/KEY.", "Write HF_TOKEN=hub/token.")
        return cls(*found.groups())


@dataclass
class _Step:
    """What kfp-kubernetes' functions write to: a task has much else, which they leave alone."""

    platform_config: dict[str, Any] = field(default_factory=dict)


def to_kfp(
    spec: dict[str, Any], pipeline_root: str = "", secrets: tuple[Secret, ...] = (), gpu_label: str = GKE_ACCELERATOR
) -> str:
    """Returns the YAML that a Kubeflow Pipelines server takes: the pipeline, and what Kubernetes needs to know.

    Args:
        spec: A compiled pipeline, with GPU profiles laid on or without.
        pipeline_root: Where artifacts are kept: `gs://`, `s3://` or `minio://`; "" is the server's own place.
        secrets: What every step gets from Kubernetes secrets, by name: no value is in the YAML.
        gpu_label: The label of nodes that names the kind of their GPU, as GKE does; "" takes any GPU.

    Returns:
        Two YAML documents, or one when no step needs anything of Kubernetes.

    Raises:
        InputError: The root is of another kind, or a profile has what only a Custom Job has.
    """
    if pipeline_root and not _ROOT.fullmatch(pipeline_root):
        raise InputError(f"The pipeline root is {pipeline_root!r}.", "Write gs://, s3:// or minio://, and a bucket.")
    executors, configs = {}, {}
    for label, executor in spec["deploymentSpec"]["executors"].items():
        executors[label], config = _on_kubernetes(executor, secrets, gpu_label)
        if config:
            configs[label] = config
    deployment = {**spec["deploymentSpec"], "executors": executors}
    pipeline = machine.without_custom_jobs(spec) | {"deploymentSpec": deployment}
    if pipeline_root:
        pipeline["defaultPipelineRoot"] = pipeline_root
    documents = [pipeline]
    if configs:
        documents.append({"platforms": {"kubernetes": {"deploymentSpec": {"executors": configs}}}})
    return str(yaml.safe_dump_all(documents, sort_keys=True, allow_unicode=True, width=120))


def _on_kubernetes(
    executor: Mapping[str, Any], secrets: tuple[Secret, ...], gpu_label: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns an executor as Kubernetes understands it, and what stands of it in the second document."""
    container = executor.get("container")
    if container is None:
        return dict(executor), {}
    step: Any = _Step()
    for secret in secrets:
        kubernetes.use_secret_as_env(step, secret.name, {secret.key: secret.variable})
    # No limits of CPU and memory where a profile set them: they are all that its machine has, and no node can give
    # away all.
    gpu: dict[str, Any] = {}
    if machine.asks_for_accelerator(executor):
        accelerator, count = _gpu_of(container)
        about = table()["accelerators"].get(accelerator, {})
        if gpu_label and about:
            kubernetes.add_node_selector(step, gpu_label, about["gke"])
        kubernetes.add_toleration(step, key=GPU, operator="Exists", effect="NoSchedule")
        gpu = {"count": count, "type": GPU, "resourceCount": count, "resourceType": GPU}
    job = custom_job.job_of(container)
    if job:
        _refuse_what_only_vertex_has(job)
        label = _STRATEGY_LABELS.get(job["job_spec"]["scheduling"]["strategy"])
        if label:
            kubernetes.add_node_selector(step, label, "true")
            kubernetes.add_toleration(step, key=label, operator="Exists", effect="NoSchedule")
    if job or gpu:
        container = custom_job.unwrap(container) | ({"resources": {"accelerator": gpu}} if gpu else {})
    return {**executor, "container": container}, step.platform_config.get("kubernetes", {})


def _gpu_of(container: Mapping[str, Any]) -> tuple[str, str]:
    """Returns Vertex AI's name of the accelerator that a container asks for, and how many."""
    spec = custom_job.machine_spec(container)
    if spec:
        return spec["accelerator_type"], str(spec["accelerator_count"])
    accelerator = container["resources"]["accelerator"]
    count = accelerator.get("resourceCount") or accelerator["count"]
    return accelerator.get("resourceType") or accelerator["type"], str(count)


def _refuse_what_only_vertex_has(job: Mapping[str, Any]) -> None:
    pools = job["job_spec"]["worker_pool_specs"]
    special = {
        "a network": "network" in job["job_spec"],
        "a reservation": "reservation_affinity" in pools[0]["machine_spec"],
        "a boot disk": "disk_spec" in pools[0],
        "several replicas": len(pools) > 1,
    }
    if any(special.values()):
        names = ", ".join(name for name, present in special.items() if present)
        raise InputError(
            f"The profile of the step {job['display_name']} has {names}.",
            "On Kubernetes, that is a matter of the cluster: name a profile without it.",
        )
