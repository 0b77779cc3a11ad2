"""Shows that no failure loses or doubles a run: `python -m benchmarks.faults`.

Messages go through Google's Pub/Sub emulator and the trigger under functions-framework and gunicorn to the local
Vertex AI service, while that service answers 429, 500 and 503, cuts connections and lets requests time out, before and
after it has kept the job, and while the service and the trigger are killed (kill -9) and started again.
The service keeps each job on disk and runs none of them (`--max-running 0`): what is counted is what it was asked for.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from google import pubsub_v1
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.fault_table import Course, Result, show
from benchmarks.messages import Message, framework_refusals, make_messages
from benchmarks.workload import cpu_name
from emulator.stack import DEAD_LETTER_TOPIC, TOPIC, Stack

# The trigger waits so long for the service's answer; a delay beyond it is a timeout.
TIMEOUT_SECONDS = 1
BATCH = 50
# Without any progress for so long, the benchmark gives up.
PATIENCE_SECONDS = 120
FAULTS: list[dict[str, Any]] = [
    {"answer": 503, "rate": 0.06},
    {"answer": 503, "when": "after", "rate": 0.06},
    {"answer": 429, "rate": 0.06},
    {"answer": 500, "rate": 0.03},
    {"answer": 500, "when": "after", "rate": 0.03},
    {"cut": True, "rate": 0.04},
    {"cut": True, "when": "after", "rate": 0.04},
    {"delay_seconds": 2 * TIMEOUT_SECONDS, "rate": 0.015},
    {"delay_seconds": 2 * TIMEOUT_SECONDS, "when": "after", "rate": 0.015},
    {"answer": 503, "method": "get", "rate": 0.1},
    {"cut": True, "method": "get", "rate": 0.05},
]


class Log:
    """The trigger's structured log, read as it grows, across restarts."""

    def __init__(self, path: Path):
        self._path, self._read, self.settled, self.raised = path, 0, set[str](), 0

    def update(self) -> None:
        """Reads the lines that are new; one that is not yet whole is left for the next time."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            # A trigger that was killed may have left half of a line before it.
            start = line.rfind(b'{"severity"')
            if start < 0 or not line.endswith(b"}"):
                continue
            entry = json.loads(line[start:])
            if entry["severity"] == "WARNING":
                self.raised += 1
            else:
                self.settled.add(entry["messageId"])


def run(folder: Path, messages: int, seed: int, console: Console) -> tuple[Result, Course]:
    """Publishes the messages, kills and restarts, waits until every message is settled, and counts.

    Args:
        folder: Where jobs and logs are kept.
        messages: How many messages; at least 20.
        seed: What messages, faults and kills follow from.
        console: Where the progress is shown.

    Raises:
        TimeoutError: For two minutes, no message was settled.
    """
    planned, course, started = make_messages(messages, seed), Course(), time.monotonic()
    file = folder / "faults.json"
    file.write_text(json.dumps({"seed": seed, "faults": FAULTS}))
    options = ["--max-running", "0", "--faults", str(file)]
    env = {"VERTEX_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS)}
    with Stack(folder, min_backoff=0, env=env, vertex_options=options) as stack:
        log = Log(stack.function.log)
        ids = _publish(planned)
        _follow(stack, log, set(ids), course, seed, console)
        course.injected += _faults(stack, "DELETE")
        # A second job of a message that comes again would come now.
        time.sleep(3 * TIMEOUT_SECONDS)
        _send_to_framework(stack, messages, course)
        log.update()
        course.redeliveries, course.seconds = log.raised, time.monotonic() - started
        return _count(stack, planned, seed), course


def _publish(planned: list[Message]) -> list[str]:
    """Publishes messages with their tokens as an attribute, and returns their ids."""
    client = pubsub_v1.PublisherClient(transport=_transport())
    ids: list[str] = []
    for start in range(0, len(planned), BATCH):
        batch = [
            pubsub_v1.PubsubMessage(data=message.data, attributes={"token": message.token})
            for message in planned[start : start + BATCH]
        ]
        ids.extend(client.publish(topic=TOPIC, messages=batch, timeout=60).message_ids)
    return ids


def _transport() -> Any:
    import grpc
    from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

    return PublisherGrpcTransport(channel=grpc.insecure_channel(os.environ["PUBSUB_EMULATOR_HOST"]))


def _follow(stack: Stack, log: Log, ids: set[str], course: Course, seed: int, console: Console) -> None:
    """Waits until the trigger has settled every message, and kills the parts on the way."""
    rng = random.Random(f"kills {seed}")
    marks = sorted(rng.uniform(0.05, 0.95) for _ in range(6 if len(ids) >= 200 else 3))
    kills = [(mark, ("service", "trigger", "both")[number % 3]) for number, mark in enumerate(marks)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    progressed, known = time.monotonic(), 0
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("messages settled", total=len(ids))
        while True:
            log.update()
            settled = len(log.settled & ids)
            progress.update(bar, completed=settled)
            if settled == len(ids) and not kills:
                return
            if settled > known:
                progressed, known = time.monotonic(), settled
            elif time.monotonic() - progressed > PATIENCE_SECONDS:
                raise TimeoutError(f"{len(ids) - settled} messages are not settled; the log is {stack.function.log}.")
            if kills and settled >= kills[0][0] * len(ids):
                _kill(stack, kills.pop(0)[1], rng, course)
            time.sleep(0.1)


def _kill(stack: Stack, what: str, rng: random.Random, course: Course) -> None:
    doomed = []
    if what in ("service", "both"):
        course.injected += _faults(stack, "GET")
        course.kills_of_service += 1
        doomed.append(stack.vertex)
    if what in ("trigger", "both"):
        course.kills_of_trigger += 1
        doomed.append(stack.function)
    for process in doomed:
        process.kill()
    time.sleep(rng.uniform(0.2, 1.5))
    for process in doomed:
        process.start()


def _faults(stack: Stack, method: str) -> int:
    """Asks the service how many requests have met a fault since it started; DELETE also takes the faults away."""
    met = 0
    for verb in dict.fromkeys(["GET", method]):
        address = urllib.request.Request(f"http://{stack.vertex.address}/faults", method=verb)
        with urllib.request.urlopen(address, timeout=30) as response:
            met += sum(json.load(response)["met"])
    return met


def _send_to_framework(stack: Stack, messages: int, course: Course) -> None:
    """Sends what functions-framework refuses before the trigger sees it, by hand: the emulator never pushes it so."""
    for body, headers in framework_refusals(max(messages // 50, 5)):
        address = f"http://{stack.function.address}/{TOPIC}"
        course.sent_to_framework += 1
        try:
            urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=30).close()
        except urllib.error.HTTPError as error:
            course.refused_by_framework += 400 <= error.code < 500


def _count(stack: Stack, planned: list[Message], seed: int) -> Result:
    valid = {message.token for message in planned if not message.reason}
    malformed = {message.token: message.reason for message in planned if message.reason}
    jobs = Counter(job["runtimeConfig"]["parameterValues"]["first"] for job in stack.jobs())
    letters = _dead_letters(stack)
    with_reason = {
        token
        for letter in letters
        if (token := letter["attributes"].get("token", "")) in malformed
        and malformed[token] in letter["attributes"].get("reason", "")
    }
    set_aside = {letter["attributes"].get("token", "") for letter in letters}
    return Result(
        messages=len(planned),
        valid_keys=len(valid),
        jobs=jobs.total(),
        doubled=sum(number - (token in valid) for token, number in jobs.items()),
        lost=sum(1 for token in valid if not jobs[token] or token in set_aside),
        malformed=len(malformed),
        dead_lettered_with_reason=len(with_reason),
        seed=seed,
    )


def _dead_letters(stack: Stack) -> list[dict[str, Any]]:
    letters: list[dict[str, Any]] = []
    while found := stack.pull(DEAD_LETTER_TOPIC, timeout=5):
        letters.extend(found)
    return letters


def main() -> int:
    """Prints the table; with --json also one object as a last line. Exits 1 when something is lost or doubled."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print the counts as a last line of JSON")
    options = parser.parse_args()
    if options.messages < 20:
        parser.error("--messages must be at least 20: a tenth of them is malformed.")
    console = Console()
    console.print(f"On {cpu_name()}", highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        result, course = run(Path(folder), options.messages, options.seed, Console(stderr=True))
    console.print(show(result, course))
    console.print("Every valid key has exactly one job." if result.holds else "[red]It does not hold.[/]")
    if options.json:
        print(json.dumps(asdict(result)))
    return int(not result.holds)


if __name__ == "__main__":
    sys.exit(main())
