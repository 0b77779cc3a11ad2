"""Runs a pipeline as users do on their machine, and gives access to what every step wrote."""

from pathlib import Path
from typing import Any

from google.protobuf import json_format

from emulator.records import LOG_FILE, JobRecord
from emulator.runner import run_job


class LocalRun:
    """What a run left: its exit code, its log, and the outputs of each step by its name in the pipeline."""

    def __init__(self, record: JobRecord, log: str):
        self.record, self.log = record, log
        self.code = 0 if record.state == "SUCCEEDED" else 1

    def artifact(self, step: str, name: str) -> tuple[Path, dict[str, Any]]:
        """Returns an output artifact's path and metadata."""
        (artifact,) = self.record.task(step).outputs.artifacts[name]
        return Path(artifact.path), artifact.metadata

    def parameter(self, step: str, name: str = "Output") -> Any:
        """Returns an output parameter's value."""
        return self.record.task(step).outputs.parameters[name]


def run_pipeline(pipeline: Any, folder: Path, check: bool = True, **arguments: Any) -> LocalRun:
    """Compiles a pipeline and runs it; artifacts come into a pipeline through `dsl.importer`."""
    job = folder / "job"
    record = run_job(json_format.MessageToDict(pipeline.pipeline_spec), arguments, job)
    run = LocalRun(record, (job / LOG_FILE).read_text())
    assert not check or run.code == 0, run.log
    return run
