"""Fixtures for tests of the whole path: the real parts, started once, with fresh topics for each test."""

import json
import os
import sys
import urllib.request
from pathlib import Path

import fsspec
import pytest

from emulator.processes import Process, free_port
from emulator.stack import MissingToolError, find_pubsub_jar, pubsub_emulator

BUCKET = "bucket"

# cuBLAS asks for it once, at a process' first product: by the time that a test trains, others have multiplied.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def require_tool(find):
    """Calls `find`; a missing tool skips the test with its reason, and fails it where REQUIRE_ALL=1 (as CI sets)."""
    try:
        return find()
    except MissingToolError as error:
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(f"REQUIRE_ALL=1, and {error}")
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def no_settings_from_the_shell(monkeypatch):
    """No test depends on what the developer's shell has set, or reaches a real project."""
    for name in (
        "GOOGLE_CLOUD_PROJECT",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "VERTEX_LOCATION",
        "PIPELINE_ROOT",
        "PIPELINE_SERVICE_ACCOUNT",
        "PIPELINE_TOPIC",
        "COMPONENT_IMAGE",
        "TRAINING_IMAGES",
        "CONTAINER_NETWORK",
        "COMPILED_FOLDER",
        "DEAD_LETTER_TOPIC",
        "AIPLATFORM_EMULATOR_HOST",
        "PUBSUB_EMULATOR_HOST",
        "STORAGE_EMULATOR_HOST",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def pubsub_process(tmp_path_factory):
    """Google's Pub/Sub emulator, started once."""
    require_tool(find_pubsub_jar)
    process: Process = pubsub_emulator(tmp_path_factory.mktemp("pubsub"))
    with process:
        yield process


@pytest.fixture
def pubsub(pubsub_process, monkeypatch):
    """The Pub/Sub emulator without any topic; clients made in the test find it. Gives its `host:port`."""
    urllib.request.urlopen(f"http://{pubsub_process.address}/reset", data=b"", timeout=10).close()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub_process.address)
    return pubsub_process.address


@pytest.fixture(scope="session")
def storage_process(tmp_path_factory):
    """A Cloud Storage emulator, started once."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("gcp-storage-emulator")), "start", "--host=127.0.0.1", "--in-memory"]
    log = tmp_path_factory.mktemp("storage") / "storage.log"
    with Process("The storage emulator", [*command, f"--port={port}"], log, {}, port) as process:
        yield process


@pytest.fixture
def storage_emulator(storage_process, monkeypatch):
    """A Cloud Storage emulator's URL, which STORAGE_EMULATOR_HOST names too; it holds the empty gs://bucket."""
    base = f"http://{storage_process.address}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", base)
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    # fsspec hands out one instance per set of arguments, and it keeps the address it was made with.
    fsspec.get_filesystem_class("gs").clear_instance_cache()
    body, headers = json.dumps({"name": BUCKET}).encode(), {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{base}/storage/v1/b?project=p", body, headers), timeout=10).close()
    yield base
    fs = fsspec.filesystem("gs", token="anon")
    fs.invalidate_cache()
    for name in fs.find(BUCKET):
        fs.rm_file(name)
    removal = urllib.request.Request(f"{base}/storage/v1/b/{BUCKET}", method="DELETE")
    urllib.request.urlopen(removal, timeout=10).close()
    fsspec.get_filesystem_class("gs").clear_instance_cache()
