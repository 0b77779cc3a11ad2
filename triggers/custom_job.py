"""A step's container wrapped in a Custom Job, for what Vertex AI does not do for a plain step.

The step's container is replaced by the launcher of google-cloud-pipeline-components, whose argument is the whole job in
JSON. Google's own wrapper puts the job into a dozen inputs of the component instead, which collide with the step's own
inputs of the same name, and drops the step's environment variables.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from triggers.errors import PermanentError

LAUNCHER_IMAGE = "gcr.io/ml-pipeline/google-cloud-pipeline-components:2.22.0"
LAUNCHER = ["python3", "-u", "-m", "google_cloud_pipeline_components.container.v1.custom_job.launcher"]
# The output in which the launcher names the job.
RESOURCES = "gcp_resources"
# The label of a Custom Job that says which profile it stands for; only jobs with it are taken apart again.
MACHINE_LABEL = "machine"
_WRAPPED_KEYS = {"image", "command", "args", "env", "resources"}
_MOST_VARIABLES = 100
_TIMEOUT, _MAX_WAIT = "604800s", "86400s"
# A placeholder inside the job's JSON is filled with text whose quotes are escaped: at level 1 for the whole input, and
# at level 0 for the value of a parameter. Others, of paths and URIs, stay as they are: as in Google's own components.
_PLACEHOLDER = re.compile(r"\{\{\$(\.inputs\.parameters\['[^'{}]*'\])?\}\}")
_ESCAPED = re.compile(r"\{\{\$(\.[^{}]+?)?\.json_escape\[[01]\]\}\}")


def wrap(container: Mapping[str, Any], profile: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns the launcher's container, which runs a step's container as a Custom Job.

    Args:
        container: The step's own container.
        profile: The machine.
        name: The job's display name.

    Raises:
        PermanentError: The container has something that a Custom Job has not.
    """
    left = sorted(container.keys() - _WRAPPED_KEYS)
    if left:
        raise PermanentError(f"The step {name} has {', '.join(left)}, which a Custom Job has not.", "Take it out.")
    if len(container.get("env", [])) > _MOST_VARIABLES:
        raise PermanentError(
            f"The step {name} has more than {_MOST_VARIABLES} environment variables.",
            "A Custom Job takes no more: pass some in a file.",
        )
    pools = _worker_pools(container, profile)
    scheduling: dict[str, Any] = {"timeout": _TIMEOUT, "strategy": profile["strategy"]}
    if profile["strategy"] == "FLEX_START":
        scheduling["max_wait_duration"] = _MAX_WAIT
    job_spec: dict[str, Any] = {
        "worker_pool_specs": pools,
        "scheduling": scheduling,
        # As whom the other steps run; without it, another account that may not read the pipeline's bucket.
        "service_account": "{{$.pipeline_service_account}}",
        "persistent_resource_id": "{{$.pipeline_persistent_resource_id}}",
    }
    if profile.get("network"):
        job_spec["network"] = profile["network"]
    job = {"display_name": name, "job_spec": job_spec, "labels": {MACHINE_LABEL: profile["name"]}}
    output = f"{{{{$.outputs.parameters['{RESOURCES}'].output_file}}}}"
    where = [
        "--project",
        "{{$.pipeline_google_cloud_project_id}}",
        "--location",
        "{{$.pipeline_google_cloud_location}}",
    ]
    payload = json.dumps(job, ensure_ascii=False, sort_keys=True)
    args = ["--type", "CustomJob", "--payload", payload, *where, "--gcp_resources", output]
    return {"image": LAUNCHER_IMAGE, "command": LAUNCHER, "args": args}


def job_of(container: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the Custom Job that a container launches, if `wrap` made it; None otherwise."""
    args = container.get("args", [])
    if container.get("command") != LAUNCHER or args[:3] != ["--type", "CustomJob", "--payload"]:
        return None
    try:
        job = json.loads(args[3])
    except ValueError:
        return None  # Google's wrapper: its JSON is whole only when the placeholders are filled.
    return job if MACHINE_LABEL in job.get("labels", {}) else None


def unwrap(container: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a step's own container, without resources: out of its Custom Job, or as it stands."""
    job = job_of(container)
    if job is None:
        return {key: value for key, value in container.items() if key != "resources"}
    inner = job["job_spec"]["worker_pool_specs"][0]["container_spec"]
    step = {"image": inner["image_uri"]}
    for key in ("command", "args"):
        if key in inner:
            step[key] = [_unescape(part) for part in inner[key]]
    return step | ({"env": inner["env"]} if "env" in inner else {})


def machine_spec(container: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the machine of the Custom Job that a container launches; empty when it launches none of `wrap`'s."""
    job = job_of(container)
    return dict(job["job_spec"]["worker_pool_specs"][0]["machine_spec"]) if job else {}


def image_of(container: Mapping[str, Any]) -> str:
    """Returns the image that a step's own code runs in."""
    return str(unwrap(container).get("image", ""))


def with_image(container: Mapping[str, Any], image: str) -> dict[str, Any]:
    """Returns a container whose own code runs in an image."""
    job = job_of(container)
    if job is None:
        return {**container, "image": image}
    for pool in job["job_spec"]["worker_pool_specs"]:
        pool["container_spec"]["image_uri"] = image
    args = list(container["args"])
    args[3] = json.dumps(job, ensure_ascii=False, sort_keys=True)
    return {**container, "args": args}


def _worker_pools(container: Mapping[str, Any], profile: Mapping[str, Any]) -> list[dict[str, Any]]:
    machine: dict[str, Any] = {"machine_type": profile["machine_type"]}
    if profile["accelerator"]:
        machine |= {"accelerator_type": profile["accelerator"], "accelerator_count": profile["count"]}
    if profile.get("reservation"):
        machine["reservation_affinity"] = {
            "reservation_affinity_type": "SPECIFIC_RESERVATION",
            "key": "compute.googleapis.com/reservation-name",
            "values": [profile["reservation"]],
        }
    inner: dict[str, Any] = {"image_uri": container["image"]}
    for key in ("command", "args"):
        if key in container:
            inner[key] = [_escape(part) for part in container[key]]
    if "env" in container:
        inner["env"] = container["env"]
    pool: dict[str, Any] = {"machine_spec": machine, "replica_count": 1, "container_spec": inner}
    if profile.get("boot_disk_gb"):
        pool["disk_spec"] = {
            "boot_disk_type": profile["boot_disk_type"],
            "boot_disk_size_gb": profile["boot_disk_gb"],
        }
    others = profile.get("replicas", 1) - 1
    return [pool, pool | {"replica_count": others}] if others > 0 else [pool]


def _escape(part: str) -> str:
    return _PLACEHOLDER.sub(lambda m: "{{$" + (m[1] or "") + f".json_escape[{0 if m[1] else 1}]" + "}}", part)


def _unescape(part: str) -> str:
    return _ESCAPED.sub(lambda m: "{{$" + (m[1] or "") + "}}", part)
