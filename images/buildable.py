"""Says why an image cannot be built on this machine, and ends with 1; says nothing when it can."""

import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from emulator.engines import Engine, engines
from images.sources import ROOT

_PROBE = "localhost/kfp-transformers-probe:1"
_SECONDS, _BUILD_SECONDS = 15, 300


def why_not() -> str:
    """Returns why the CPU image cannot be built here; "" when nothing speaks against it."""
    found = engines()
    if not found:
        return "none of docker, podman and buildah works on this machine."
    dockerfile = (ROOT / "images" / "Dockerfile").read_text()
    given = os.environ.get("BUILD_ARGS", "")
    base = _argument("BASE_IMAGE", given) or _argument("BASE_IMAGE", dockerfile)
    if not _runs(found[0], base):
        return f"{found[0].name} cannot run a container of the base image {base}, or has no access to it."
    index = _argument("TORCH_INDEX", given)
    if index is None:
        index = _argument("TORCH_INDEX", dockerfile)
        try:
            urllib.request.urlopen(f"{index}/torch/", timeout=_SECONDS).close()  # noqa: S310 - of our own Dockerfile
        except (urllib.error.URLError, TimeoutError) as error:
            return f"{index} cannot be reached ({error}); BUILD_ARGS can give another TORCH_INDEX."
    return ""


def _argument(name: str, text: str) -> str | None:
    match = re.search(rf"\b{name}=(\S*)", text)
    return match[1] if match else None


def _runs(engine: Engine, base: str | None) -> bool:
    """Tries both: a command in a build on the base image, and a container of what was built."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "Dockerfile").write_text(f"FROM {base}\nRUN python3 --version\n")
        built = subprocess.run(engine.build_command(_PROBE, Path(folder)), capture_output=True, timeout=_BUILD_SECONDS)
    if built.returncode:
        return False
    container = engine.prepare("kfp-transformers-probe", _PROBE)
    command = engine.start_command(container, _PROBE, ["python3", "--version"], [], {})
    try:
        return subprocess.run(command, capture_output=True, timeout=_BUILD_SECONDS).returncode == 0
    finally:
        engine.remove(container)


if __name__ == "__main__":
    reason = why_not()
    if reason:
        print(reason)
    sys.exit(bool(reason))
