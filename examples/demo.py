"""The whole system on this machine: a message on a topic becomes a transformer's predictions.

Run it with `make demo`; or `python -m examples.train_example_model` once, then `python -m examples.demo`.
"""

import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console

from emulator.stack import OUTCOME_TOPIC, TOPIC, MissingToolError, Stack, find_pubsub_jar
from emulator.watch import Watch, metrics_table, rows_table
from triggers.pubsub import publish
from triggers.request import RunRequest

OUT = Path(__file__).resolve().parent.parent / "out"
MODEL, HELD_OUT = OUT / "example-model", OUT / "example-data" / "held_out.csv"
_JOB_SECONDS, _RUN_SECONDS = 60, 900


def request(outcome_topic: str) -> RunRequest:
    """Returns what the message says: classify the example's held-out tickets with the example's model."""
    parameters = {
        "input_uri": str(HELD_OUT),
        "model": str(MODEL),
        "output_uri": str(OUT / "predictions"),
        "id_column": "id",
        "label_column": "label",
        "outcome_topic": outcome_topic,
    }
    return RunRequest(version=1, pipeline="batch_classification", parameters=parameters)


def send(stack: Stack, message: RunRequest, console: Console) -> None:
    """Sends the message: published to the topic, or pushed to the function where there is no Pub/Sub emulator."""
    data = message.model_dump_json(exclude_unset=True).encode()
    if stack.pubsub:
        console.print(f"Published message {publish(TOPIC, data)} to {TOPIC}", highlight=False)
        return
    status = stack.deliver(data, message_id="1")
    if status >= 300:
        raise RuntimeError(f"The function answered {status}; its log is {stack.function.log}.")
    console.print("Pushed the message to the function", highlight=False)


def wait_for_job(stack: Stack, known: set[str]) -> str:
    """Waits until the trigger has submitted a job that was not known before, and returns its name."""
    deadline = time.monotonic() + _JOB_SECONDS
    while time.monotonic() < deadline:
        new = [job["name"] for job in stack.jobs() if job["name"] not in known]
        if new:
            return str(new[0])
        time.sleep(0.2)
    raise RuntimeError(f"No job came of the message in {_JOB_SECONDS} s; the trigger's log is {stack.function.log}.")


def follow(stack: Stack, name: str, console: Console) -> dict[str, Any]:
    """Shows the job's tasks until it has ended, and returns the job."""
    deadline = time.monotonic() + _RUN_SECONDS
    with Watch(console) as watch:
        while time.monotonic() < deadline:
            job = stack.get(name)
            tasks = job.get("jobDetail", {}).get("taskDetails", [])
            around_others = {task.get("parentTaskId") for task in tasks}
            for task in tasks:
                if task["taskId"] not in around_others:
                    show(watch, task)
            if job["state"].removeprefix("PIPELINE_STATE_") in ("SUCCEEDED", "FAILED", "CANCELLED"):
                return job
            time.sleep(0.3)
    raise RuntimeError(f"The job {name} has not ended in {_RUN_SECONDS} s.")


def show(watch: Watch, task: dict[str, Any]) -> None:
    """Shows one task of the job as the API gives it."""
    error = task.get("error", {}).get("message", "")
    times = task.get("startTime", ""), task.get("endTime", "")
    watch.show(task["taskId"], task["taskName"], task["state"], *times, error)


def artifacts(job: dict[str, Any], schema_title: str) -> list[dict[str, Any]]:
    """Returns the artifacts of one type that the job's tasks made."""
    return [
        artifact
        for task in job["jobDetail"]["taskDetails"]
        for output in task.get("outputs", {}).values()
        for artifact in output.get("artifacts", [])
        if artifact.get("schemaTitle") == schema_title
    ]


def report(job: dict[str, Any], console: Console) -> None:
    """Prints the predictions' path and first rows, the metrics, and the path of the HTML report."""
    folder = OUT / "predictions"
    table = pq.read_table(folder)
    rows = table.slice(0, 8).to_pylist()
    columns = ("text", "label", "prediction", "score")
    console.print(rows_table(f"The first of {table.num_rows} predictions", columns, rows, console.width))
    for artifact in artifacts(job, "system.Metrics"):
        console.print(metrics_table(artifact["metadata"]))
    console.print(f"Predictions: {folder}", highlight=False, soft_wrap=True)
    for artifact in artifacts(job, "system.HTML"):
        console.print(f"Report:      {artifact['uri']}", highlight=False, soft_wrap=True)


def run(console: Console) -> int:
    """Starts every part, sends the message, follows the run and shows what came of it; returns the exit code."""
    try:
        find_pubsub_jar()
        with_pubsub = True
    except MissingToolError as error:
        console.print(f"Without Pub/Sub's emulator, the message goes to the function as a push request: {error}")
        with_pubsub = False
    with Stack(OUT / "demo", with_pubsub=with_pubsub, env={"PYTHONWARNINGS": "ignore"}) as stack:
        if stack.pubsub:
            console.print(f"Pub/Sub emulator         {stack.pubsub.address}", highlight=False)
        console.print(f"Local Vertex AI service  {stack.vertex.address}", highlight=False)
        console.print(f"Trigger                  {stack.function.address}", highlight=False)
        known = {job["name"] for job in stack.jobs()}
        send(stack, request(OUTCOME_TOPIC if with_pubsub else ""), console)
        name = wait_for_job(stack, known)
        console.print(f"The trigger submitted {name}", highlight=False, soft_wrap=True)
        job = follow(stack, name, console)
        if with_pubsub:
            for outcome in stack.pull(OUTCOME_TOPIC, timeout=10):
                console.print(f"Outcome: {outcome['data'].decode()}", highlight=False, soft_wrap=True, markup=False)
    if not job["state"].endswith("SUCCEEDED"):
        console.print(f"[red]The run ended as {job['state']}:[/] {job.get('error', {}).get('message', '')}")
        return 1
    report(job, console)
    return 0


def _stop(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)


if __name__ == "__main__":
    # An exit unwinds the `with` blocks, so that no process is left behind.
    signal.signal(signal.SIGTERM, _stop)
    try:
        sys.exit(run(Console(soft_wrap=False)))
    except KeyboardInterrupt:
        sys.exit(130)
