"""GPU profiles: laid on the steps of a compiled pipeline that ask for an accelerator, and on no other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triggers.errors import ConfigurationError, PermanentError
from triggers.spec import MACHINES, compiled_folder, read_json, suggestion


def load_machines(folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """Reads the profiles that were compiled with the pipelines, by name.

    Raises:
        ConfigurationError: `machines.json` is missing or not a table of profiles.
    """
    path = (folder or compiled_folder()) / MACHINES
    machines = read_json(path).get("machines")
    if not isinstance(machines, dict):
        raise ConfigurationError(f"{path} is not a table of GPU profiles. Compile the pipelines again.")
    return machines


def choose(machines: Mapping[str, dict[str, Any]], wanted: list[str]) -> dict[str, Any] | None:
    """Returns the profile that a request is served with: the first that it names.

    Args:
        machines: Profiles by name.
        wanted: Names in order of preference; empty leaves every step as it was compiled.

    Returns:
        A profile, or None when none is wanted.

    Raises:
        PermanentError: A name is unknown: a typing error in the second choice must show before the first runs out.
    """
    for name in wanted:
        if name not in machines:
            raise PermanentError(f"There is no machine {name!r}.", suggestion(name, list(machines)))
    return machines[wanted[0]] if wanted else None


def lay(spec: dict[str, Any], profile: Mapping[str, Any]) -> dict[str, Any]:
    """Lays a profile on the steps that ask for an accelerator.

    The result is what compiling with that profile would have given: the limits stand in kfp's numeric fields, which are
    in decimal GB, and in its text fields.

    Args:
        spec: A compiled pipeline; it is not changed.
        profile: One of `load_machines()`. Without an accelerator, the steps run on a CPU.

    Returns:
        A new spec, which shares what did not change with the old one.
    """
    deployment = spec["deploymentSpec"]
    executors = {
        label: _lay_on_executor(executor, profile) if asks_for_accelerator(executor) else executor
        for label, executor in deployment["executors"].items()
    }
    return spec | {"deploymentSpec": deployment | {"executors": executors}}


def asks_for_accelerator(executor: Mapping[str, Any]) -> bool:
    """Returns whether an executor is a container with at least one accelerator."""
    accelerator = executor.get("container", {}).get("resources", {}).get("accelerator", {})
    count = accelerator.get("resourceCount") or accelerator.get("count") or "0"
    return bool(accelerator.get("resourceType") or accelerator.get("type")) and str(count) != "0"


def _lay_on_executor(executor: Mapping[str, Any], profile: Mapping[str, Any]) -> dict[str, Any]:
    container = executor["container"]
    resources = {name: value for name, value in container["resources"].items() if name != "accelerator"}
    resources |= {
        "cpuLimit": float(profile["cpu_limit"]),
        "memoryLimit": float(profile["memory_limit"].removesuffix("G")),
        "resourceCpuLimit": profile["cpu_limit"],
        "resourceMemoryLimit": profile["memory_limit"],
    }
    if profile["accelerator"]:
        count = str(profile["count"])
        resources["accelerator"] = {
            "count": count,
            "type": profile["accelerator"],
            "resourceCount": count,
            "resourceType": profile["accelerator"],
        }
    return {**executor, "container": container | {"resources": resources}}
