"""One compiled pipeline, one process, one record: how a pipeline runs on this machine.

A job is a folder: job.json (a PipelineJob, as Vertex AI's REST API has it), log.txt (everything that its steps print),
record.json (`emulator.records.JobRecord`: states, times, each task's inputs and outputs, errors) and artifacts/ (what
the steps wrote, in folders named by the tasks' paths).

From Python, with the final record as the result:

    record = run_job(spec, {"input_uri": "/data/in.csv"}, Path("out/first-run"), on_task=print)
    record.state, record.error, record.task("read-dataset").outputs.artifacts["dataset"][0].path

By hand, for a folder that holds a job.json; a job that was interrupted goes on, its finished tasks are not run again:

    python -m emulator.runner FOLDER [--cache-folder CACHE]
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from emulator.children import MARK, end_job
from emulator.preflight import check
from emulator.records import (
    ARTIFACTS_FOLDER,
    CANCELLED,
    FAILED_PRECONDITION,
    INTERNAL,
    JOB_FILE,
    LOG_FILE,
    RECORD_FILE,
    JobRecord,
    TaskRecord,
    now,
    write_json,
)
from emulator.spec import argument_values, fill_job_placeholders, with_quick_retries, without_caching

_POLL_SECONDS = 0.05


def run_job(
    spec: dict[str, Any],
    parameters: dict[str, Any],
    folder: Path,
    *,
    enable_caching: bool | None = None,
    cache_folder: Path | None = None,
    labels: Mapping[str, str] | None = None,
    on_task: Callable[[TaskRecord], None] | None = None,
    env: Mapping[str, str] | None = None,
) -> JobRecord:
    """Runs a compiled pipeline in a process of its own, and returns when it has ended.

    Args:
        spec: The compiled pipeline, one JSON document.
        parameters: Values for its parameters; the others keep their defaults.
        folder: The job's folder, new or empty; its name is the job's id.
        enable_caching: False runs every step. None and True leave it to each step; nothing switches caching on for a
            step that opted out.
        cache_folder: Where outputs are kept for later runs; None keeps none and takes none over.
        labels: Kept with the job.
        on_task: Called with a task's record each time its state changes.
        env: Environment variables for the steps, on top of this process's.

    Returns:
        The final record. A failed run is a record with the state FAILED, not an exception.

    Raises:
        InputError: kfp.local cannot run this pipeline, or would get it silently wrong.
        FileExistsError: The folder holds something.
        KeyboardInterrupt: Ctrl-C; the job's processes are ended, and its record says CANCELLED.
    """
    check(spec, parameters)
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"The job's folder {folder} is not empty: name a new one.")
    job: dict[str, Any] = {
        "name": f"projects/local/locations/local/pipelineJobs/{folder.name}",
        "displayName": folder.name,
        "pipelineSpec": spec if enable_caching is not False else without_caching(spec),
        "runtimeConfig": {"parameterValues": parameters},
        "labels": dict(labels or {}),
    }
    record = JobRecord(job["name"])
    record.save(folder)
    write_json(folder / JOB_FILE, job)
    process = start_process(folder, cache_folder, env)
    try:
        _follow(process, folder, on_task)
        return finish(folder, process.returncode)
    except BaseException:
        end_job(folder)
        process.wait()
        record = JobRecord.load(folder)
        if not record.finished:
            record.close("CANCELLED", CANCELLED, "The run was interrupted.")
            record.save(folder)
        raise


def start_process(
    folder: Path, cache_folder: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts the process that runs the job in a folder, in a session of its own, with its output in log.txt.

    Args:
        folder: The job's folder, absolute.
        cache_folder: As for `run_job`.
        env: Environment variables on top of this process's.
    """
    command = [sys.executable, "-m", "emulator.runner", str(folder)]
    if cache_folder:
        command += ["--cache-folder", str(cache_folder.resolve())]
    # A step's user code must not import what happens to lie in the job's folder, and its log is read while it runs.
    settings = {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", MARK: str(folder)}
    with (folder / LOG_FILE).open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(env or {}), **settings},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def finish(folder: Path, code: int) -> JobRecord:
    """Returns the final record of a job whose process ended, and closes the record of one that died.

    Args:
        folder: The job's folder.
        code: The process's exit code.
    """
    record = JobRecord.load(folder)
    if not record.finished:
        end_job(folder)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        record.close("FAILED", INTERNAL, f"The job's process ended with {how}: see {folder / LOG_FILE}.")
        record.save(folder)
    return record


