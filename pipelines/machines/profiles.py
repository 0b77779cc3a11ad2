"""GPU profiles: the machines that a step can ask for, and what each of them has."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from kfp import dsl

from pipelines.machines.table import MAX_MEMORY_GIB, MAX_VCPU, STRATEGIES, accelerators, machine_problem, table

AS_OF: str = table()["as_of"]
SOURCE: str = table()["source"]
SUFFIXES = {"SPOT": "-spot", "FLEX_START": "-flex"}
_RESERVATION = re.compile(r"projects/[^/]+/zones/[^/]+/reservations/[^/]+")
_NETWORK = re.compile(r"projects/\d+/global/networks/[^/]+")


@dataclass(frozen=True, kw_only=True)
class MachineProfile:
    """A machine that a step can run on, checked against Google's table when it is built.

    Attributes:
        name: What a request says, such as `l4-1`.
        machine_type: Google's name of the machine.
        accelerator: Vertex AI's name of the GPU; "" for a machine without one.
        count: How many GPUs the machine has.
        vcpu: How many virtual CPUs it has.
        memory_gib: Its memory, in GiB.
        gpu_memory_gib: The memory of one GPU, in GiB.
        bf16: Whether the GPU computes in bfloat16.
        strategy: How Vertex AI provides it: `STANDARD` on demand; `SPOT` cheaper, and taken back when others pay more;
            `FLEX_START` when it becomes free, within a day, for 7 days at most.
        exact: Whether the step needs this very machine type; otherwise Vertex AI picks one that has what it asks for.
        boot_disk_gb: The size of the boot disk; 0 is Vertex AI's choice.
        reservation: `projects/P/zones/Z/reservations/R`, to run on machines that are set aside; "" for none.
        network: `projects/NUMBER/global/networks/N`, a network that the step can reach; "" for none.
        replicas: How many of these machines run the step; the first one writes the outputs.

    Raises:
        ValueError: Vertex AI has no such machine.
    """

    name: str
    machine_type: str
    accelerator: str = ""
    count: int = 0
    vcpu: int
    memory_gib: float
    gpu_memory_gib: int = 0
    bf16: bool = False
    strategy: str = "STANDARD"
    exact: bool = False
    boot_disk_gb: int = 0
    reservation: str = ""
    network: str = ""
    replicas: int = 1

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,62}", self.name):
            self._refuse("a name that no label can hold", "use lowercase letters, digits and -")
        if problem := machine_problem(self.machine_type, self.accelerator, self.count):
            raise ValueError(f"The profile {self.name} cannot be. {problem}")
        about = table()["machine_types"].get(self.machine_type)
        if about and (self.vcpu, self.memory_gib) != (about["vcpu"], about["memory_gib"]):
            have = f"{about['vcpu']} vCPU and {about['memory_gib']:g} GiB"
            self._refuse(f"{self.vcpu} vCPU and {self.memory_gib:g} GiB", f"{self.machine_type} has {have}")
        gpu = table()["accelerators"].get(self.accelerator, {"gpu_memory_gib": 0, "bf16": False})
        if (self.gpu_memory_gib, self.bf16) != (gpu["gpu_memory_gib"], gpu["bf16"]):
            have = f"{gpu['gpu_memory_gib']} GiB and {'bf16' if gpu['bf16'] else 'no bf16'}"
            given = f"{self.gpu_memory_gib} GiB of GPU memory and {'bf16' if self.bf16 else 'no bf16'}"
            self._refuse(given, f"{self.accelerator or 'a machine without a GPU'} has {have}")
        allowed = gpu.get("strategies", ["STANDARD", "SPOT"])
        if self.strategy not in allowed:
            what = f"{self.accelerator or 'a CPU'} is given as {' or '.join(allowed)}"
            unknown = "" if self.strategy in STRATEGIES else "there is none of that name, and "
            self._refuse(f"the strategy {self.strategy!r}", unknown + what)
        self._check_custom_job()

    def _check_custom_job(self) -> None:
        if self.boot_disk_gb and not 100 <= self.boot_disk_gb <= 64000:
            self._refuse(f"a boot disk of {self.boot_disk_gb} GB", "it has 100 to 64000")
        if self.reservation and not _RESERVATION.fullmatch(self.reservation):
            self._refuse(f"the reservation {self.reservation!r}", "write projects/P/zones/Z/reservations/R")
        if self.reservation and self.strategy != "STANDARD":
            self._refuse(f"a reservation and the strategy {self.strategy}", "a reservation is used on demand")
        if self.network and not _NETWORK.fullmatch(self.network):
            self._refuse(f"the network {self.network!r}", "write projects/NUMBER/global/networks/N, with the number")
        if self.replicas < 1:
            self._refuse(f"{self.replicas} replicas", "at least one runs the step")

    def _refuse(self, what: str, instead: str) -> None:
        raise ValueError(f"The profile {self.name} has {what}: {instead}.")

    @property
    def wrapped(self) -> bool:
        """Whether the step becomes a Custom Job, because Vertex AI gives no such machine to a plain step."""
        too_large = self.vcpu > MAX_VCPU or self.memory_gib > MAX_MEMORY_GIB
        special = bool(self.boot_disk_gb or self.reservation or self.network) or self.replicas > 1
        return self.exact or too_large or special or self.strategy != "STANDARD"

    @property
    def boot_disk_type(self) -> str:
        """The kind of boot disk; the newest machines take no other than hyperdisk."""
        families = tuple(f"{family}-" for family in table()["hyperdisk_only"])
        return "hyperdisk-balanced" if self.machine_type.startswith(families) else "pd-ssd"

    @property
    def cpu_limit(self) -> str:
        """The limit as kfp takes it: everything that the machine has."""
        return str(self.vcpu)

    @property
    def memory_limit(self) -> str:
        """The limit as kfp takes it; `G` and not `Gi`, because Google's "48 GB" is what Vertex AI matches it with."""
        return f"{self.memory_gib:g}G"

    def to_json(self) -> dict[str, Any]:
        """Returns the profile as the trigger reads it; what only Custom Jobs have is there only when it is given."""
        document = {
            key: value
            for key, value in asdict(self).items()
            if key not in ("exact", "boot_disk_gb", "reservation", "network", "replicas") or (value and value != 1)
        }
        document.pop("exact", None)
        if self.boot_disk_gb:
            document["boot_disk_type"] = self.boot_disk_type
        if self.wrapped:
            document["wrapped"] = True
        return document | {"cpu_limit": self.cpu_limit, "memory_limit": self.memory_limit}


