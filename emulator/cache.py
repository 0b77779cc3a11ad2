"""The cache of finished steps that the jobs of one folder share: kfp.local's, made safe against stale hits."""

import hashlib
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kfp.local.cache import LocalCache

from emulator.records import JobRecord, write_json

SOURCE_DIGEST = "KFP_TRANSFORMERS_SOURCE_DIGEST"


class StepCache(LocalCache):
    """kfp.local's cache of outputs by component, image, command, arguments and environment, with two additions.

    kfp.local's key says nothing about the library that a thin component calls, so a digest of the installed
    `components` package goes into the key as if it were an environment variable of the step. And an artifact is taken
    over only while the job that made it is still the one in that folder, since a job that was deleted and made again
    under the same name has other files at the same paths.

    An input artifact counts with its URI. The result of an uncached step lies in the folder of its own job, so a step
    that takes such an artifact runs again in every job, as on Vertex AI, where the artifact has a new id each time.

    Args:
        folder: The cache's folder.
        job: The folder of the job that reads and writes.
        created: When that job was created.

    Attributes:
        on_hit: Called when outputs are taken over, in the thread of the step that takes them.
    """

    on_hit: Callable[[], None] | None = None

    def __init__(self, folder: Path, job: Path, created: str):
        super().__init__(str(folder))
        self._job, self._created, self._digest = job, created, source_digest()

    def compute_key(
        self,
        component_name: str,
        image: str,
        full_command: list[str],
        arguments: dict[str, Any],
        env_vars: dict[str, str] | None = None,
        custom_cache_key: str | None = None,
    ) -> str:
        """Returns the key of a step with these arguments."""
        if custom_cache_key:
            custom_cache_key = f"{custom_cache_key} {self._digest}"
        salted = {**(env_vars or {}), SOURCE_DIGEST: self._digest}
        return str(super().compute_key(component_name, image, full_command, arguments, salted, custom_cache_key))

    def get(self, key: str) -> dict[str, Any] | None:
        """Returns the outputs under a key, or None."""
        try:
            origin = json.loads(self._origin(key).read_text())
            if JobRecord.load(Path(origin["folder"])).created != origin["created"]:
                return None
        except FileNotFoundError:
            return None
        outputs: dict[str, Any] | None = super().get(key)
        if outputs is not None and self.on_hit:
            self.on_hit()
        return outputs

    def put(self, key: str, outputs: dict[str, Any]) -> None:
        """Keeps outputs under a key."""
        write_json(self._origin(key), {"folder": str(self._job), "created": self._created})
        super().put(key, outputs)

    def _origin(self, key: str) -> Path:
        return Path(self.cache_root, f"{key}.origin")


def source_digest() -> str:
    """Returns a digest of the installed `components` package: every source file's path and content."""
    spec = find_spec("components")
    digest = hashlib.sha256()
    for location in (spec.submodule_search_locations or []) if spec else []:
        root = Path(location)
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.suffix not in (".pyc", ".md"):
                content = path.read_bytes()
                digest.update(f"{path.relative_to(root)} {len(content)}\n".encode() + content)
    return digest.hexdigest()
