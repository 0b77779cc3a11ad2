"""Measures what comes before and beside the work: `python -m benchmarks.overhead`.

- start-up: from a process' start to its first classified batch, against importing torch and transformers and loading
  the model, in processes that take turns;
- a step: the least time that a component takes in a local run;
- compiling: every pipeline.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.workload import Language, build_model, cpu_name, warn_of_load

LIMIT = 1.3
TEXTS = 64

# What a process says first is when it got so far. All processes of a machine share this clock.
LOAD = """
import sys, time, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
print(time.clock_gettime(time.CLOCK_MONOTONIC))
"""
CLASSIFY = """
import sys, time
from components.inference.engine import TextClassifier
texts = open(sys.argv[2], encoding="utf-8").read().splitlines()
classifier = TextClassifier(sys.argv[1], backend=sys.argv[3])
def say_when(rows):
    print(time.clock_gettime(time.CLOCK_MONOTONIC))
classifier.on_batch = say_when
classifier.classify(texts)
"""


def measure_start_up(folder: Path, rounds: int) -> dict[str, float]:
    """Returns the least seconds of each process."""
    model = build_model(folder / "model", "MiniLM", Language())
    texts = folder / "texts.txt"
    texts.write_text("\n".join(Language(seed=1).short(TEXTS)), encoding="utf-8")
    ways = {
        "import torch, transformers; load the model": [LOAD, str(model)],
        "first batch": [CLASSIFY, str(model), str(texts), "auto"],
        "first batch, PyTorch": [CLASSIFY, str(model), str(texts), "torch"],
    }
    seconds = dict.fromkeys(ways, float("inf"))
    # The first process of all reads the libraries from the disk, and the others from memory.
    for code, *arguments in ways.values():
        _seconds_to_first_word([sys.executable, "-c", code, *arguments])
    for _ in range(rounds):
        for way, (code, *arguments) in ways.items():
            seconds[way] = min(seconds[way], _seconds_to_first_word([sys.executable, "-c", code, *arguments]))
    return seconds


def measure_step(folder: Path) -> float:
    """Returns the seconds that a step adds to a local run: a run of two steps, less one of one step."""
    from google.protobuf import json_format
    from kfp import dsl

    from components import concat
    from emulator.runner import run_job

    def chain(steps: int) -> Any:
        @dsl.pipeline(name=f"chain-{steps}")
        def pipeline() -> None:
            last = concat(first="a", second="b")
            for _ in range(steps - 1):
                last = concat(first=last.output, second="b")

        return json_format.MessageToDict(pipeline.pipeline_spec)

    def seconds(steps: int) -> float:
        start = time.perf_counter()
        run_job(chain(steps), {}, folder / f"{steps}-{start}")
        return time.perf_counter() - start

    seconds(1)
    return min(seconds(4) for _ in range(3)) / 3 - min(seconds(1) for _ in range(3)) / 3


def main() -> int:
    """Prints the table; with --json also the numbers as a last line. Exits 1 when start-up takes too long."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two rounds instead of five")
    parser.add_argument("--json", action="store_true", help="print the numbers as a last line of JSON")
    options = parser.parse_args()
    print(f"On {cpu_name()}. {warn_of_load()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="overhead-") as name:
        folder = Path(name)
        start_up = measure_start_up(folder, 2 if options.quick else 5)
        step = measure_step(folder)
        compiling = _seconds_of([sys.executable, "-m", "pipelines.compile", "--output", str(folder / "compiled")])
    base, ours, plain = start_up.values()
    rows = {**start_up, "one more step of a local run": step, "python -m pipelines.compile": compiling}
    for way, seconds in rows.items():
        ratio = f"{seconds / base:6.2f}x" if way.startswith("first") else ""
        print(f"{way:<46}{seconds:>8.2f} s{ratio}")
    if options.json:
        numbers = {"base_seconds": base, "start_up_seconds": ours, "torch_seconds": plain, "ratio": ours / base}
        numbers |= {"step_seconds": step, "compile_seconds": compiling}
        print(json.dumps({**{name: round(value, 3) for name, value in numbers.items()}, "limit": LIMIT}))
    return int(ours / base > LIMIT)


def _seconds_to_first_word(command: list[str]) -> float:
    """Returns the seconds to when a process says that it got so far. To end, PyTorch takes most of a second more."""
    start = time.clock_gettime(time.CLOCK_MONOTONIC)
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return float(said.splitlines()[0]) - start


def _seconds_of(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
