"""Measures the trigger beside the function that people write today: `python -m benchmarks.trigger`.

Both run as Cloud Run runs them, under functions-framework and gunicorn with one worker, take the same push requests and
create jobs in the same stand-in for Vertex AI, which answers at once with the job that it was given. They take turns,
round by round, so that what else the machine does meets both; of each number the best round counts.
"""

import argparse
import base64
import http.client
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.workload import cpu_name
from emulator.processes import Process, free_port
from emulator.stack import trigger_function

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {"ours": ROOT / "triggers" / "main.py", "usual": ROOT / "benchmarks" / "usual_function.py"}
LIMITS = {"cpu_ratio": 0.5, "memory_ratio": 0.65, "throughput_ratio": 2.0}
PARENT, TOPIC = "projects/my-project/locations/europe-west4", "projects/my-project/topics/runs"
THREADS = 8
PARAMETERS = {
    "basic": {"first": "a"},
    "batch_classification": {"input_uri": "gs://bucket/in.csv", "model": "org/model", "output_uri": "gs://bucket/out"},
}


@dataclass
class Numbers:
    """What one round has measured of one function.

    Attributes:
        cpu_seconds: CPU time of all its processes from their start to the first job.
        start_seconds: Time from its start to the first job.
        memory_mib: The largest memory of all its processes, shared pages counted once (PSS).
        latency_ms: Median time of a message that nothing else competes with.
        throughput: Messages a second with one worker and as many messages at once as it has threads.
        cpu_ms: CPU time of a message, meanwhile.
    """

    cpu_seconds: float
    start_seconds: float
    memory_mib: float
    latency_ms: float
    throughput: float
    cpu_ms: float


