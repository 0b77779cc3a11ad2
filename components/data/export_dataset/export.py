"""Puts a Dataset into a folder that a person named, in a format that other programs read."""

import json
import posixpath
import re
import tempfile
from pathlib import Path

from components.data.export_dataset.formats import WRITERS
from components.datasets import count_rows
from components.errors import InputError
from components.storage import filesystem

SUCCESS = "_SUCCESS"
MANIFEST = "_manifest.json"
_OURS = re.compile(r"part-[0-9]{5,}\.(parquet|csv|jsonl)")


def export(dataset: str | Path, output_uri: str, format: str = "parquet") -> str:
    """Writes a Dataset, or Predictions, to a folder or a `gs://` prefix.

    All files are finished before the first one is put in place. A new local folder appears at once. In a folder that
    exists, and on Cloud Storage, which has no rename, `_SUCCESS` goes first and comes back last: while it is missing,
    the export is not whole. An earlier export's files, which `_manifest.json` lists, are replaced; others stay.

    Args:
        dataset: The Dataset's folder.
        output_uri: The folder; a local path or a `gs://` URI.
        format: `parquet`, `csv` or `jsonl`.

    Returns:
        The folder's absolute path or `gs://` URI, which holds `part-00000.<format>` and so on.

    Raises:
        InputError: The format is unknown, the URI is empty or names a file, or a file in the way is not an export's.
    """
    if format not in WRITERS:
        raise InputError(f"{format!r} is not a format to export to.", f"Give one of {', '.join(WRITERS)}.")
    if not output_uri.strip():
        raise InputError("output_uri is empty.", "Give the folder to export to: a local path or a gs:// URI.")
    output = Output(output_uri)
    previous = output.previous_files()
    rows = count_rows(dataset)
    with output.staging_folder() as temporary:
        staging = Path(temporary) / "export"
        staging.mkdir()
        WRITERS[format](dataset, staging)
        files = sorted(file.name for file in staging.iterdir())
        output.refuse_foreign_files(files, previous)
        output.publish(staging, files, previous)
    print(f"{rows:,} rows in {len(files):,} file{'s' * (len(files) > 1)} at {output.uri}", flush=True)
    return output.uri


class Output:
    """The folder that an export goes to.

    Args:
        uri: A local path or a `gs://` URI.

    Attributes:
        uri: Its absolute path, or its `gs://` URI without a slash at the end.

    Raises:
        InputError: It is a file.
    """

    def __init__(self, uri: str):
        self._fs, path = filesystem(uri)
        self._local = not uri.startswith("gs://")
        self.uri = path if self._local else f"gs://{path.rstrip('/')}"
        # A rename onto a link would replace the link.
        self._path = str(Path(path).resolve()) if self._local else path.rstrip("/")
        self._fs.invalidate_cache()
        if self._fs.isfile(self._path):
            raise InputError(f"{self.uri!r} is a file.", "Give a folder to export to.")

    def previous_files(self) -> list[str]:
        """Lists the files that earlier exports left here, whole or not."""
        manifest = self._at(MANIFEST)
        if not self._fs.exists(manifest):
            return []
        try:
            names = json.loads(self._fs.cat_file(manifest))["files"]
            # Only names that an export gives are ever removed, whatever someone wrote into the manifest.
            return sorted(name for name in names if _OURS.fullmatch(name))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{manifest!r} is not the manifest of an export.", "Remove it, or export to another folder."
            ) from error

    def staging_folder(self) -> "tempfile.TemporaryDirectory[str]":
        """Makes the folder to write to: on the disk of a local output, so that what is finished can be renamed."""
        if not self._local:
            return tempfile.TemporaryDirectory(prefix="export-")
        # Inside an output that exists, because it may be a mount, which its parent is not on.
        folder = Path(self._path) if Path(self._path).exists() else Path(self._path).parent
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".export-", dir=folder)

    def refuse_foreign_files(self, files: list[str], previous: list[str]) -> None:
        """Raises an InputError when a file to be written exists, and no export wrote it."""
        for name in sorted(set(files) - set(previous)):
            if self._fs.exists(self._at(name)):
                raise InputError(
                    f"{name!r} is already at {self.uri!r}, and no earlier export lists it in {MANIFEST}.",
                    "Move it away, or export to another folder.",
                )

    def publish(self, staging: Path, files: list[str], previous: list[str]) -> None:
        """Puts finished files in place, and takes away those of earlier exports."""
        if self._local and not Path(self._path).exists():
            (staging / MANIFEST).write_bytes(_manifest(files))
            (staging / SUCCESS).touch()
            staging.replace(self._path)
            return
        self._remove(SUCCESS)
        # Both lists, so that whatever an interruption leaves is known to be an export's.
        self._write(MANIFEST, _manifest(sorted({*files, *previous})), staging)
        for name in files:
            self._put(staging / name, name)
        for name in sorted(set(previous) - set(files)):
            self._remove(name)
        self._write(MANIFEST, _manifest(files), staging)
        self._write(SUCCESS, b"", staging)

    def _at(self, name: str) -> str:
        return posixpath.join(self._path, name)

    def _write(self, name: str, content: bytes, staging: Path) -> None:
        (staging / name).write_bytes(content)
        self._put(staging / name, name)

    def _put(self, file: Path, name: str) -> None:
        if self._local:
            file.replace(self._at(name))
        else:
            self._fs.put_file(str(file), self._at(name))

    def _remove(self, name: str) -> None:
        self._fs.invalidate_cache()
        if self._fs.exists(self._at(name)):
            self._fs.rm_file(self._at(name))


def _manifest(files: list[str]) -> bytes:
    return json.dumps({"files": files}, indent=1).encode()
