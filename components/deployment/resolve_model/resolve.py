"""Brings the model that a reference names to a folder."""

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from components.deployment.hub import download
from components.deployment.references import (
    FolderReference,
    check_folder,
    digest_of_folder,
    list_model_files,
    parse_reference,
)
from components.deployment.store.names import StoreReference
from components.deployment.store.store import NotThereError, Version, find_version
from components.errors import InputError
from components.models import ModelFacts, inspect_model, write_absent
from components.storage import filesystem, move_into_place


def resolve(
    reference: str, target: str | Path, allow_none: bool = False, any_architecture: bool = False
) -> dict[str, Any]:
    """Brings a model to a folder, checked and whole.

    Args:
        reference: A hub id with an optional `@revision`, a local or `gs://` folder, or
            `<store>/<name>@<alias or version>`; also as `pin_model` gives it.
        target: The folder that the Model becomes. It appears when everything in it is checked.
        allow_none: Whether `""`, and an alias that a store does not have yet, give the absent Model.
        any_architecture: Whether a model without a classification head will do, as one to fine-tune.

    Returns:
        The Model's metadata: reference, revision, architecture, labels, parameters, digest and library versions; of the
        absent Model: absent and reference.

    Raises:
        InputError: There is no such model, it may not be read, or it is not a sequence classifier of safetensors.
        ConnectionError: The hub did not answer.
        RuntimeError: The folder is not the one that was pinned any more; a new run pins it anew.
    """
    with tempfile.TemporaryDirectory(prefix="model-") as temporary:
        folder = Path(temporary) / "model"
        try:
            revision, facts = _fetch(reference, folder, any_architecture) if reference or not allow_none else ("", None)
        except NotThereError:
            if not allow_none:
                raise
            revision, facts = "", None
        if facts is None:
            metadata = write_absent(folder, reference)
            print(f"There is no model yet{f' at {reference}' if reference else ''}.", flush=True)
        else:
            metadata = _metadata(reference, revision, facts)
        move_into_place(folder, Path(target))
    return metadata


def _fetch(reference: str, folder: Path, any_architecture: bool) -> tuple[str, ModelFacts]:
    """Brings a model to a new folder; returns its revision or version ("" for a folder), and what its files say."""
    parsed = parse_reference(reference)
    revision, stored = "", None
    if isinstance(parsed, FolderReference):
        copy_folder(parsed.uri, folder)
        if parsed.digest and digest_of_folder(parsed.uri) != parsed.digest:
            raise RuntimeError(f"The model in {parsed.uri} has changed since it was pinned: run again, to pin it anew.")
    elif isinstance(parsed, StoreReference):
        stored = find_version(parsed)
        revision = stored.version
        copy_folder(stored.uri, folder)
    else:
        revision = download(parsed.text, folder)
    facts = inspect_model(folder, reference, any_architecture)
    if stored:
        _check_unchanged(stored, facts)
    return revision, facts


def copy_folder(uri: str, folder: Path) -> None:
    """Copies the model files of a local or `gs://` folder, and leaves checkpoints and other files where they are.

    Raises:
        InputError: There is no such folder, or its files are not those of a Model.
    """
    check_folder(uri)
    fs, _ = filesystem(uri)
    folder.mkdir(parents=True)
    for file in list_model_files(uri):
        fs.get_file(file.uri.removeprefix("gs://"), str(folder / file.name))


def _check_unchanged(stored: Version, facts: ModelFacts) -> None:
    if facts.digest != stored.digest:
        raise InputError(
            f"The files of {stored.reference} are not those that were pushed.",
            "Take another version: what changes a version's files leaves no trace of the model that was evaluated.",
        )


def _metadata(reference: str, revision: str, facts: ModelFacts) -> dict[str, Any]:
    labels = f", labels {', '.join(facts.labels)}" if facts.labels else ""
    print(f"{reference}: {facts.architecture}, {facts.parameters:,} parameters{labels}.", flush=True)
    return {
        "reference": reference,
        "revision": revision,
        "architecture": facts.architecture,
        **({"labels": facts.labels} if facts.labels else {}),
        "parameters": facts.parameters,
        "digest": facts.digest,
        "libraries": {name: version(name) for name in ("transformers", "torch", "safetensors")},
    }
