"""Keeps the trials of a search in one file, so that a search that was ended goes on where it was."""

import hashlib
import json
import os
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from components.datasets import digest_of_files, part_files
from components.models import digest_of_model, is_absent
from components.storage import filesystem

STUDY, FILE = "search", "trials.jsonl"


class TrialFile:
    """Optuna's journal of a search: in memory while it runs, and in a file at a place that outlives it.

    Only finished trials are in that file, which is replaced whole after each of them. It is what Optuna's own
    `JournalFileBackend` reads, so that other tools for its searches can open it.

    Args:
        uri: The folder or `gs://` prefix of this search; "" keeps nothing.
    """

    def __init__(self, uri: str):
        self.uri = uri
        self._journal = _Journal()

    def open(self, direction: Literal["maximize", "minimize"]) -> optuna.Study:
        """Returns the search, with the trials that were finished before.

        Args:
            direction: Which values are better: the high or the low ones.
        """
        if self.uri:
            fs, path = filesystem(self.uri)
            fs.invalidate_cache()
            kept = posixpath.join(path, FILE)
            if fs.exists(kept):
                self._journal.lines = fs.cat_file(kept).decode().splitlines()
        storage = JournalStorage(self._journal)
        return optuna.create_study(storage=storage, study_name=STUDY, direction=direction, load_if_exists=True)

    def save(self) -> None:
        """Writes the finished trials to where they are kept."""
        if not self.uri:
            return
        content = "".join(f"{line}\n" for line in self._journal.lines).encode()
        fs, path = filesystem(self.uri)
        target = posixpath.join(path, FILE)
        if self.uri.startswith("gs://"):
            fs.pipe_file(target, content)
            return
        Path(path).mkdir(parents=True, exist_ok=True)
        # Writing may be cut off half-way; what stands there is replaced at once or not at all.
        written = Path(f"{target}.{os.getpid()}")
        written.write_bytes(content)
        written.replace(target)

    def forget(self) -> None:
        """Removes what is kept, so that a next search begins afresh."""
        if self.uri:
            fs, path = filesystem(self.uri)
            target = posixpath.join(path, FILE)
            fs.invalidate_cache()
            if fs.exists(target):
                fs.rm_file(target)


class _Journal(BaseJournalBackend):
    """What a search did, a line of JSON each."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        return map(json.loads, self.lines[log_number_from:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.lines += [json.dumps(log, separators=(",", ":")) for log in logs]


def digest_of_search(
    train: str | Path,
    validation: str | Path,
    base_model: str | Path,
    model_config: Mapping[str, Any],
    fixed: Mapping[str, Any],
    space: Mapping[str, BaseDistribution],
) -> str:
    """Digests what makes one search another (16 hexadecimal digits).

    The number of trials and the time are not part of it: a search can be made longer.
    """
    model = "absent" if is_absent(base_model) else digest_of_model(Path(base_model))
    content = [
        digest_of_files(part_files(train)),
        digest_of_files(part_files(validation)),
        model,
        dict(model_config),
        dict(fixed),
        {name: distribution_to_json(distribution) for name, distribution in space.items()},
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
