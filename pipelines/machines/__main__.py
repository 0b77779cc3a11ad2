"""`python -m pipelines.machines`: the table of GPU profiles, and which of them a model fits on."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipelines.machines import PROFILES, MachineProfile
from pipelines.machines.memory import GIB, Model, Purpose, estimate, largest_batch, precision_of, spare_gib
from pipelines.machines.table import STRATEGIES, accelerators, table

_FORMS = {False: "step", True: "Custom Job"}
# What the tables need: a line that a narrow screen folds has all its names, and one that is cut off has not.
_LEAST_WIDTH = 140


def _matching(gpu_memory_min: float, bf16: bool, strategy: str, location: str) -> list[MachineProfile]:
    return [
        profile
        for profile in PROFILES.values()
        if profile.gpu_memory_gib >= gpu_memory_min
        and (profile.bf16 or not bf16)
        and profile.strategy == strategy
        and (not location or location in accelerators().get(profile.accelerator, {}).get("regions", [location]))
    ]


def _strategies(profile: MachineProfile) -> str:
    """Returns the suffixes with which a profile's name can be written, too."""
    names = [name for name in PROFILES if name.startswith(f"{profile.name}-")]
    return " ".join(name.removeprefix(profile.name) for name in names if name.endswith(("-spot", "-flex")))


def _show_profiles(console: Console, profiles: list[MachineProfile]) -> None:
    shown = Table(title=f"GPU profiles, {table()['as_of']}", box=None, padding=(0, 2, 0, 0), title_justify="left")
    for heading in ("profile", "also as", "machine type", "GPUs", "each", "bf16", "vCPU", "memory", "as", "note"):
        shown.add_column(heading, no_wrap=heading != "note")
    for profile in profiles:
        shown.add_row(
            profile.name,
            _strategies(profile),
            profile.machine_type,
            f"{profile.count} x {profile.accelerator.removeprefix('NVIDIA_')}" if profile.count else "none",
            f"{profile.gpu_memory_gib} GiB" if profile.count else "",
            "yes" if profile.bf16 else "no",
            str(profile.vcpu),
            f"{profile.memory_gib:g} GiB",
            _FORMS[profile.wrapped],
            accelerators().get(profile.accelerator, {}).get("note", ""),
        )
    console.print(shown)
    console.print(
        "-spot is cheaper and can be taken back; -flex waits up to a day for its turn. Both run as a Custom Job. "
        f"Source: {table()['source']}",
        soft_wrap=True,
        highlight=False,
    )


def _show_fit(
    console: Console, profiles: list[MachineProfile], model: Model, purpose: Purpose, length: int, batch: int
) -> None:
    needs = estimate(model, purpose, length, batch, 16)
    parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in needs.parts.items())
    console.print(
        f"To {purpose} {model.parameters:,.0f} parameters ({model.layers} layers of width {model.width}) in 16 bits on "
        f"{batch} x {length} tokens takes about {needs.total / GIB:.1f} GiB of each GPU: {parts} GiB, and a tenth, "
        "and 1 GiB.",
        soft_wrap=True,
        highlight=False,
    )
    by_gpu: dict[str, list[MachineProfile]] = {}
    for profile in profiles:
        if profile.count:
            by_gpu.setdefault(profile.accelerator, []).append(profile)
    shown = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("GPU", "each", "in", "fits", "largest batch", "why", "profiles"):
        shown.add_column(heading, no_wrap=heading != "profiles")
    for accelerator, same in by_gpu.items():
        has = same[0].gpu_memory_gib
        largest, spare = largest_batch(model, purpose, length, has), spare_gib(needs, has)
        smaller = f"use --batch-size {largest}" if largest else "not even one text fits"
        shown.add_row(
            accelerator.removeprefix("NVIDIA_"),
            f"{has} GiB",
            precision_of(same[0]),
            "yes" if needs.fits(has) else "no",
            str(largest or "none"),
            f"{spare:.1f} GiB to spare" if needs.fits(has) else f"{-spare:.1f} GiB short: {smaller}",
            " ".join(profile.name for profile in same),
        )
    console.print(shown)


def main(
    gpu_memory_min: Annotated[float, typer.Option(help="Only GPUs with so many GiB each.")] = 0,
    bf16: Annotated[bool, typer.Option("--bf16", help="Only GPUs that compute in bfloat16.")] = False,
    strategy: Annotated[str, typer.Option(help=f"One of {', '.join(STRATEGIES)}.")] = "STANDARD",
    location: Annotated[str, typer.Option(help="Only GPUs that a region has, such as europe-west4.")] = "",
    parameters: Annotated[float, typer.Option(help="Of a model, such as 110e6: which GPUs does it fit on?")] = 0,
    sequence_length: Annotated[int, typer.Option(min=1, help="Tokens of one text.")] = 512,
    purpose: Annotated[Purpose, typer.Option("--for", help="What the model is loaded for.")] = Purpose.TRAIN,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts on one GPU at once.")] = 16,
    layers: Annotated[int, typer.Option(help="Layers of the model; derived when it is not given.")] = 0,
    width: Annotated[int, typer.Option(help="Hidden size of the model; derived when it is not given.")] = 0,
) -> None:
    """Show the GPU profiles, or which of them a model fits on.

    Example: python -m pipelines.machines --parameters 110e6 --sequence-length 512 --for train --batch-size 32
    """
    console, errors = Console(), Console(stderr=True, highlight=False, soft_wrap=True)
    console.width = max(console.width, _LEAST_WIDTH)
    if strategy.upper() not in STRATEGIES:
        errors.print(f"There is no strategy {strategy!r}. Use one of {', '.join(STRATEGIES)}.", markup=False)
        raise typer.Exit(2)
    profiles = _matching(gpu_memory_min, bf16, strategy.upper(), location)
    if not profiles:
        most = max(about["gpu_memory_gib"] for about in table()["accelerators"].values())
        errors.print(f"No profile is like that. The largest GPU has {most} GiB; see the table without filters.")
        raise typer.Exit(1)
    if not parameters:
        _show_profiles(console, profiles)
        return
    try:
        model = Model(parameters, layers, width)
    except ValueError as error:
        errors.print(str(error), markup=False)
        raise typer.Exit(2) from None
    _show_fit(console, profiles, model, purpose, sequence_length, batch_size)


if __name__ == "__main__":
    typer.run(main)
