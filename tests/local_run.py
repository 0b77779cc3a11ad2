"""Runs a pipeline with kfp.local in a process of its own, and gives access to what every step wrote."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from kfp import compiler

_CHILD = """
import json, sys
from kfp import components, local
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[2])
components.load_component_from_file(sys.argv[1])(**json.loads(sys.argv[3]))
"""


class LocalRun:
    """What a run left: its exit code, its log, and the outputs of each step by the component's name."""

    def __init__(self, folder: Path, code: int, log: str):
        self.folder, self.code, self.log = folder, code, log

    def outputs(self, step: str) -> dict[str, Any]:
        """Returns a step's executor_output.json: `parameterValues` and `artifacts`."""
        return json.loads(next(self.folder.glob(f"*/{step}/executor_output.json")).read_text())

    def artifact(self, step: str, name: str) -> tuple[Path, dict[str, Any]]:
        """Returns an output artifact's path and metadata."""
        artifact = self.outputs(step)["artifacts"][name]["artifacts"][0]
        return Path(artifact["uri"]), artifact.get("metadata", {})

    def parameter(self, step: str, name: str = "Output") -> Any:
        """Returns an output parameter's value."""
        return self.outputs(step)["parameterValues"][name]


def run_pipeline(
    pipeline: Any, folder: Path, check: bool = True, env: dict[str, str] | None = None, **arguments: Any
) -> LocalRun:
    """Compiles a pipeline and runs it; artifacts come into a pipeline through `dsl.importer`."""
    spec, root = folder / "pipeline.yaml", folder / "root"
    compiler.Compiler().compile(pipeline, str(spec))
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(spec), str(root), json.dumps(arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONSAFEPATH": "1", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    run = LocalRun(root, child.returncode, child.stdout)
    assert not check or run.code == 0, run.log
    return run
