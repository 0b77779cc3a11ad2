"""Files behind a path or a URI: local folders and Cloud Storage, through fsspec."""

import hashlib
import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.errors import InputError


@dataclass(frozen=True)
class StoredFile:
    """A file as it is now.

    Attributes:
        uri: Its absolute path or `gs://` URI.
        size: Its size in bytes.
        version: What changes when the file changes: a generation, an etag, or size and modification time.
        name: Its path below the folder that was listed (for a glob: below the part before the first wildcard's folder;
            for a single file: its base name). It stays the same when the folder is moved.
    """

    uri: str
    size: int
    version: str
    name: str


def filesystem(uri: str) -> tuple[Any, str]:
    """Opens the file system that holds a URI.

    Args:
        uri: A local path or a `gs://` URI. With `STORAGE_EMULATOR_HOST` set, `gs://` means that emulator.

    Returns:
        An fsspec file system and the path within it.

    Raises:
        InputError: The URI is empty, or its scheme is neither local nor `gs://`.
    """
    import fsspec

    if not uri.removeprefix("gs://"):
        raise InputError(f"{uri!r} names no place.", "Give a local path or a gs:// URI.")
    scheme = uri.split("://", 1)[0] if "://" in uri else "file"
    if scheme == "file":
        return fsspec.filesystem("file"), str(Path(uri.removeprefix("file://")).expanduser().absolute())
    if scheme != "gs":
        raise InputError(f"{uri!r} is at {scheme}://.", "Give a local path or a gs:// URI.")
    options = {}
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        # gcsfs otherwise asks over gRPC what kind of bucket it is, and hangs 60 s against any emulator.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        options = {"token": "anon"}
    return fsspec.filesystem("gs", **options), uri.removeprefix("gs://")


def list_files(uri: str, suffixes: tuple[str, ...] = ()) -> list[StoredFile]:
    """Lists what is behind a file, a folder (with its sub-folders) or a glob, sorted by name.

    Args:
        uri: A path or `gs://` URI; `*`, `?` and `[` make it a glob unless a file of exactly that name exists.
        suffixes: Lower-case endings to keep when a folder or a glob is listed, such as `(".csv",)`; empty keeps all.
            Hidden files and folders below (`.` or `_` first, as Spark writes its markers) are left out of both.

    Returns:
        The files; their listing comes from the store now, not from an earlier answer.

    Raises:
        InputError: Nothing is there, or a link leads nowhere.
    """
    fs, path = filesystem(uri)
    fs.invalidate_cache()
    if fs.isfile(path):
        return [_stored(uri, fs.info(path), posixpath.dirname(path))]
    wildcard = re.search(r"[*?\[]", path)
    root = posixpath.dirname(path[: wildcard.start()]) if wildcard else path
    try:
        found = fs.glob(path, detail=True) if wildcard else fs.find(path, detail=True)
    except FileNotFoundError:  # what gcsfs says of a bucket that does not exist
        found = {}
    files = []
    for name, info in sorted(found.items()):
        hidden = any(part.startswith((".", "_")) for part in posixpath.relpath(name, root).split("/"))
        if hidden or (suffixes and not name.lower().endswith(suffixes)):
            continue
        # A listing describes a link itself; its size and time are those of the file that it points to.
        if info.get("islink"):
            if not fs.exists(name):
                raise InputError(f"{name!r} is a link to a file that does not exist.", "Mend the link, or remove it.")
            info = fs.info(name)
        if info["type"] == "file":
            files.append(_stored(uri, info, root))
    if not files:
        wanted = f" that ends in {', '.join(suffixes)}" if suffixes else ""
        raise InputError(f"There is no file{wanted} at {uri!r}.", "Check the path, and that the step may read it.")
    return files


def list_folder(uri: str) -> list[StoredFile]:
    """Lists the files directly in a folder, sorted by name; those of its sub-folders and hidden ones are left out.

    Args:
        uri: A local folder or a `gs://` prefix; wildcards have no meaning here.

    Returns:
        The files, as they are now; none when there is no such folder.
    """
    fs, path = filesystem(uri)
    fs.invalidate_cache()
    if not fs.isdir(path):
        return []
    files = []
    for info in fs.ls(path, detail=True):
        # As in list_files: what counts is the file behind a link.
        if info.get("islink") and fs.exists(info["name"]):
            info = {**fs.info(info["name"]), "name": info["name"]}
        if info["type"] == "file" and not posixpath.basename(info["name"]).startswith("."):
            files.append(_stored(uri, info, path.rstrip("/")))
    return sorted(files, key=lambda file: file.name)


def _stored(uri: str, info: dict[str, Any], root: str) -> StoredFile:
    prefix = "gs://" if uri.startswith("gs://") else ""
    version = info.get("generation") or info.get("etag") or f"{info.get('mtime')}"
    return StoredFile(
        uri=prefix + info["name"],
        size=int(info["size"]),
        version=f"{version}/{info['size']}",
        name=posixpath.relpath(info["name"], root),
    )


def digest_of(files: list[StoredFile]) -> str:
    """Digests names, sizes and versions, so that it changes when any of the files does (64 hexadecimal digits)."""
    sha = hashlib.sha256()
    for file in files:
        sha.update(f"{file.uri}\0{file.size}\0{file.version}\n".encode(errors="surrogateescape"))
    return sha.hexdigest()


def download_folder(uri: str, folder: Path) -> None:
    """Copies every file below a folder to a local folder, which must not exist yet.

    Raises:
        InputError: There is no such folder, or nothing in it.
    """
    fs, path = filesystem(uri)
    fs.invalidate_cache()
    names = fs.find(path)
    if not names or fs.isfile(path):
        raise InputError(f"There is no folder with files at {uri!r}.", "Check the path, and that the step may read it.")
    for name in names:
        target = folder / posixpath.relpath(name, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        fs.get_file(name, str(target))


def job_folder(uri: str, path: str) -> str:
    """Returns the folder of the job that an output artifact belongs to.

    Artifacts are at `<job>/<step>/<name>`. Only the job's folder is sure to be the same for every attempt of a step, be
    it Vertex AI's restart of a preempted Spot machine or a retry of the step.

    Args:
        uri: The artifact's URI.
        path: Its path in the step, which stands in for a URI of a store that fsspec is not told about here.
    """
    return posixpath.dirname(posixpath.dirname(uri if uri.startswith("gs://") else path))


def move_into_place(source: Path, target: Path) -> None:
    """Moves a finished file or folder to the path of an artifact, replacing what an earlier attempt left there.

    A Cloud Storage mount has neither append nor an atomic rename, so outputs are finished elsewhere and moved once.
    """
    if target.is_dir():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)


def write_texts(contents: Mapping[str | Path, str]) -> None:
    """Writes texts elsewhere and moves them into place, so that none is there when one could not be written.

    Args:
        contents: The text of each file. What UTF-8 does not have, half of a surrogate pair, is written as its number.
    """
    with tempfile.TemporaryDirectory(prefix="texts-") as folder:
        for number, content in enumerate(contents.values()):
            (Path(folder) / str(number)).write_text(content, encoding="utf-8", errors="backslashreplace")
        for number, target in enumerate(contents):
            move_into_place(Path(folder) / str(number), Path(target))
