"""GPU profiles: the machines that a step can ask for by name, and how a step asks."""

from pipelines.machines.profiles import (
    OWN_PROFILES,
    PROFILES,
    MachineProfile,
    applied_profile,
    apply,
    machines_json,
    make_profile,
)

__all__ = [
    "OWN_PROFILES",
    "PROFILES",
    "MachineProfile",
    "applied_profile",
    "apply",
    "machines_json",
    "make_profile",
]
