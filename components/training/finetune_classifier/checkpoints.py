"""Keeps the state of a training run in a folder or at `gs://`, so that a run that was ended goes on where it was.

A checkpoint is a folder of files, each uploaded once and whole, and `manifest.json`, uploaded last, with their sizes
and digests. Without its manifest, or with a file that is not as the manifest says, it is as if it were not there.

What is read back are tensors and numbers that this step wrote itself (`torch.load` with `weights_only=True`, as Trainer
does it), yet whoever may write to the folder decides what a resumed run goes on with: keep it as closed as the models.
"""

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.storage import filesystem

MANIFEST = "manifest.json"
# A pickle of all of Trainer's settings, which nothing reads back.
_LEFT_OUT = {"training_args.bin"}


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one run.

    Attributes:
        uri: A local folder or a `gs://` prefix that no other run with other data or settings uses.
    """

    uri: str

    def save(self, folder: Path, kept: Iterable[int]) -> None:
        """Uploads `checkpoint-<step>`, and then removes all other checkpoints but those of the kept steps.

        Args:
            folder: The local checkpoint; its name is `checkpoint-<step>`.
            kept: The steps of the checkpoints that stay, besides this one.
        """
        fs, root = filesystem(self.uri)
        target = posixpath.join(root, folder.name)
        fs.makedirs(target, exist_ok=True)
        manifest = {}
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.name not in _LEFT_OUT:
                fs.put_file(str(path), posixpath.join(target, path.name))
                manifest[path.name] = _describe(path)
        fs.pipe_file(posixpath.join(target, MANIFEST), json.dumps(manifest, indent=1).encode())
        names = {folder.name, *(f"checkpoint-{step}" for step in kept)}
        for step in self.steps():
            if f"checkpoint-{step}" not in names:
                self._remove(step)

    def steps(self) -> list[int]:
        """Returns the steps of all finished checkpoints, in order."""
        fs, root = filesystem(self.uri)
        fs.invalidate_cache()
        try:
            paths = fs.find(root)
        except FileNotFoundError:
            return []
        found = (re.fullmatch(rf"checkpoint-(\d+)/{MANIFEST}", posixpath.relpath(path, root)) for path in paths)
        return sorted(int(match[1]) for match in found if match)

    def fetch(self, step: int, folder: Path) -> bool:
        """Downloads a checkpoint into a folder, as `checkpoint-<step>`.

        Returns:
            Whether it was there, whole and unchanged.
        """
        fs, root = filesystem(self.uri)
        source, target = posixpath.join(root, f"checkpoint-{step}"), folder / f"checkpoint-{step}"
        target.mkdir(parents=True, exist_ok=True)
        try:
            manifest = json.loads(fs.cat_file(posixpath.join(source, MANIFEST)))
            for name, description in manifest.items():
                # A name is one of a file in this folder, whatever a manifest says.
                if name != posixpath.basename(name):
                    return False
                fs.get_file(posixpath.join(source, name), str(target / name))
                if _describe(target / name) != description:
                    return False
        except (FileNotFoundError, ValueError, AttributeError):
            return False
        return True

    def remove(self) -> None:
        """Removes everything."""
        fs, root = filesystem(self.uri)
        fs.invalidate_cache()
        for step in self.steps():
            self._remove(step)
        if fs.exists(root):
            fs.rm(root, recursive=True)

    def _remove(self, step: int) -> None:
        fs, root = filesystem(self.uri)
        folder = posixpath.join(root, f"checkpoint-{step}")
        # First what makes it a checkpoint: a removal that is cut short must not leave half of one.
        fs.rm_file(posixpath.join(folder, MANIFEST))
        if fs.exists(folder):
            fs.rm(folder, recursive=True)


def digest_of_run(**facts: Any) -> str:
    """Digests what a run follows from, so that it resumes its own checkpoints only (16 hexadecimal digits)."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
