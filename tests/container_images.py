"""Small images for tests, built on this machine from nothing: no registry is asked."""

import functools
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from emulator.engines import Engine, engines

NOTHING = "int main(void) { return 0; }\n"


@functools.cache
def need_engine() -> Engine:
    """Returns what builds and runs containers here, or skips the test and says why."""
    found = engines()
    if not found:
        pytest.skip("none of docker, podman and buildah works on this machine")
    engine = found[0]
    with tempfile.TemporaryDirectory() as folder:
        image = build_c_program(engine, "localhost/kfp-transformers-test-nothing:1", Path(folder), NOTHING)
    container = engine.prepare("kfp-transformers-test-nothing", image)
    command = engine.start_command(container, image, ["/program"], [], {})
    done = subprocess.run(command, capture_output=True, text=True)
    engine.remove(container)
    if done.returncode:
        said = " ".join(done.stderr.split())[:300]
        pytest.skip(f"{engine.name} cannot run a container on this machine: {said}")
    return engine


def base_image(engine: Engine) -> str:
    """Returns an image with Python, TEST_BASE_IMAGE or the python:3.11-slim that is here, or skips the test."""
    for image in (os.environ.get("TEST_BASE_IMAGE", ""), "python:3.11-slim", "localhost/python:3.11-slim"):
        if image and engine.inspect(image):
            return image
    pytest.skip("there is no python:3.11-slim on this machine; TEST_BASE_IMAGE may name another image with Python")


def build(engine: Engine, tag: str, context: Path, *arguments: str) -> str:
    """Builds an image and returns its name, or skips the test where pip finds no packages."""
    done = subprocess.run(engine.build_command(tag, context, arguments), capture_output=True, text=True)
    said = done.stdout + done.stderr
    if done.returncode and re.search(r"No matching distribution|NewConnectionError|certificate verify failed", said):
        pytest.skip("pip reaches no package index from a build; BUILD_ARGS can give it one")
    assert done.returncode == 0, said
    return tag


def build_c_program(engine: Engine, tag: str, folder: Path, source: str) -> str:
    """Builds an image that holds one static program, /program, and nothing else."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("there is no C compiler on this machine")
    (folder / "program.c").write_text(source)
    done = subprocess.run([compiler, "-static", "-o", folder / "program", folder / "program.c"], capture_output=True)
    if done.returncode:
        pytest.skip(f"the C compiler cannot link statically: {done.stderr.decode()[-200:]}")
    (folder / "Dockerfile").write_text('FROM scratch\nCOPY program /program\nENTRYPOINT ["/program"]\n')
    return build(engine, tag, folder)
