"""The README's commands and code are run, and its links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import components
from pipelines.compile import PIPELINES

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def block(name):
    """The code block that follows `<!-- test: name -->`."""
    return re.search(rf"<!-- test: {name} -->\n```\w+\n(.*?)```", README, re.DOTALL)[1]


def run(command, cwd=ROOT):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        shlex.split(command), cwd=cwd, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )


@pytest.mark.parametrize("command", block("commands").strip().splitlines())
def test_commands_work(command, tmp_path):
    if "compile" in command:
        (tmp_path / "compiled").mkdir()
        assert run("python -m pipelines.compile", tmp_path).returncode == 0
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    if "run basic" in command:
        assert "remrofsnart" in done.stdout


def test_the_pipeline_of_ones_own_compiles(tmp_path):
    (tmp_path / "mine.py").write_text(block("author"))
    done = run("python mine.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "classify_reviews.json").stat().st_size > 1000


def published(page):
    """The commands on a page that publish a message."""
    return re.findall(r"^ +(python -m triggers\.publish .*?)\n(?: *\n|\Z)", page.read_text(), re.DOTALL | re.MULTILINE)


PAGES = [ROOT / "README.md", *sorted(ROOT.glob("examples/*/README.md"))]


@pytest.mark.parametrize("command", [command for page in PAGES for command in published(page)])
def test_the_messages_that_are_published_pass_the_checks(command):
    done = run(command.replace("\\\n", " ") + " --dry-run")
    assert done.returncode == 0, done.stderr
    assert '"gs://my-bucket/' in done.stdout


def test_messages_are_found():
    assert len(published(ROOT / "README.md")) == 2


def test_make_has_the_targets_that_are_named_and_at_most_ten():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)", README)) - {"help"} <= targets and len(targets) <= 10


@pytest.mark.parametrize("page", ["README.md", "AGENTS.md"])
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text()):
        assert (ROOT / link).exists(), link


def test_every_component_and_pipeline_is_in_a_table():
    for name in [*components.CATALOGUE, *PIPELINES]:
        assert f"[`{name}`]" in README, name
