"""Fixtures for tests of the whole path: the real parts, started once, with fresh topics for each test."""

import os
import urllib.request

import pytest

from emulator.stack import MissingToolError, Process, find_pubsub_jar, pubsub_emulator


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
