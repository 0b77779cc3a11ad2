"""Keeps the answers to finished windows, so that a step which was ended goes on where it was.

Below the folder that the user names stands one for each digest of model, data and settings, with parts, each uploaded
once and whole, and `manifest.json`, uploaded after them, with their rows and digests. What the manifest does not name,
or what is not as it says, is as if it were not there.
"""

import hashlib
import io
import json
import posixpath
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from components.storage import filesystem

MANIFEST, CHECKPOINTS = "manifest.json", "checkpoints"
# A step that is ended loses at most this much work, and half a minute is long beside an upload.
SAVE_EVERY_SECONDS = 30.0
# Answers that wait to be saved are in memory.
SAVE_EVERY_BYTES = 16 * 1024 * 1024


class FinishedWindows:
    """The answers to a step's first rows.

    Args:
        uri: A local folder or a `gs://` prefix for the state of any steps.
        digest: What tells this step's state from others; see `digest_of_run`.
        every: The least seconds between two uploads.

    Attributes:
        rows: How many rows have their answers here.
    """

    def __init__(self, uri: str, digest: str, every: float = SAVE_EVERY_SECONDS):
        self.uri = posixpath.join(uri, digest)
        self._fs, self._root = filesystem(self.uri)
        self._every, self._saved = every, time.monotonic()
        self._unsaved: list[np.ndarray] = []
        self._parts = self._whole_parts()
        self.rows = sum(part["rows"] for part in self._parts)

    def answers(self) -> Iterator[np.ndarray]:
        """Returns the answers part by part: float32, (rows, numbers)."""
        for part in list(self._parts):
            content = self._fs.cat_file(posixpath.join(self._root, part["name"]))
            yield np.load(io.BytesIO(content), allow_pickle=False)

    def add(self, answers: np.ndarray) -> None:
        """Keeps the answers to the rows behind the last ones; they are uploaded now and then."""
        self._unsaved.append(answers)
        waiting = sum(each.nbytes for each in self._unsaved)
        if time.monotonic() - self._saved >= self._every or waiting >= SAVE_EVERY_BYTES:
            self._save()

    def remove(self) -> None:
        """Removes all of it, when the step is done."""
        self._fs.invalidate_cache()
        if self._parts and self._fs.exists(self._root):
            self._fs.rm(self._root, recursive=True)
        self._parts, self._unsaved = [], []

    def _save(self) -> None:
        answers = np.concatenate(self._unsaved)
        stream = io.BytesIO()
        np.save(stream, answers, allow_pickle=False)
        content = stream.getvalue()
        name = f"part-{len(self._parts):05d}.npy"
        self._write(name, content)
        part = {"name": name, "rows": len(answers), "sha256": hashlib.sha256(content).hexdigest()}
        self._write(MANIFEST, json.dumps([*self._parts, part], indent=1).encode())
        self._parts.append(part)
        self.rows += len(answers)
        self._unsaved, self._saved = [], time.monotonic()

    def _write(self, name: str, content: bytes) -> None:
        path = posixpath.join(self._root, name)
        if "file" not in self._fs.protocol:
            self._fs.pipe_file(path, content)
            return
        self._fs.makedirs(self._root, exist_ok=True)
        # Cloud Storage shows an object when it is whole; a local file is given its name when it is.
        self._fs.pipe_file(f"{path}.new", content)
        self._fs.mv(f"{path}.new", path)

    def _whole_parts(self) -> list[dict[str, Any]]:
        self._fs.invalidate_cache()
        try:
            listed = json.loads(self._fs.cat_file(posixpath.join(self._root, MANIFEST)))
        except (FileNotFoundError, ValueError):
            return []
        whole: list[dict[str, Any]] = []
        for part in listed:
            try:
                content = self._fs.cat_file(posixpath.join(self._root, part["name"]))
            except FileNotFoundError:
                break
            if hashlib.sha256(content).hexdigest() != part["sha256"]:
                break
            whole.append(part)
        return whole


class Answers:
    """The answers of several parts, taken a window at a time."""

    def __init__(self, parts: Iterator[np.ndarray]):
        self._parts, self._rest = parts, np.empty((0, 0), np.float32)

    def take(self, rows: int) -> np.ndarray:
        """Returns the answers to the next rows."""
        while len(self._rest) < rows:
            part = next(self._parts)
            self._rest = np.concatenate([self._rest, part]) if len(self._rest) else part
        taken, self._rest = self._rest[:rows], self._rest[rows:]
        return taken


def digest_of_run(**facts: Any) -> str:
    """Digests what a step's answers follow from, so that it goes on from its own state only (16 hexadecimal digits)."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
