"""GPU profiles: the machines that a step can ask for, and what each of them has."""

from dataclasses import asdict, dataclass
from typing import Any

from kfp import dsl
from rich.console import Console
from rich.table import Table

AS_OF = "2026-11-01"
SOURCE = "https://cloud.google.com/vertex-ai/docs/training/configure-compute"

# Vertex AI picks the machine of a plain step from its limits, and takes none above these.
MAX_VCPU, MAX_MEMORY_GIB = 96, 624

# The counts that Vertex AI allows on a machine type, by accelerator.
_FIXED_COUNTS: dict[str, tuple[str, int]] = {
    **{f"g2-standard-{n}": ("NVIDIA_L4", 1) for n in (4, 8, 12, 16, 32)},
    "g2-standard-24": ("NVIDIA_L4", 2),
    "g2-standard-48": ("NVIDIA_L4", 4),
    "g2-standard-96": ("NVIDIA_L4", 8),
    **{f"a2-highgpu-{n}g": ("NVIDIA_TESLA_A100", n) for n in (1, 2, 4, 8)},
    **{f"a2-ultragpu-{n}g": ("NVIDIA_A100_80GB", n) for n in (1, 2, 4, 8)},
    **{f"a3-highgpu-{n}g": ("NVIDIA_H100_80GB", n) for n in (1, 2, 4, 8)},
}
# N1 machines take a GPU that is chosen apart; the more vCPUs, the more GPUs they must have.
_N1_COUNTS: dict[str, dict[int, tuple[int, ...]]] = {
    "NVIDIA_TESLA_T4": {4: (1, 2, 4), 8: (1, 2, 4), 16: (1, 2, 4), 32: (2, 4), 64: (4,), 96: (4,)},
    "NVIDIA_TESLA_V100": {4: (1, 2, 4, 8), 8: (1, 2, 4, 8), 16: (2, 4, 8), 32: (4, 8), 64: (8,), 96: (8,)},
}
# Tensor cores compute in bfloat16 from compute capability 8.0 on.
_WITHOUT_BF16 = ("NVIDIA_TESLA_T4", "NVIDIA_TESLA_V100")


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
        strategy: How Vertex AI provides it; `STANDARD` is on demand.

    Raises:
        ValueError: Vertex AI has no such machine.
    """

    name: str
    machine_type: str
    accelerator: str = ""
    count: int = 0
    vcpu: int
    memory_gib: int
    gpu_memory_gib: int = 0
    bf16: bool = False
    strategy: str = "STANDARD"

    def __post_init__(self) -> None:
        if self.strategy != "STANDARD":
            self._refuse(f"strategy {self.strategy!r}", "STANDARD is the only one")
        if not 0 < self.vcpu <= MAX_VCPU:
            self._refuse(f"{self.vcpu} vCPU", f"a step can ask for 1 to {MAX_VCPU}")
        if not 0 < self.memory_gib <= MAX_MEMORY_GIB:
            self._refuse(f"{self.memory_gib} GiB of memory", f"a step can ask for 1 to {MAX_MEMORY_GIB}")
        allowed = self._allowed_counts()
        if self.count not in allowed:
            self._refuse(
                f"{self.count} x {self.accelerator or 'no GPU'} on {self.machine_type}",
                "that machine type takes " + (" or ".join(map(str, allowed)) or "no such GPU"),
            )
        if (self.gpu_memory_gib > 0) != (self.count > 0):
            self._refuse(f"{self.gpu_memory_gib} GiB of GPU memory with {self.count} GPUs", "give both or neither")
        if self.bf16 and (not self.count or self.accelerator in _WITHOUT_BF16):
            self._refuse("bf16", f"{self.accelerator or 'a machine without a GPU'} does not compute in it")

    def _allowed_counts(self) -> tuple[int, ...]:
        family, _, size = self.machine_type.partition("-")
        if self.machine_type in _FIXED_COUNTS:
            accelerator, count = _FIXED_COUNTS[self.machine_type]
            return (count,) if self.accelerator == accelerator else ()
        if not self.accelerator and family in ("e2", "n1", "n2", "n4", "c2", "m1"):
            return (0,)
        if family == "n1":
            cores = size.rpartition("-")[2]
            return _N1_COUNTS.get(self.accelerator, {}).get(int(cores) if cores.isdigit() else 0, ())
        return ()

    def _refuse(self, what: str, instead: str) -> None:
        raise ValueError(f"The profile {self.name} has {what}: {instead}.")

    @property
    def cpu_limit(self) -> str:
        """The limit as kfp takes it: everything that the machine has."""
        return str(self.vcpu)

    @property
    def memory_limit(self) -> str:
        """The limit as kfp takes it; `G` and not `Gi`, because Google's "48 GB" is what Vertex AI matches it with."""
        return f"{self.memory_gib}G"


