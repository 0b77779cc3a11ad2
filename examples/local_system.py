"""Starts the whole system on this machine, sends it a message, and shows the run that comes of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from emulator.stack import DEAD_LETTER_TOPIC, OUTCOME_TOPIC, TOPIC, MissingToolError, Stack, find_pubsub_jar
from emulator.watch import Watch
from triggers.pubsub import publish
from triggers.request import RunRequest

OUT = Path(__file__).resolve().parent.parent / "out"
_JOB_SECONDS, _RUN_SECONDS = 60, 3600


@contextmanager
def local_system(folder: Path, console: Console) -> Iterator[Stack]:
    """Starts Pub/Sub (where it is installed), the trigger and the local Vertex AI service, and stops them at the end.

    Args:
        folder: Where jobs, artifacts and the parts' logs go.
        console: Where the parts' addresses are printed.
    """
    try:
        find_pubsub_jar()
        with_pubsub = True
    except MissingToolError as error:
        said = f"Without Pub/Sub's emulator, a message goes to the function as a push request: {error}"
        console.print(said, highlight=False, soft_wrap=True, markup=False)
        with_pubsub = False
    with Stack(folder, with_pubsub=with_pubsub, env={"PYTHONWARNINGS": "ignore"}) as stack:
        if stack.pubsub:
            console.print(f"Pub/Sub emulator         {stack.pubsub.address}", highlight=False)
        console.print(f"Local Vertex AI service  {stack.vertex.address}", highlight=False)
        console.print(f"Trigger                  {stack.function.address}", highlight=False)
        yield stack


def run_message(stack: Stack, pipeline: str, parameters: dict[str, Any], console: Console) -> dict[str, Any]:
    """Sends the message that runs a pipeline, and shows the run's steps until it has ended.

    Args:
        stack: The running system.
        pipeline: The pipeline's name.
        parameters: Its parameters; where the outcome is announced is added.
        console: Where to print.

    Returns:
        The job as the API gives it.

    Raises:
        RuntimeError: No job came of the message, or it did not succeed.
    """
    known = {job["name"] for job in stack.jobs()}
    outcome_topic = OUTCOME_TOPIC if stack.pubsub else ""
    given = {**parameters, "outcome_topic": outcome_topic}
    _send(stack, RunRequest(version=1, pipeline=pipeline, parameters=given), console)
    name = _wait_for_job(stack, known)
    console.print(f"The trigger submitted {name}", highlight=False, soft_wrap=True)
    job = _follow(stack, name, console)
    if outcome_topic:
        for outcome in stack.pull(OUTCOME_TOPIC, timeout=10):
            console.print(f"Outcome: {outcome['data'].decode()}", highlight=False, soft_wrap=True, markup=False)
    if not job["state"].endswith("SUCCEEDED"):
        raise RuntimeError(f"The run ended as {job['state']}: {job.get('error', {}).get('message', '')}")
    return job


def artifact(job: dict[str, Any], step: str, name: str) -> dict[str, Any]:
    """Returns an artifact that a step of a job made, as the API gives it.

    Args:
        job: The job.
        step: The step's name, such as `evaluate-classifier`.
        name: The output's name.
    """
    tasks = job["jobDetail"]["taskDetails"]
    (found,) = [task["outputs"][name]["artifacts"][0] for task in tasks if task["taskName"] == step]
    return dict(found)


def _send(stack: Stack, request: RunRequest, console: Console) -> None:
    data = request.model_dump_json(exclude_unset=True).encode()
    if stack.pubsub:
        console.print(f"Published message {publish(TOPIC, data)} to {TOPIC}", highlight=False)
        return
    status = stack.deliver(data, message_id=str(time.time_ns()))
    if status >= 300:
        raise RuntimeError(f"The function answered {status}; its log is {stack.function.log}.")
    console.print("Pushed the message to the function", highlight=False)


def _wait_for_job(stack: Stack, known: set[str]) -> str:
    deadline = time.monotonic() + _JOB_SECONDS
    while time.monotonic() < deadline:
        new = [job["name"] for job in stack.jobs() if job["name"] not in known]
        if new:
            return str(new[0])
        refused = stack.pull(DEAD_LETTER_TOPIC, timeout=0.2) if stack.pubsub else []
        for message in refused:
            raise RuntimeError(f"The message was refused: {message['attributes'].get('reason')}")
        time.sleep(0.2)
    raise RuntimeError(f"No job came of the message in {_JOB_SECONDS} s; the trigger's log is {stack.function.log}.")


def _follow(stack: Stack, name: str, console: Console) -> dict[str, Any]:
    deadline = time.monotonic() + _RUN_SECONDS
    with Watch(console) as watch:
        while time.monotonic() < deadline:
            job = stack.get(name)
            tasks = job.get("jobDetail", {}).get("taskDetails", [])
            around_others = {task.get("parentTaskId") for task in tasks}
            for task in tasks:
                if task["taskId"] not in around_others:
                    error = task.get("error", {}).get("message", "")
                    times = task.get("startTime", ""), task.get("endTime", "")
                    watch.show(task["taskId"], task["taskName"], task["state"], *times, error)
            if job["state"].removeprefix("PIPELINE_STATE_") in ("SUCCEEDED", "FAILED", "CANCELLED"):
                return job
            time.sleep(0.3)
    raise RuntimeError(f"The job {name} has not ended in {_RUN_SECONDS} s.")