def make_profile(name: str, machine_type: str, accelerator: str = "", count: int = 0, **more: Any) -> MachineProfile:
    """Makes a profile, with what the table says of the machine.

    Args:
        name: What a request says.
        machine_type: Google's name of the machine.
        accelerator: Vertex AI's name of the GPU; "" for none.
        count: How many GPUs.
        **more: The other fields of `MachineProfile`, such as `boot_disk_gb`.

    Raises:
        ValueError: Vertex AI has no such machine.
    """
    about = table()["machine_types"].get(machine_type, {"vcpu": 0, "memory_gib": 0})
    gpu = table()["accelerators"].get(accelerator, {"gpu_memory_gib": 0, "bf16": False})
    has = {key: about[key] for key in ("vcpu", "memory_gib")} | {key: gpu[key] for key in ("gpu_memory_gib", "bf16")}
    return MachineProfile(name=name, machine_type=machine_type, accelerator=accelerator, count=count, **has | more)


# The machine types that profiles stand for; T4 and V100 can be put on many of N1's.
_N1 = {
    "NVIDIA_TESLA_T4": {1: "n1-standard-8", 2: "n1-standard-16", 4: "n1-standard-32"},
    "NVIDIA_TESLA_V100": {1: "n1-standard-8", 2: "n1-standard-16", 4: "n1-standard-32", 8: "n1-standard-64"},
}
# Of the machine types with one L4; the others differ in CPUs and memory.
_L4_WITH_ONE = "g2-standard-8"
# Not given a profile: too old to be of use, and ARM, which the components' image is not built for.
_WITHOUT_PROFILE = ("NVIDIA_TESLA_P4", "NVIDIA_GB200")
# Machines that Vertex AI is not known to pick for a plain step.
_EXACT = ("NVIDIA_RTX_PRO_6000",)

