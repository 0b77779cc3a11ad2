"""Says what a model reference stands for now, in words that stay true."""

from components.deployment.hub import look_up
from components.deployment.references import (
    FolderReference,
    check_folder,
    digest_of_folder,
    parse_reference,
)
from components.deployment.store.names import StoreReference
from components.deployment.store.store import NotThereError, find_version
from components.errors import InputError
from components.storage import filesystem


def pin(reference: str, allow_none: bool = False) -> str:
    """Returns a reference that stands for the same model for ever, or for none.

    Args:
        reference: A hub id, a folder, or `<store>/<name>@<alias or version>`.
        allow_none: Whether there may be no model: `""`, or an alias that a store does not have yet.

    Returns:
        `org/name@<commit>`, `<folder>#<digest>` or `<store>/<name>@<version>`; "" for none. A reference that is pinned
        already stays as it is.

    Raises:
        InputError: There is no such model, or a folder is not the one that was pinned.
        ConnectionError: The hub did not answer.
    """
    try:
        pinned = _pin(reference) if reference or not allow_none else ""
    except NotThereError:
        if not allow_none:
            raise
        pinned = ""
    print(f"{reference!r} is now {pinned}" if pinned else f"{reference!r} is no model yet.", flush=True)
    return pinned


def _pin(reference: str) -> str:
    parsed = parse_reference(reference)
    if isinstance(parsed, StoreReference):
        return find_version(parsed).reference
    if isinstance(parsed, FolderReference):
        return _pin_folder(parsed)
    found = look_up(parsed.text)
    return f"{found.id}@{found.commit}"


def _pin_folder(folder: FolderReference) -> str:
    check_folder(folder.uri)
    digest = digest_of_folder(folder.uri)
    if folder.digest not in ("", digest):
        raise InputError(
            f"The model in {folder.uri} is not the one that was pinned.",
            "Leave out the # and what follows, to take the model that is there now.",
        )
    _, path = filesystem(folder.uri)
    uri = f"gs://{path.rstrip('/')}" if folder.uri.startswith("gs://") else path
    return f"{uri}#{digest}"