_L4: dict[str, Any] = {"accelerator": "NVIDIA_L4", "gpu_memory_gib": 24, "bf16": True}
_TABLE = (
    MachineProfile(name="cpu", machine_type="n1-standard-8", vcpu=8, memory_gib=30),
    MachineProfile(
        name="t4-1",
        machine_type="n1-standard-8",
        accelerator="NVIDIA_TESLA_T4",
        count=1,
        vcpu=8,
        memory_gib=30,
        gpu_memory_gib=16,
    ),
    MachineProfile(
        name="v100-1",
        machine_type="n1-standard-8",
        accelerator="NVIDIA_TESLA_V100",
        count=1,
        vcpu=8,
        memory_gib=30,
        gpu_memory_gib=16,
    ),
    MachineProfile(name="l4-1", machine_type="g2-standard-8", count=1, vcpu=8, memory_gib=32, **_L4),
    MachineProfile(name="l4-2", machine_type="g2-standard-24", count=2, vcpu=24, memory_gib=96, **_L4),
    MachineProfile(name="l4-4", machine_type="g2-standard-48", count=4, vcpu=48, memory_gib=192, **_L4),
    MachineProfile(
        name="a100-40-1",
        machine_type="a2-highgpu-1g",
        accelerator="NVIDIA_TESLA_A100",
        count=1,
        vcpu=12,
        memory_gib=85,
        gpu_memory_gib=40,
        bf16=True,
    ),
    MachineProfile(
        name="a100-80-1",
        machine_type="a2-ultragpu-1g",
        accelerator="NVIDIA_A100_80GB",
        count=1,
        vcpu=12,
        memory_gib=170,
        gpu_memory_gib=80,
        bf16=True,
    ),
    MachineProfile(
        name="h100-1",
        machine_type="a3-highgpu-1g",
        accelerator="NVIDIA_H100_80GB",
        count=1,
        vcpu=26,
        memory_gib=234,
        gpu_memory_gib=80,
        bf16=True,
    ),
)
PROFILES: dict[str, MachineProfile] = {profile.name: profile for profile in _TABLE}


def apply(task: dsl.PipelineTask, profile: str | MachineProfile) -> dsl.PipelineTask:
    """Asks for a machine for a step, where the pipeline is defined.

    The request that starts a run can lay another profile on every step that asks for an accelerator.

    Args:
        task: A step: not a sub-pipeline, since kfp sets limits on containers alone.
        profile: A profile, or the name of one in `PROFILES`.

    Returns:
        The same step, so that calls can be chained.

    Raises:
        ValueError: No profile has that name.
    """
    if isinstance(profile, str):
        if profile not in PROFILES:
            raise ValueError(f"There is no GPU profile {profile!r}. Choose one of: {', '.join(PROFILES)}.")
        profile = PROFILES[profile]
    task.set_cpu_limit(profile.cpu_limit).set_memory_limit(profile.memory_limit)
    if profile.accelerator:
        task.set_accelerator_type(profile.accelerator).set_accelerator_limit(profile.count)
    return task


def machines_json() -> dict[str, Any]:
    """Returns the table as data: what `compiled/machines.json` holds and the trigger reads."""
    machines = {
        name: asdict(profile) | {"cpu_limit": profile.cpu_limit, "memory_limit": profile.memory_limit}
        for name, profile in PROFILES.items()
    }
    return {"as_of": AS_OF, "source": SOURCE, "machines": machines}


def main() -> None:
    """Prints the table of GPU profiles."""
    table = Table(title=f"GPU profiles, {AS_OF}", box=None, padding=(0, 2, 0, 0))
    for heading in ("profile", "machine type", "GPUs", "each", "bf16", "vCPU", "memory"):
        table.add_column(heading, no_wrap=True)
    for profile in PROFILES.values():
        table.add_row(
            profile.name,
            profile.machine_type,
            f"{profile.count} x {profile.accelerator}" if profile.count else "none",
            f"{profile.gpu_memory_gib} GiB" if profile.count else "",
            "yes" if profile.bf16 else "no",
            str(profile.vcpu),
            f"{profile.memory_gib} GiB",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