# Your own profiles, with a boot disk, a reservation, a network or several replicas:
# make_profile("h200-8-reserved", "a3-ultragpu-8g", "NVIDIA_H200_141GB", 8, reservation="projects/P/zones/Z/..."),
OWN_PROFILES: tuple[MachineProfile, ...] = ()


def _google_profiles() -> Iterator[MachineProfile]:
    yield make_profile("cpu", "n1-standard-8")
    for accelerator, about in accelerators().items():
        if accelerator in _WITHOUT_PROFILE:
            continue
        for count, machine_type in sorted(_machine_types(accelerator).items()):
            exact = accelerator in _EXACT
            base = make_profile(f"{about['short']}-{count}", machine_type, accelerator, count, exact=exact)
            yield base
            for strategy in about["strategies"]:
                if strategy != "STANDARD":
                    yield replace(base, name=base.name + SUFFIXES[strategy], strategy=strategy)


def _machine_types(accelerator: str) -> dict[int, str]:
    if accelerator in _N1:
        return _N1[accelerator]
    types = table()["machine_types"].items()
    by_count = {n: name for name, about in types for n in about["accelerators"].get(accelerator, ())}
    return by_count | ({1: _L4_WITH_ONE} if accelerator == "NVIDIA_L4" else {})


def by_name(profiles: Iterable[MachineProfile]) -> dict[str, MachineProfile]:
    """Returns profiles by their names.

    Raises:
        ValueError: Two have the same.
    """
    found: dict[str, MachineProfile] = {}
    for profile in profiles:
        if found.setdefault(profile.name, profile) != profile:
            raise ValueError(f"There are two GPU profiles {profile.name!r}: give one of them another name.")
    return found


PROFILES: dict[str, MachineProfile] = by_name((*_google_profiles(), *OWN_PROFILES))
# The profiles that `apply` was given as objects: the compiler finds them by the name that it left in the spec.
_applied: dict[str, MachineProfile] = {}


def apply(task: dsl.PipelineTask, profile: str | MachineProfile) -> dsl.PipelineTask:
    """Asks for a machine for a step, where the pipeline is defined.

    The request that starts a run can lay another profile on every step that asks for an accelerator.

    A profile that becomes a Custom Job is laid on by `pipelines.compile`. Until then its name stands in the place of
    the accelerator's: whoever compiles with kfp alone gets a spec that Vertex AI refuses, and no other machine
    unnoticed.

    Args:
        task: A step: not a sub-pipeline, since kfp sets limits on containers alone.
        profile: A profile, or the name of one in `PROFILES`.

    Returns:
        The same step, so that calls can be chained.

    Raises:
        ValueError: No profile has that name, or two profiles share one.
    """
    if isinstance(profile, str):
        if profile not in PROFILES:
            raise ValueError(f"There is no GPU profile {profile!r}. Choose one of: {', '.join(PROFILES)}.")
        profile = PROFILES[profile]
    elif _applied.setdefault(profile.name, PROFILES.get(profile.name, profile)) != profile:
        raise ValueError(f"There are two GPU profiles {profile.name!r}: give one of them another name.")
    task.set_cpu_limit(profile.cpu_limit).set_memory_limit(profile.memory_limit)
    if profile.wrapped:
        task.set_accelerator_type(profile.name).set_accelerator_limit(max(profile.count, 1))
    elif profile.accelerator:
        task.set_accelerator_type(profile.accelerator).set_accelerator_limit(profile.count)
    return task


def applied_profile(name: str) -> MachineProfile | None:
    """Returns the profile whose name `apply` left in a spec; None for the name of an accelerator."""
    return PROFILES.get(name) or _applied.get(name)


def machines_json() -> dict[str, Any]:
    """Returns the table as data: what `compiled/machines.json` holds and the trigger reads."""
    regions = {name: list(about["regions"]) for name, about in accelerators().items() if "regions" in about}
    return {
        "as_of": AS_OF,
        "source": SOURCE,
        "regions_as_of": table()["regions_as_of"],
        "regions_source": table()["regions_source"],
        "regions": regions,
        "machines": {name: profile.to_json() for name, profile in PROFILES.items()},
    }
