"""What changed for those who call a pipeline, between two compiled specs: compatible, or breaking."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# A number that was whole may still be given where any number is taken.
_WIDER = {("NUMBER_INTEGER", "NUMBER_DOUBLE")}


@dataclass(frozen=True)
class Change:
    """One change of an interface.

    Attributes:
        breaking: Whether a request, or a pipeline that uses this one, that was right is right no more.
        text: What changed, with its name.
    """

    breaking: bool
    text: str


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Returns the changes of an interface, the breaking ones first.

    Args:
        before: A compiled pipeline, or a table of GPU profiles.
        after: The same one, compiled later.
    """
    if "root" in before and "root" in after:
        changes = [*_inputs(before["root"], after["root"]), *_outputs(before["root"], after["root"])]
        names = [document.get("pipelineInfo", {}).get("name") for document in (before, after)]
        if names[0] != names[1]:
            changes.append(Change(False, f"the name is {names[1]}, was {names[0]}: no cached result is found under it"))
    else:
        changes = [
            *_machines(before.get("machines", {}), after.get("machines", {})),
            *_regions(before.get("regions", {}), after.get("regions", {})),
        ]
    return sorted(changes, key=lambda change: not change.breaking)


def verdict(changes: list[Change]) -> str:
    """Returns one line: unchanged, compatible or breaking, and the changes."""
    if not changes:
        return "interface unchanged"
    kind = "BREAKING" if changes[0].breaking else "compatible"
    return f"{kind}: {'; '.join(change.text for change in changes)}"


def _inputs(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for kind, title in (("parameters", "parameter"), ("artifacts", "artifact input")):
        old, new = (root.get("inputDefinitions", {}).get(kind, {}) for root in (before, after))
        for name in sorted(old.keys() - new.keys()):
            yield Change(True, f"the {title} {name} was removed")
        for name in sorted(new.keys() - old.keys()):
            required = not new[name].get("isOptional")
            yield Change(required, f"the {title} {name} is new, and {'required' if required else 'optional'}")
        for name in sorted(old.keys() & new.keys()):
            yield from _input(f"the {title} {name}", old[name], new[name])


def _input(title: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    types = _type(old), _type(new)
    if types[0] != types[1]:
        yield Change(types not in _WIDER, f"{title} is {types[1]}, was {types[0]}")
    if bool(old.get("isOptional")) != bool(new.get("isOptional")):
        optional = bool(new.get("isOptional"))
        yield Change(not optional, f"{title} is {'optional' if optional else 'required'} now")
    elif old.get("defaultValue") != new.get("defaultValue"):
        yield Change(False, f"{title} has the default {new.get('defaultValue')!r}, had {old.get('defaultValue')!r}")


def _outputs(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for kind in ("parameters", "artifacts"):
        old, new = (root.get("outputDefinitions", {}).get(kind, {}) for root in (before, after))
        for name in sorted(old.keys() - new.keys()):
            yield Change(True, f"the output {name} was removed")
        for name in sorted(new.keys() - old.keys()):
            yield Change(False, f"the output {name} is new")
        for name in sorted(old.keys() & new.keys()):
            if _type(old[name]) != _type(new[name]):
                yield Change(True, f"the output {name} is {_type(new[name])}, was {_type(old[name])}")


def _type(definition: Mapping[str, Any]) -> str:
    kind = definition.get("parameterType") or definition.get("artifactType", {}).get("schemaTitle", "")
    return f"a list of {kind}" if definition.get("isArtifactList") else str(kind)


def _machines(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted(old.keys() - new.keys()):
        yield Change(True, f"the machine {name} was removed")
    added = [name for name in new if name not in old]
    if added:
        shown = ", ".join([*added[:5], *(["..."] if len(added) > 5 else [])])
        yield Change(False, f"{len(added)} new machine{'s' * (len(added) > 1)}: {shown}")
    for name in sorted(old.keys() & new.keys()):
        is_now, was = _hardware(new[name]), _hardware(old[name])
        if is_now != was:
            yield Change(False, f"the machine {name} is {is_now}, was {was}")


def _hardware(profile: Mapping[str, Any]) -> str:
    gpus = f"{profile.get('count')} x {profile['accelerator']} on " if profile.get("accelerator") else ""
    strategy = profile.get("strategy", "STANDARD")
    return f"{gpus}{profile.get('machine_type')}" + (f", {strategy}" if strategy != "STANDARD" else "")


def _regions(old: Mapping[str, list[str]], new: Mapping[str, list[str]]) -> Iterator[Change]:
    """A region that a GPU is no longer in refuses requests that it took."""
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield Change(True, f"{name} was taken to be everywhere, is in {', '.join(new[name])}")
        elif name not in new:
            yield Change(False, f"{name} is taken to be everywhere")
        else:
            gone, added = sorted(set(old[name]) - set(new[name])), sorted(set(new[name]) - set(old[name]))
            if gone:
                yield Change(True, f"{name} is no longer in {', '.join(gone)}")
            if added:
                yield Change(False, f"{name} is also in {', '.join(added)}")
