"""What is deployed: written whole, and run where there is nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
import venv
from pathlib import Path

import psutil
import pytest

from emulator.processes import Process, free_port
from tests.triggers.conftest import ROOT, push_body
from triggers.bundle import write_bundle
from triggers.errors import ConfigurationError

# The smallest function that Cloud Run offers beyond 128 MiB has 256; this leaves room for the messages.
MAX_MEMORY_MIB = 160


def test_the_bundle_is_written_whole_and_again(compiled, tmp_path):
    for _ in range(2):
        assert write_bundle(tmp_path / "bundle", compiled) == ["two_steps"]
    written = {str(path.relative_to(tmp_path / "bundle")) for path in (tmp_path / "bundle").rglob("*.*")}
    assert {
        "main.py",
        "requirements.txt",
        "triggers/main.py",
        "compiled/two_steps.json",
        "compiled/machines.json",
    } <= written
    commands = {"publish.py", "bundle.py", "find.py", "check_rules.py"}
    assert not {f"triggers/{name}" for name in commands} & written
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_another_folder_is_left_alone(compiled, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="is no bundle"):
        write_bundle(tmp_path, compiled)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_there_must_be_something_to_serve(tmp_path):
    with pytest.raises(ConfigurationError, match="pipelines.compile"):
        write_bundle(tmp_path / "bundle", tmp_path)
    assert not (tmp_path / "bundle").exists()


def test_the_requirements_are_pinned_hashed_and_from_anywhere():
    text = (ROOT / "triggers" / "requirements.txt").read_text()
    pinned = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.M))
    requirements = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert all(re.match(r"[a-z0-9._-]+==|    --hash=sha256:[0-9a-f]{64}", line) for line in requirements)
    assert not {"kfp", "torch", "transformers"} & pinned.keys()
    wanted = [
        line
        for line in (ROOT / "triggers" / "requirements.in").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert {re.split("[<>=]", line)[0] for line in wanted} <= pinned.keys()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert sorted(wanted) == sorted(extras["trigger"])


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """A new environment that holds what the requirements name, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    requirements = ROOT / "triggers" / "requirements.txt"
    command = [python, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-compile", "-r", requirements]
    subprocess.run(command, check=True, timeout=280)
    # As a deployed image has it: with bytecode.
    subprocess.run([python, "-m", "compileall", "-q", "-j", "2", folder / "lib"], check=False, timeout=200)
    return python


@pytest.mark.timeout(600)
def test_the_bundle_runs_where_there_is_nothing_else(python, compiled, environment, tmp_path):
    write_bundle(tmp_path / "bundle", compiled)
    settings = {name: value for name, value in environment.items() if name != "COMPILED_FOLDER"}
    missing = [f"import {name}" for name in ("kfp", "torch", "typer")]
    for statement in missing:
        assert subprocess.run([python, "-c", statement], capture_output=True).returncode == 1
    # What the other entry points import when they are called.
    others = "from triggers import api, jobs, openapi, rule_files; print(len(openapi.description()))"
    loaded = subprocess.run([python, "-c", others], cwd=tmp_path / "bundle", capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    port = free_port()
    arguments = ["--target", "on_message", "--signature-type", "cloudevent", "--host", "127.0.0.1", "--port", str(port)]
    isolated: dict[str, str | None] = dict.fromkeys(os.environ) | {"PATH": os.environ["PATH"]} | settings
    with Process(
        "The bundle",
        [str(python.parent / "functions-framework"), "--source", "main.py", *arguments],
        tmp_path / "log",
        isolated,
        port,
        cwd=tmp_path / "bundle",
    ) as process:
        body = push_body(json.dumps({"version": 1, "pipeline": "two_steps", "parameters": {"count": 1}}).encode())
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/projects/p/topics/t",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            assert response.status == 200
        master = psutil.Process(process.process.pid)
        memory = sum(member.memory_full_info().pss for member in [master, *master.children(recursive=True)]) / 2**20
    log = (tmp_path / "log").read_text()
    assert "is submitted" in log
    assert memory <= MAX_MEMORY_MIB
    arguments[1:4] = ["on_request", "--signature-type", "http"]
    with (
        Process(
            "The bundle over HTTP",
            [str(python.parent / "functions-framework"), "--source", "main.py", *arguments],
            tmp_path / "log",
            isolated,
            port,
            cwd=tmp_path / "bundle",
        ),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=60) as response,
    ):
        assert json.load(response)["openapi"] == "3.1.0"


def test_a_checkout_runs_where_nothing_is_installed(tmp_path):
    """The framework loads main.py by its path, and that checkout's package is the one that is used."""
    shutil.copytree(ROOT / "triggers", tmp_path / "checkout" / "triggers")
    source = tmp_path / "checkout" / "triggers" / "main.py"
    script = (
        f"import functions_framework; functions_framework.create_app('on_message', {str(source)!r}, 'cloudevent');"
        "import triggers.request; print(triggers.request.__file__)"
    )
    (tmp_path / "empty").mkdir()
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path / "empty", capture_output=True, text=True)
    assert ran.stdout.strip() == str(source.parent / "request.py"), ran.stderr
