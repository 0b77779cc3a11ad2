"""Brings the model that a reference names to a folder."""

import re
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from components.errors import InputError
from components.models import check_names, inspect_model, model_files
from components.storage import filesystem, move_into_place

_HUB_NAME = r"[A-Za-z0-9][\w.-]*"
_HUB_ID = re.compile(rf"(?P<id>({_HUB_NAME}/)?{_HUB_NAME})(@(?P<revision>[\w./-]+))?", re.ASCII)


def resolve(reference: str, target: str | Path) -> dict[str, Any]:
    """Brings a model to a folder, checked and whole.

    Args:
        reference: A hub id with an optional `@revision`, or a local or `gs://` folder. It is a folder when it exists as
            one, holds `://`, or starts with `/`, `./`, `../` or `~`.
        target: The folder that the Model becomes. It appears when everything in it is checked.

    Returns:
        The Model's metadata: reference, revision, architecture, labels, parameters, digest and library versions.

    Raises:
        InputError: There is no such model, it may not be read, or it is not a sequence classifier of safetensors.
        ConnectionError: The hub did not answer.
    """
    with tempfile.TemporaryDirectory(prefix="model-") as temporary:
        folder = Path(temporary) / "model"
        revision = ""
        if is_folder(reference):
            copy_folder(reference, folder)
        else:
            revision = download(reference, folder)
        facts = inspect_model(folder, reference)
        print(f"{reference}: {facts.architecture}, {facts.parameters:,} parameters, labels {', '.join(facts.labels)}.")
        move_into_place(folder, Path(target))
    return {
        "reference": reference,
        "revision": revision,
        "architecture": facts.architecture,
        "labels": facts.labels,
        "parameters": facts.parameters,
        "digest": facts.digest,
        "libraries": {name: version(name) for name in ("transformers", "torch", "safetensors")},
    }


def is_folder(reference: str) -> bool:
    """Tells whether a reference names a folder rather than a model on the hub."""
    if not reference:
        return False
    return "://" in reference or reference.startswith(("/", "./", "../", "~")) or Path(reference).exists()


def copy_folder(uri: str, folder: Path) -> None:
    """Copies the model files of a local or `gs://` folder, and leaves checkpoints and other files where they are.

    Raises:
        InputError: There is no such folder, or its files are not those of a Model.
    """
    fs, path = filesystem(uri)
    fs.invalidate_cache()
    if not fs.isdir(path):
        raise InputError(f"There is no folder at {uri!r}.", "Check the path, and that the step may read it.")
    files = {info["name"].rstrip("/").rsplit("/", 1)[-1]: info["name"] for info in fs.ls(path, detail=True)}
    check_names(list(files), uri)
    folder.mkdir(parents=True)
    for name in model_files(list(files)):
        fs.get_file(files[name], str(folder / name))


def download(reference: str, folder: Path) -> str:
    """Downloads the model files of a model on the hub.

    Which hub, and with whose token, is what huggingface_hub finds in the environment: `HF_ENDPOINT`, `HF_TOKEN`.

    Args:
        reference: `org/name` or `name`, with an optional `@revision`.
        folder: Where the files are put.

    Returns:
        The commit that the revision stands for now.

    Raises:
        InputError: It is no hub id, there is no such model or revision, or it may not be read.
        ConnectionError: The hub did not answer.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        DisabledRepoError,
        GatedRepoError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    match = _HUB_ID.fullmatch(reference)
    if not match:
        raise InputError(
            f"{reference!r} is not a model reference.", "Give a hub id such as org/name@revision, or a folder."
        )
    try:
        info = HfApi().model_info(match["id"], revision=match["revision"], timeout=30)
        names = [file.rfilename for file in info.siblings or []]
        check_names(names, reference)
        # Of exactly the commit that was looked at: the branch may move on between the two calls.
        snapshot_download(match["id"], revision=info.sha, local_dir=folder, allow_patterns=model_files(names))
    except GatedRepoError as error:
        raise InputError(
            f"The model {reference!r} is gated.",
            "Accept its terms on the hub, and give the step that account's HF_TOKEN.",
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(
            f"The model {match['id']!r} has no revision {match['revision']!r}.",
            "Name a branch, a tag or a commit of it.",
        ) from error
    except (RepositoryNotFoundError, DisabledRepoError, HFValidationError) as error:
        raise InputError(
            f"There is no model {reference!r} on the hub.",
            "Check the name; a private model needs HF_TOKEN, and a folder is given as an absolute path or ./path.",
        ) from error
    except (HTTPError, ConnectionError, TimeoutError, LocalEntryNotFoundError) as error:
        if getattr(getattr(error, "response", None), "status_code", 0) in (401, 403):
            raise InputError(
                f"The hub does not let this step read {reference!r}.", "Give the step an HF_TOKEN that may read it."
            ) from error
        raise ConnectionError(f"The hub did not give {reference!r}: {type(error).__name__}: {error}") from error
    # What snapshot_download notes about its own downloads is no part of the model.
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return str(info.sha)
