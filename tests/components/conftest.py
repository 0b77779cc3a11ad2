import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import fsspec
import pytest

BUCKET = "bucket"


@pytest.fixture(scope="session")
def _storage_server(tmp_path_factory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    command = Path(sys.executable).with_name("gcp-storage-emulator")
    log = tmp_path_factory.mktemp("storage") / "emulator.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [command, "start", "--host=127.0.0.1", f"--port={port}", "--in-memory"], stdout=output, stderr=output
        )
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    urllib.request.urlopen(f"{base}/storage/v1/b?project=p", timeout=5).close()
                    break
                except (urllib.error.URLError, ConnectionError):
                    assert server.poll() is None and time.monotonic() < deadline, log.read_text()
                    time.sleep(0.05)
            yield base
        finally:
            server.terminate()
            server.wait(10)


@pytest.fixture
def storage_emulator(_storage_server, monkeypatch):
    """A Cloud Storage emulator's URL, which STORAGE_EMULATOR_HOST names too; it holds the empty gs://bucket."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", _storage_server)
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    # fsspec hands out one instance per set of arguments, and it keeps the address it was made with.
    fsspec.get_filesystem_class("gs").clear_instance_cache()
    request = urllib.request.Request(
        f"{_storage_server}/storage/v1/b?project=p",
        data=json.dumps({"name": BUCKET}).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()
    yield _storage_server
    fs = fsspec.filesystem("gs", token="anon")
    fs.invalidate_cache()
    for name in fs.find(BUCKET):
        fs.rm_file(name)
    urllib.request.urlopen(
        urllib.request.Request(f"{_storage_server}/storage/v1/b/{BUCKET}", method="DELETE"), timeout=10
    ).close()
    fsspec.get_filesystem_class("gs").clear_instance_cache()
