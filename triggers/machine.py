"""GPU profiles: laid on the steps of a compiled pipeline that ask for an accelerator, and on no other."""

import difflib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triggers import custom_job
from triggers.errors import ConfigurationError, PermanentError
from triggers.spec import MACHINES, compiled_folder, read_json

NEAREST = 5


@dataclass(frozen=True)
class Choice:
    """The profile that a request is served with.

    Attributes:
        profile: The profile; empty leaves every step as it was compiled.
        passed_over: Earlier names in the request's list, which the region does not offer.
        location: The region.
    """

    profile: Mapping[str, Any]
    passed_over: tuple[str, ...] = ()
    location: str = ""

    @property
    def name(self) -> str:
        """The profile's name; "" without one."""
        return str(self.profile.get("name", ""))

    @property
    def labels(self) -> dict[str, str]:
        """What the job's labels say of it; a label's value has at most 63 characters."""
        if not self.profile:
            return {}
        passed_over = {"machines-passed-over": "_".join(self.passed_over)[:63].rstrip("_-")} if self.passed_over else {}
        return {"machine": self.name, **passed_over}

    def __str__(self) -> str:
        if not self.passed_over:
            return self.name
        return f"{self.name}, because {self.location} offers no {' and no '.join(self.passed_over)}"


def load_machines(folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """Reads the profiles that were compiled with the pipelines, by name.

    A profile has the key `regions` where it is known which regions have its accelerator.

    Raises:
        ConfigurationError: `machines.json` is missing or not a table of profiles.
    """
    path = (folder or compiled_folder()) / MACHINES
    document = read_json(path)
    machines, regions = document.get("machines"), document.get("regions", {})
    if not isinstance(machines, dict) or not isinstance(regions, dict):
        raise ConfigurationError(f"{path} is not a table of GPU profiles. Compile the pipelines again.")
    return {
        name: profile | ({"regions": regions[profile["accelerator"]]} if profile["accelerator"] in regions else {})
        for name, profile in machines.items()
    }


def choose(machines: Mapping[str, dict[str, Any]], wanted: list[str], location: str = "") -> Choice:
    """Returns the profile that a request is served with: the first it names that the region offers.

    Args:
        machines: Profiles by name.
        wanted: Names in order of preference; empty leaves every step as it was compiled.
        location: The region that the job runs in; "" when it is not known, and then every region has everything.

    Returns:
        The choice.

    Raises:
        PermanentError: A name is unknown (a typing error in the second choice must show before the first runs out), or
            the region offers none of them.
    """
    for name in wanted:
        if name not in machines:
            raise PermanentError(f"There is no machine {name!r}.", _nearest(name, machines))
    if not wanted:
        return Choice({})
    offered = [name for name in wanted if _is_in(machines[name], location)]
    if not offered:
        here = {name: profile for name, profile in machines.items() if _is_in(profile, location)}
        regions = machines[wanted[0]]["regions"]
        raise PermanentError(
            f"{location} offers no {' and no '.join(wanted)}.",
            f"{_alike(machines[wanted[0]], here)} {wanted[0]} is in {', '.join(regions)}.",
        )
    return Choice(machines[offered[0]], tuple(wanted[: wanted.index(offered[0])]), location)


def lay(spec: dict[str, Any], profile: Mapping[str, Any], labels: Collection[str] | None = None) -> dict[str, Any]:
    """Lays a profile on the steps that ask for an accelerator.

    The result is what compiling with that profile gives: limits and an accelerator, from which Vertex AI picks the
    machine; or, for a profile that is `wrapped`, a Custom Job around the step.

    Args:
        spec: A compiled pipeline; it is not changed.
        profile: One of `load_machines()`. Without an accelerator, the steps run on a CPU.
        labels: The executors to lay it on; None for all that ask for an accelerator.

    Returns:
        A new spec, which shares what did not change with the old one.

    Raises:
        PermanentError: A step cannot be wrapped in a Custom Job.
    """
    deployment = spec["deploymentSpec"]
    executors = dict(deployment["executors"])
    for label, executor in executors.items():
        if label in labels if labels is not None else asks_for_accelerator(executor):
            name = label.removeprefix("exec-")
            executors[label] = {**executor, "container": _lay_on_container(executor["container"], profile, name)}
    return _with_executors(spec, executors)


def without_custom_jobs(spec: dict[str, Any]) -> dict[str, Any]:
    """Returns a pipeline whose steps are containers of their own, without resources where they were Custom Jobs."""
    executors = {
        label: {**executor, "container": custom_job.unwrap(executor["container"])}
        if custom_job.job_of(executor.get("container", {}))
        else executor
        for label, executor in spec["deploymentSpec"]["executors"].items()
    }
    return _with_executors(spec, executors)


def asks_for_accelerator(executor: Mapping[str, Any]) -> bool:
    """Returns whether an executor is a container, or a Custom Job made by `lay`, with at least one accelerator."""
    container = executor.get("container", {})
    if custom_job.machine_spec(container).get("accelerator_type"):
        return True
    accelerator = container.get("resources", {}).get("accelerator", {})
    count = accelerator.get("resourceCount") or accelerator.get("count") or "0"
    return bool(accelerator.get("resourceType") or accelerator.get("type")) and str(count) != "0"


def _lay_on_container(container: Mapping[str, Any], profile: Mapping[str, Any], name: str) -> dict[str, Any]:
    step = custom_job.unwrap(container)
    if profile.get("wrapped"):
        return custom_job.wrap(step, profile, name)
    # kfp's numeric fields are in decimal GB.
    resources: dict[str, Any] = {
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
    return step | {"resources": resources}


def _with_executors(spec: dict[str, Any], executors: dict[str, Any]) -> dict[str, Any]:
    deployment = spec["deploymentSpec"]
    components = {
        name: _with_output(name, component, deployment["executors"], executors)
        for name, component in spec.get("components", {}).items()
    }
    changed = spec | {"deploymentSpec": deployment | {"executors": executors}}
    return changed | {"components": components} if components else changed


def _with_output(
    name: str, component: dict[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, Any]:
    """Gives a component the launcher's output when its step became a Custom Job, and takes it from one that is none."""
    label = component.get("executorLabel", "")
    was, now = (custom_job.job_of(each.get(label, {}).get("container", {})) is not None for each in (before, after))
    if was == now:
        return component
    definitions = dict(component.get("outputDefinitions", {}))
    parameters = dict(definitions.get("parameters", {}))
    if now and custom_job.RESOURCES in parameters:
        raise PermanentError(
            f"The component {name.removeprefix('comp-')} has an output {custom_job.RESOURCES}.",
            "A Custom Job gives that name to an output of its own: give the component's another one.",
        )
    if now:
        parameters[custom_job.RESOURCES] = {"parameterType": "STRING"}
    else:
        del parameters[custom_job.RESOURCES]
    definitions = {key: value for key, value in (definitions | {"parameters": parameters}).items() if value}
    component = {key: value for key, value in component.items() if key != "outputDefinitions"}
    return component | ({"outputDefinitions": definitions} if definitions else {})


def _is_in(profile: Mapping[str, Any], location: str) -> bool:
    return not location or location in profile.get("regions", [location])


def _nearest(name: str, machines: Mapping[str, Any]) -> str:
    """Returns the names most like one that is unknown: Google's own name for what they have, then the same GPU."""
    name = name.lower().replace("_", "-")
    short = name.removeprefix("nvidia-").removeprefix("tesla-")
    gpu = short.partition("-")[0] + "-"

    def likeness(each: str) -> float:
        if name in (machines[each]["machine_type"], machines[each]["accelerator"].lower().replace("_", "-")):
            return 3
        return each.startswith(gpu) + difflib.SequenceMatcher(None, short, each).ratio()

    return _sentence(sorted(machines, key=lambda each: -likeness(each)))


def _alike(wanted: Mapping[str, Any], machines: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the machines most like one that the region has not: known to be there, as capable and as large."""

    def distance(name: str) -> tuple[bool, bool, bool, float]:
        profile = machines[name]
        sizes = [each["gpu_memory_gib"] * each["count"] for each in (wanted, profile)]
        return (
            "regions" not in profile,
            profile["strategy"] != wanted["strategy"],
            bool(wanted["bf16"]) and not profile["bf16"],
            abs(math.log2(sizes[1] / sizes[0])),
        )

    return _sentence(sorted((name for name, each in machines.items() if each["accelerator"]), key=distance))


def _sentence(names: list[str]) -> str:
    return f"The nearest are: {', '.join(names[:NEAREST])}."
