"""Google's machines: which accelerators a machine type takes, how many of them, and where they are.

The data is `table.json` beside this module, with its date and its source.
"""

import difflib
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

# Vertex AI picks the machine of a plain step from its limits, and takes none above these.
MAX_VCPU, MAX_MEMORY_GIB = 96, 624
# The label of GKE's nodes that names their GPU.
GKE_ACCELERATOR = "cloud.google.com/gke-accelerator"
STRATEGIES = ("STANDARD", "SPOT", "FLEX_START")


@lru_cache(maxsize=1)
def table() -> dict[str, Any]:
    """Returns the table: `accelerators` and `machine_types` by name, `as_of`, `source`; do not change it."""
    return dict(json.loads(Path(__file__).with_name("table.json").read_text()))


def accelerators() -> dict[str, dict[str, Any]]:
    """Returns the accelerators that are still offered, by Vertex AI's name."""
    as_of = table()["as_of"]
    return {name: about for name, about in table()["accelerators"].items() if about.get("ended", as_of) >= as_of}


def machine_problem(machine_type: str, accelerator: str, count: int) -> str:
    """Returns why Vertex AI refuses a machine for training, in one sentence; "" when it takes it.

    Args:
        machine_type: Google's name, such as `g2-standard-8`.
        accelerator: Vertex AI's name of the GPU; "" for none.
        count: How many GPUs; 0 for none.
    """
    if bool(accelerator) != (count > 0):
        return f"{count} x {accelerator or 'no GPU'} names a GPU without a count or a count without a GPU: give both."
    if accelerator and (problem := accelerator_problem(accelerator)):
        return problem
    family = machine_type.partition("-")[0]
    takes = table()["machine_types"].get(machine_type, {}).get("accelerators", {})
    if not accelerator and _is_without_gpu(machine_type, family):
        return ""
    if count in takes.get(accelerator, ()):
        return ""
    if accelerator in takes:
        allowed = " or ".join(map(str, takes[accelerator]))
        return f"{machine_type} takes {allowed} x {accelerator}, not {count}: {_machines_with(accelerator, count)}."
    if takes and family != "n1":
        whole = ", ".join(f"{counts[0]} x {name}" for name, counts in takes.items())
        return f"{machine_type} comes with {whole}, and with nothing else: {_machines_with(accelerator, count)}."
    if accelerator:
        return f"{machine_type} takes no {accelerator}: {_machines_with(accelerator, count)}."
    known = [*table()["machine_types"], "e2-standard-4", "n2-standard-8"]
    near = difflib.get_close_matches(machine_type, known, n=3)
    instead = " or ".join(near) or f"one of the families {', '.join(table()['cpu_families'])}, or a GPU machine"
    return f"Vertex AI trains on no {machine_type}: use {instead}."


def _is_without_gpu(machine_type: str, family: str) -> bool:
    """Returns whether a machine type can have no GPU; the table has all of N1 but the smallest, not for training."""
    if family == "n1":
        return machine_type in table()["machine_types"]
    return family in table()["cpu_families"] and bool(re.fullmatch(r"[a-z0-9]+-[a-z]+-\d+", machine_type))


def accelerator_problem(accelerator: str, count: int = 0) -> str:
    """Returns why no machine has an accelerator, or so many of it; "" when one has.

    Args:
        accelerator: Vertex AI's name, such as `NVIDIA_L4`.
        count: How many; 0 asks for the name alone.
    """
    about = table()["accelerators"].get(accelerator)
    if about is None:
        return f"Vertex AI has no accelerator {accelerator!r}: use {' or '.join(_like(accelerator))}."
    if accelerator not in accelerators():
        return f"Google ended {accelerator} on {about['ended']}: use NVIDIA_TESLA_T4 or NVIDIA_L4."
    counts = sorted(
        {n for each in table()["machine_types"].values() for n in each["accelerators"].get(accelerator, ())}
    )
    if count and count not in counts:
        return f"No machine has {count} x {accelerator}: ask for {' or '.join(map(str, counts))}."
    return ""


def _like(accelerator: str) -> list[str]:
    """Returns the accelerators that a wrong name may mean; NVIDIA and TESLA in it say nothing."""

    def short(name: str) -> str:
        return re.sub(r"^(NVIDIA_)?(TESLA_)?", "", name.upper().replace("-", "_"))

    known = {short(name): name for name in accelerators()}
    wanted = short(accelerator)
    near = [name for name in known if wanted and name.startswith(wanted)] or difflib.get_close_matches(wanted, known, 2)
    return [known[name] for name in near] or list(accelerators())


def _machines_with(accelerator: str, count: int) -> str:
    if not accelerator:
        return "ask for its GPUs, or for another machine type"
    types = table()["machine_types"]
    names = [name for name, each in types.items() if count in each["accelerators"].get(accelerator, ())]
    if not names:
        return accelerator_problem(accelerator, count).rstrip(".").replace("No machine", "no machine", 1)
    shown = names if len(names) < 5 else [*names[:3], "..."]
    return f"{count} x {accelerator} is on {', '.join(shown)}"
