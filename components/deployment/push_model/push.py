"""Puts a Model into a model store, and makes it the champion."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from components.deployment.push_model.card import make_card
from components.deployment.store.names import check_name, is_version, parse_store_reference
from components.deployment.store.places import place_uri
from components.deployment.store.store import ModelStore
from components.errors import InputError
from components.models import inspect_model, refuse_absent


def push(
    model: str | Path,
    store_uri: str,
    name: str,
    compared_with: str = "",
    promote: bool = True,
    lineage: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    job: str = "",
) -> str:
    """Stores a Model as an immutable version, and makes it the champion if nobody else did so meanwhile.

    Pushing the same files again, as a step that is retried does, finds the version that is there.

    Args:
        model: The Model's folder.
        store_uri: The store: a local folder or a `gs://` prefix.
        name: The model's name in the store.
        compared_with: The pinned reference of the champion that the model was found better than; "" for none.
        promote: Whether the version becomes the champion, and the champion of before `previous`.
        lineage: What the model comes from, JSON values by name, for the model card.
        metrics: What it was evaluated at; only finite numbers are kept.
        metadata: The Model's metadata, which says what its training knew; `lineage` wins.
        job: The job's name.

    Returns:
        The version's reference, `<store>/<name>@<version>`.

    Raises:
        InputError: The model or a name will not do, or the champion is not the one that the model was compared with;
            then the version is stored, and the alias is not moved.
    """
    check_name(name)
    refuse_absent(model, "Push only what a training step has made.")
    store = ModelStore(store_uri)
    expected = _champion_compared_with(store, name, compared_with) if promote else ""
    facts = inspect_model(Path(model), name, any_architecture=True)
    details: dict[str, Any] = {
        "architecture": facts.architecture,
        "labels": facts.labels,
        "parameters": facts.parameters,
        "metrics": _finite(metrics or {}),
        "lineage": _plain({**_known(metadata or {}), **(lineage or {}), **({"job": job} if job else {})}),
        "libraries": {name: version_of(name) for name in ("transformers", "torch", "safetensors")},
    }
    now = datetime.now(UTC)
    pushed = store.push(name, Path(model), details, lambda reference: make_card(reference, now, facts, details))
    print(f"{pushed.reference}: {facts.architecture}, {facts.parameters:,} parameters.", flush=True)
    if promote:
        aliases = store.move_champion(name, pushed.version, expected)
        print(", ".join(f"{alias}: {version}" for alias, version in sorted(aliases.items())), flush=True)
    return pushed.reference


def _champion_compared_with(store: ModelStore, name: str, reference: str) -> str:
    """Returns the version that a candidate was compared with, "" for none."""
    if not reference:
        return ""
    parsed = parse_store_reference(reference)
    if not parsed or (place_uri(parsed.store), parsed.name) != (store.uri, name) or not is_version(parsed.selector):
        raise InputError(
            f"compared_with is {reference!r}, which is no version of {name!r} in {store.uri}.",
            "Give what pin_model made of this model's champion, or promote=False to store the model only.",
        )
    return parsed.selector


def _finite(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Returns the metrics that are numbers; on Vertex AI an artifact's metadata also holds other things."""
    numbers = {name: value for name, value in metrics.items() if type(value) in (int, float)}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _known(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the metadata that say where a Model comes from, without what its files say themselves."""
    own = ("architecture", "labels", "parameters", "digest", "libraries", "display_name")
    return {name: value for name, value in metadata.items() if name not in own}


def _plain(value: Any) -> Any:
    """Returns a value as JSON has it; kfp hands whole numbers over as floats, and JSON knows no NaN."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, (str, int)) else str(value)