def _follow(process: subprocess.Popen[bytes], folder: Path, on_task: Callable[[TaskRecord], None] | None) -> None:
    """Waits for a job's process, and reports each change of a task's state."""
    states: dict[str, str] = {}
    written, running = 0, True
    while running:
        running = process.poll() is None
        changed = (folder / RECORD_FILE).stat().st_mtime_ns
        if on_task and changed != written:
            written = changed
            for task in sorted(JobRecord.load(folder).tasks, key=lambda task: task.end or task.start):
                if states.get(task.path) != task.state:
                    states[task.path] = task.state
                    on_task(task)
        if running:
            time.sleep(_POLL_SECONDS)


def execute(folder: Path, cache_folder: Path | None = None) -> JobRecord:
    """Runs the job in a folder in this process, which runs no other after it, and returns its final record."""
    # kfp takes most of a second to import, and whoever only starts a job does without it.
    from google.protobuf import json_format
    from kfp.local import utils
    from kfp.pipeline_spec import pipeline_spec_pb2

    from emulator.cache import StepCache
    from emulator.containers import complete_containers
    from emulator.custom_jobs import unwrap
    from emulator.recorder import Recorder, to_values
    from emulator.tasks import Observer

    job = json.loads((folder / JOB_FILE).read_text())
    record = JobRecord.load(folder) if (folder / RECORD_FILE).exists() else JobRecord(job["name"])
    recorder = Recorder(record, folder)
    record.state, record.start = "RUNNING", record.start or now()
    record.save(folder)
    runtime = job.get("runtimeConfig", {})
    document, custom_jobs = unwrap(job["pipelineSpec"])
    document = complete_containers(with_quick_retries(fill_job_placeholders(document, record)))
    spec = json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec(), ignore_unknown_fields=True)
    executors = {
        name: utils.struct_to_executor_spec(executor) for name, executor in spec.deployment_spec["executors"].items()
    }
    step_cache = StepCache(cache_folder, folder, record.created) if cache_folder else None
    fail_fast = runtime.get("failurePolicy") == "PIPELINE_FAILURE_POLICY_FAIL_FAST"
    observer = Observer(recorder, folder / ARTIFACTS_FOLDER, step_cache, fail_fast)
    observer.custom_jobs = custom_jobs
    try:
        arguments = argument_values(document, runtime.get("parameterValues", {}))
        outputs, succeeded = observer.run(spec, executors, arguments)
        message = "" if succeeded else recorder.first_error("")
    except Exception as error:  # noqa: BLE001 - the record of a job must say how it ended, whatever happens
        logging.exception("The job cannot run.")
        outputs, succeeded, message = {}, False, f"{type(error).__name__}: {error}"
    if succeeded:
        record.outputs = to_values(outputs)
        record.close("SUCCEEDED")
    else:
        record.close("FAILED", FAILED_PRECONDITION, message or "The pipeline failed.")
    record.save(folder)
    return record


def main(folder: Path, cache_folder: Annotated[Path | None, typer.Option()] = None) -> None:
    """Runs the job in FOLDER/job.json here; ends with 1 when it failed."""
    folder = folder.resolve()
    screen = os.dup(1)
    with (folder / LOG_FILE).open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    # By hand, the job's mark and settings are not there yet; the steps inherit them.
    os.environ.update({"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", MARK: str(folder)})
    os.chdir(folder)
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s")
    warnings.filterwarnings("ignore", message=".*have no effect in the current local runner.*")
    # Every kfp step leaves a folder behind where temporary files go.
    with tempfile.TemporaryDirectory(prefix="kfp-job-") as temporary:
        os.environ["TMPDIR"] = temporary
        record = execute(folder, cache_folder)
    logging.info("The job ended: %s. %s", record.state, record.error.get("message", ""))
    if os.isatty(screen):
        os.write(screen, f"{record.state} {record.error.get('message', '')}\n".encode())
    raise typer.Exit(0 if record.state == "SUCCEEDED" else 1)


if __name__ == "__main__":
    typer.run(main)