class StandIn(BaseHTTPRequestHandler):
    """Creates every job, and answers with it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """CreatePipelineJob."""
        job = self.rfile.read(int(self.headers["Content-Length"])).rstrip()
        job_id = parse_qs(urlsplit(self.path).query)["pipelineJobId"][0]
        answer = job[:-1] + f', "name": "{PARENT}/pipelineJobs/{job_id}"}}'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def serve(port: int) -> None:
    """Serves the stand-in until it is stopped."""
    StandIn.wbufsize = -1
    ThreadingHTTPServer(("127.0.0.1", port), StandIn).serve_forever()


class Client:
    """Pushes messages to a function as Pub/Sub does, each with an id of its own."""

    def __init__(self, port: int, pipeline: str):
        self._port, self._number = port, 0
        self._request = {"version": 1, "pipeline": pipeline, "parameters": PARAMETERS[pipeline]}

    def push(self, count: int, at_once: int) -> list[float]:
        """Pushes messages, and returns how many seconds each took."""
        ids = range(self._number, self._number + count)
        self._number += count
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(self._push, ids))

    def _push(self, number: int) -> float:
        message = {
            "data": base64.b64encode(json.dumps(self._request).encode()).decode(),
            "messageId": str(number),
            "publishTime": "2026-11-21T12:00:00.123Z",
            "attributes": {},
        }
        body = json.dumps({"subscription": "projects/my-project/subscriptions/runs", "message": message})
        started = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request("POST", f"/{TOPIC}", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"The function answered {answer.status}: {content[:500]!r}")
        return time.perf_counter() - started


@contextmanager
def function(name: str, folder: Path, vertex: str) -> Iterator[Process]:
    """Starts a function, and stops it at the end."""
    env: dict[str, str | None] = {
        "GOOGLE_CLOUD_PROJECT": "my-project",
        "VERTEX_LOCATION": "europe-west4",
        "PIPELINE_ROOT": "gs://bucket/root",
        "AIPLATFORM_EMULATOR_HOST": vertex,
        "COMPILED_FOLDER": str(ROOT / "compiled"),
        "GOOGLE_APPLICATION_CREDENTIALS": None,
        "NO_GCE_CHECK": "true",
        "WORKERS": "1",
        "THREADS": str(THREADS),
    }
    with trigger_function(folder / name, env, source=SOURCES[name]) as process:
        yield process


def measure(name: str, folder: Path, vertex: str, messages: int, pipeline: str) -> Numbers:
    """Starts a function, lets it submit its first job, then many, and stops it."""
    started = time.perf_counter()
    with function(name, folder, vertex) as process:
        client = Client(process.port, pipeline)
        client.push(1, 1)
        start_seconds = time.perf_counter() - started
        cpu_seconds, first_memory = usage(process)
        latency = statistics.median(client.push(max(messages // 5, 5), 1))
        before, started = usage(process)[0], time.perf_counter()
        client.push(messages, THREADS)
        throughput = messages / (time.perf_counter() - started)
        after, memory = usage(process)
    cpu_ms = (after - before) / messages * 1000
    return Numbers(cpu_seconds, start_seconds, max(first_memory, memory), latency * 1000, throughput, cpu_ms)


def usage(process: Process) -> tuple[float, float]:
    """Returns the CPU seconds and the MiB of a process and everything that it started."""
    master = psutil.Process(process.process.pid)
    family = [master, *master.children(recursive=True)]
    times = [member.cpu_times() for member in family]
    memory = sum(member.memory_full_info().pss for member in family)
    return sum(each.user + each.system for each in times), memory / 2**20


def best(rounds: list[Numbers]) -> Numbers:
    """Returns the best of each number: the highest throughput, and the least of everything else."""
    fields = {name: min(getattr(each, name) for each in rounds) for name in Numbers.__annotations__}
    return Numbers(**fields | {"throughput": max(each.throughput for each in rounds)})


def show(ours: Numbers, usual: Numbers) -> Table:
    """Returns the table."""
    table = Table("", "ours", "usual", "ratio", "required", title="The trigger beside the usual function")
    for column in table.columns[1:]:
        column.justify = "right"
    rows = [
        ("CPU seconds to the first job", "cpu_seconds", ".2f", "at most 0.5"),
        ("memory, MiB", "memory_mib", ".0f", "at most 0.65"),
        ("seconds from start to the first job", "start_seconds", ".2f", ""),
        ("latency of a message, ms", "latency_ms", ".0f", ""),
        ("messages a second, one worker", "throughput", ".1f", "at least 2"),
        ("CPU milliseconds of a message", "cpu_ms", ".1f", ""),
    ]
    for title, name, form, required in rows:
        a, b = getattr(ours, name), getattr(usual, name)
        table.add_row(title, f"{a:{form}}", f"{b:{form}}", f"{a / b:.2f}", required)
    return table


def main() -> int:
    """Prints the table; with --json also the ratios as a last line. Exits 1 when a limit is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trigger", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 40 messages instead of 5 of 200")
    parser.add_argument(
        "--pipeline", choices=PARAMETERS, default="batch_classification", help="what a message asks for"
    )
    parser.add_argument("--json", action="store_true", help="print the ratios as a last line of JSON")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
    rounds, messages = (2, 40) if options.quick else (5, 200)
    console = Console()
    what = f"{rounds} rounds of {messages} messages for {options.pipeline}"
    console.print(f"{what}, on {cpu_name()}", highlight=False, soft_wrap=True)
    measured: dict[str, list[Numbers]] = {name: [] for name in SOURCES}
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.trigger", "--serve", str(port)]
    with tempfile.TemporaryDirectory(prefix="trigger-") as folder:  # noqa: SIM117
        with Process("The stand-in for Vertex AI", command, Path(folder) / "vertex.log", {}, port, cwd=ROOT) as vertex:
            for number in range(rounds):
                for name, results in measured.items():
                    results.append(measure(name, Path(folder), vertex.address, messages, options.pipeline))
                    numbers = ", ".join(f"{key} {value:.4g}" for key, value in vars(results[-1]).items())
                    console.print(f"  round {number + 1}, {name}: {numbers}", highlight=False, soft_wrap=True)
    ours, usual = best(measured["ours"]), best(measured["usual"])
    console.print(show(ours, usual))
    ratios = {
        "cpu_ratio": round(ours.cpu_seconds / usual.cpu_seconds, 3),
        "memory_ratio": round(ours.memory_mib / usual.memory_mib, 3),
        "throughput_ratio": round(ours.throughput / usual.throughput, 2),
    }
    if options.json:
        print(json.dumps(ratios))
    return int(
        ratios["cpu_ratio"] > LIMITS["cpu_ratio"]
        or ratios["memory_ratio"] > LIMITS["memory_ratio"]
        or ratios["throughput_ratio"] < LIMITS["throughput_ratio"]
    )


if __name__ == "__main__":
    sys.exit(main())
