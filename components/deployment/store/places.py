"""Where a model store lies: a folder, or a prefix of a bucket, with the few operations that a store needs of it."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from components.errors import InputError
from components.storage import filesystem


@dataclass(frozen=True)
class Content:
    """What a small file holds, and a token that says which state of it that is."""

    data: bytes
    token: Any


class Place(Protocol):
    """A folder or a prefix. All paths are relative to it, and made of names that were checked.

    Attributes:
        uri: Its absolute path, or its `gs://` URI, without a slash at the end.
    """

    uri: str

    def folders(self) -> list[str]:
        """Lists the folders directly below."""
        ...

    def files(self, folder: str) -> list[str]:
        """Lists the files in the folders of a folder, as `folder/file`."""
        ...

    def read(self, path: str) -> Content | None:
        """Returns what a file holds now; None when there is no such file."""
        ...

    def swap(self, path: str, data: bytes, expected: Content | None) -> bool:
        """Writes a file if it still is what was read, or is still missing for None; tells whether it did."""
        ...

    def publish(self, path: str, files: dict[str, Path], first: str, last: str) -> bool:
        """Puts files into a new folder, of which `last` appears when all others are whole.

        Args:
            path: The folder.
            files: Where the files' contents are now, by name.
            first: The file that claims the folder, for a place that cannot make it appear at once.
            last: The file that makes it valid.

        Returns:
            False, and nothing done, when the folder is taken.
        """
        ...


def place_uri(uri: str) -> str:
    """Returns the one spelling of a place: an absolute path, or a `gs://` URI without empty parts.

    Raises:
        InputError: The URI is empty, or is neither local nor `gs://`; or it is a bucket's mount, which has no locks and
            no atomic renames.
    """
    if uri.startswith("gs://"):
        bucket, *parts = uri.removeprefix("gs://").split("/")
        if not bucket:
            raise InputError(f"{uri!r} names no bucket.", "Give gs://BUCKET/FOLDER.")
        return "gs://" + "/".join([bucket, *(part for part in parts if part)])
    _, path = filesystem(uri)
    if path.startswith("/gcs/"):
        raise InputError(
            f"{uri!r} is a mounted bucket, in which two pushes at once would lose one.",
            f"Give gs://{path.removeprefix('/gcs/')}.",
        )
    return str(Path(path))


def open_place(uri: str) -> Place:
    """Opens a folder or a `gs://` prefix.

    Raises:
        InputError: As for `place_uri`.
    """
    uri = place_uri(uri)
    return BucketPlace(uri) if uri.startswith("gs://") else FolderPlace(Path(uri))


class FolderPlace:
    """A folder of a file system with locks and atomic renames."""

    def __init__(self, root: Path):
        self._root = root
        self.uri = str(root)

    def folders(self) -> list[str]:
        """Lists the folders directly below."""
        if not self._root.is_dir():
            return []
        return sorted(p.name for p in self._root.iterdir() if p.is_dir() and not p.name.startswith("."))

    def files(self, folder: str) -> list[str]:
        """Lists the files in the folders of a folder, as `folder/file`."""
        root = self._root / folder
        found = [p for p in root.glob("*/*") if p.is_file() and not p.parent.name.startswith(".")]
        return sorted(str(path.relative_to(root)) for path in found)

    def read(self, path: str) -> Content | None:
        """Returns what a file holds now; None when there is no such file."""
        try:
            data = (self._root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Content(data, data)

    def swap(self, path: str, data: bytes, expected: Content | None) -> bool:
        """Writes a file if it still is what was read, or is still missing for None; tells whether it did."""
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._locked(target):
            if self.read(path) != expected:
                return False
            # A name of its own: another process may write the same file in a folder that this one can see.
            handle, temporary = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
                Path(temporary).chmod(0o644)
                Path(temporary).replace(target)
            finally:
                Path(temporary).unlink(missing_ok=True)
        return True

    @contextmanager
    def _locked(self, target: Path) -> Iterator[None]:
        # The lock is a file beside the target, because the target itself is replaced. It is never removed: whoever
        # waits for it would then hold the lock of a file that nobody else sees.
        with (target.parent / f".{target.name}.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def publish(self, path: str, files: dict[str, Path], first: str, last: str) -> bool:
        """Puts files into a new folder, which appears at once; False when it exists."""
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            return False
        with tempfile.TemporaryDirectory(prefix=".push-", dir=target.parent) as temporary:
            staged = Path(temporary) / "version"
            staged.mkdir()
            for name, file in files.items():
                shutil.copyfile(file, staged / name)
            try:
                staged.rename(target)
            except OSError:
                # Another push made the folder meanwhile; a rename never replaces one that holds something.
                if target.exists():
                    return False
                raise
        return True


class BucketPlace:
    """A prefix of a Cloud Storage bucket.

    Google's own client and not gcsfs, which can say "only if it does not exist yet" but not "only if it is still what
    I read" (`ifGenerationMatch`).
    """

    def __init__(self, uri: str):
        from google.cloud import storage

        self.uri = uri
        bucket, _, prefix = uri.removeprefix("gs://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        # No project: objects are found by the bucket's name alone, and a step may not know its project.
        self._bucket = storage.Client(project=None).bucket(bucket)

    def folders(self) -> list[str]:
        """Lists the folders directly below."""
        with self._explained():
            blobs = self._bucket.list_blobs(prefix=self._prefix, delimiter="/")
            for _ in blobs:
                pass
            return sorted(prefix.removeprefix(self._prefix).rstrip("/") for prefix in blobs.prefixes)

    def files(self, folder: str) -> list[str]:
        """Lists the files in the folders of a folder, as `folder/file`."""
        prefix = f"{self._prefix}{folder}/"
        with self._explained():
            names = [blob.name.removeprefix(prefix) for blob in self._bucket.list_blobs(prefix=prefix)]
        return sorted(name for name in names if name.count("/") == 1 and not name.endswith("/"))

    def read(self, path: str) -> Content | None:
        """Returns what a file holds now; None when there is no such file."""
        from google.api_core.exceptions import NotFound

        while True:
            with self._explained():
                blob = self._bucket.get_blob(self._prefix + path)
                if blob is None:
                    return None
                generation = blob.generation
                try:
                    # Exactly the generation that was looked at: the file may be replaced between the two calls.
                    return Content(blob.download_as_bytes(), generation)
                except NotFound:
                    continue

    def swap(self, path: str, data: bytes, expected: Content | None) -> bool:
        """Writes a file if it still is what was read, or is still missing for None; tells whether it did."""
        from google.api_core.exceptions import PreconditionFailed

        blob = self._bucket.blob(self._prefix + path)
        token = expected.token if expected else 0
        with self._explained():
            try:
                blob.upload_from_string(data, content_type="application/json", if_generation_match=token)
            except PreconditionFailed:
                # The client repeats a request whose answer was lost, and then finds its own first attempt in the way.
                found = self.read(path)
                return found is not None and found.data == data
        return True

    def publish(self, path: str, files: dict[str, Path], first: str, last: str) -> bool:
        """Puts files into a new folder: `first` claims it, and `last` makes it valid."""
        from google.api_core.exceptions import PreconditionFailed

        if not self.swap(f"{path}/{first}", files[first].read_bytes(), None):
            return False
        with self._explained():
            for name in sorted(set(files) - {first, last}):
                blob = self._bucket.blob(f"{self._prefix}{path}/{name}")
                # Whoever claimed the folder is alone in it: what is in the way is a first attempt of the same upload.
                with suppress(PreconditionFailed):
                    blob.upload_from_filename(str(files[name]), if_generation_match=0, timeout=300)
        return self.swap(f"{path}/{last}", files[last].read_bytes(), None)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Says what a person can do about a bucket that is missing or closed; other failures may pass on a retry."""
        from google.api_core.exceptions import Forbidden, NotFound, Unauthorized

        try:
            yield
        except NotFound as error:
            raise InputError(f"There is no bucket {self._bucket.name!r}.", "Create it, or correct its name.") from error
        except (Forbidden, Unauthorized) as error:
            raise InputError(
                f"The step may not use {self.uri}: {error.message}.",
                "Grant roles/storage.objectUser on the bucket to the account that it runs as.",
            ) from error
