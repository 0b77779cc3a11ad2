"""What a model reference can be: a folder, a version in a model store, or a model on a hub."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from components.deployment.store.names import StoreReference, parse_store_reference
from components.errors import InputError
from components.models import check_names, model_files
from components.storage import StoredFile, filesystem, list_folder

_PINNED = re.compile(r"(?P<uri>.+)#(?P<digest>[0-9a-f]{64})")


@dataclass(frozen=True)
class FolderReference:
    """A Model's folder.

    Attributes:
        uri: Its path or `gs://` URI.
        digest: What `digest_of_folder` gave when it was pinned; "" when it was not.
    """

    uri: str
    digest: str = ""


@dataclass(frozen=True)
class HubReference:
    """What is neither a folder nor in a store, and so may be a model on a hub.

    Attributes:
        text: The reference, as it was given.
    """

    text: str


def parse_reference(reference: str) -> FolderReference | StoreReference | HubReference:
    """Tells what a model reference is.

    A place is what exists as a folder here, holds `://`, or starts with `/`, `./`, `../` or `~`. A place with `@` is
    a version in a model store, unless a folder has exactly that name. Everything else is a hub id.

    Args:
        reference: A hub id with an optional `@revision`, a folder, or `<store>/<name>@<alias or version>`.
    """
    match = _PINNED.fullmatch(reference)
    place = match["uri"] if match else reference
    stored = parse_store_reference(place)
    if stored and not match and (_is_place(place) or Path(place.rpartition("@")[0]).is_dir()):
        fs, path = filesystem(place)
        return FolderReference(place) if fs.isdir(path) else stored
    if _is_place(place):
        return FolderReference(place, match["digest"] if match else "")
    return HubReference(reference)


def check_folder(uri: str) -> None:
    """Checks from the names of its files that a folder can be a Model.

    Raises:
        InputError: There is no such folder, or its files are not those of a Model.
    """
    fs, path = filesystem(uri)
    fs.invalidate_cache()
    if not fs.isdir(path):
        raise InputError(f"There is no folder at {uri!r}.", "Check the path, and that the step may read it.")
    check_names([file.name for file in list_folder(uri)], uri)


def list_model_files(uri: str) -> list[StoredFile]:
    """Lists the files of a Model in a folder as they are now, without those that lie beside them."""
    files = {file.name: file for file in list_folder(uri)}
    return [files[name] for name in model_files(list(files))]


def digest_of_folder(uri: str) -> str:
    """Digests what is known of a folder's Model without reading it, so that a large one in a bucket costs no download.

    Returns:
        64 hexadecimal digits, of the files' names, sizes and versions: generations on Cloud Storage, modification times
        on a local disk. A Model that is written again has another digest, even with the same bytes.
    """
    lines = [f"{file.name}\0{file.size}\0{file.version}\n" for file in list_model_files(uri)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _is_place(reference: str) -> bool:
    if not reference:
        return False
    return "://" in reference or reference.startswith(("/", "./", "../", "~")) or Path(reference).exists()
