"""Models on a hub; huggingface_hub finds which one, and with whose token, in HF_ENDPOINT and HF_TOKEN."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from components.errors import InputError
from components.models import check_names, model_files

_HUB_NAME = r"[A-Za-z0-9][\w.-]*"
_HUB_ID = re.compile(rf"(?P<id>({_HUB_NAME}/)?{_HUB_NAME})(@(?P<revision>[\w./-]+))?", re.ASCII)


@dataclass(frozen=True)
class HubModel:
    """A model on a hub as it is now.

    Attributes:
        id: `org/name` or `name`.
        commit: The commit that the revision stands for now.
        files: The names of all its files.
    """

    id: str
    commit: str
    files: list[str]


def look_up(reference: str) -> HubModel:
    """Asks the hub what a reference stands for now.

    Args:
        reference: `org/name` or `name`, with an optional `@revision`: a branch, a tag or a commit.

    Raises:
        InputError: It is no hub id, there is no such model or revision, it may not be read, or it is no Model.
        ConnectionError: The hub did not answer.
    """
    from huggingface_hub import HfApi

    match = _match(reference)
    with _explained(reference):
        info = HfApi().model_info(match["id"], revision=match["revision"], timeout=30)
    names = [file.rfilename for file in info.siblings or []]
    check_names(names, reference)
    return HubModel(match["id"], str(info.sha), names)


def download(reference: str, folder: Path) -> str:
    """Downloads the model files of a model on the hub.

    Args:
        reference: `org/name` or `name`, with an optional `@revision`.
        folder: Where the files are put.

    Returns:
        The commit that the revision stands for now.

    Raises:
        InputError: As for `look_up`.
        ConnectionError: The hub did not answer.
    """
    from huggingface_hub import snapshot_download

    found = look_up(reference)
    with _explained(reference):
        # Of exactly the commit that was looked at: the branch may move on between the two calls.
        snapshot_download(found.id, revision=found.commit, local_dir=folder, allow_patterns=model_files(found.files))
    # What snapshot_download notes about its own downloads is no part of the model.
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return found.commit


def _match(reference: str) -> re.Match[str]:
    match = _HUB_ID.fullmatch(reference)
    if not match:
        raise InputError(
            f"{reference!r} is not a model reference.",
            "Give a hub id such as org/name@revision, a folder, or STORE/NAME@ALIAS of a model store.",
        )
    return match


@contextmanager
def _explained(reference: str) -> Iterator[None]:
    from huggingface_hub.errors import (
        DisabledRepoError,
        GatedRepoError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise InputError(
            f"The model {reference!r} is gated.",
            "Accept its terms on the hub, and give the step that account's HF_TOKEN.",
        ) from error
    except RevisionNotFoundError as error:
        match = _match(reference)
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
