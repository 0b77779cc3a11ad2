"""Measures the memory that reading and classifying many short rows take: `python -m benchmarks.memory`.

Resident memory over time is drawn to `benchmarks/memory.svg`, unless `--plot` names another file.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.workload import cpu_name

# Beyond the libraries and the model. Reading a file may take more: its row groups are larger than windows.
LIMITS_MIB = {"read_dataset": 1024, "classify_text": 300}
LABELS = ["billing", "error", "praise"]
WORDS = (
    "invoice charged twice printer shows error after update thanks for great quick help today account login "
    "password reset delivery late refund order number missing page slow crash screen"
)


def main() -> int:
    """Prints a table; with --json also the numbers as a last line. Exits 1 when a limit is passed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="20,000 rows")
    parser.add_argument("--plot", type=Path, default=Path(__file__).with_suffix(".svg"), help="where the plot goes")
    parser.add_argument("--json", action="store_true", help="print the numbers as a last line of JSON")
    parser.add_argument("--child", nargs=2, metavar=("STEP", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        step, folder = options.child
        {"model": build_model, "read": measure_read, "classify": measure_classify}[step](Path(folder))
        return 0
    rows = 20_000 if options.quick else options.rows
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        size = write_csv(Path(folder) / "rows.csv", rows)
        print(f"{rows:,} rows, {size / 2**20:.0f} MiB of CSV, on {cpu_name()}", flush=True)
        run_child("model", folder)
        read, classify = run_child("read", folder), run_child("classify", folder)
    results = {"read_dataset": read, "classify_text": classify}
    print(f"{'step':<14}{'baseline MiB':>14}{'beyond it MiB':>15}{'limit':>8}{'seconds':>9}{'rows/s':>9}")
    for name, result in results.items():
        speed = rows / result["seconds"]
        numbers = f"{result['baseline']:>14.0f}{result['mib']:>15.0f}{LIMITS_MIB[name]:>8}"
        print(f"{name:<14}{numbers}{result['seconds']:>9.0f}{speed:>9,.0f}")
    plot(results, rows, options.plot)
    print(f"resident memory over time: {options.plot}")
    if options.json:
        numbers = {"read_mib": round(read["mib"], 1), "classify_mib": round(classify["mib"], 1)}
        print(json.dumps({"rows": rows, **numbers, "limit_mib": LIMITS_MIB["classify_text"]}))
    return int(any(result["mib"] > LIMITS_MIB[name] for name, result in results.items()))


def write_csv(path: Path, rows: int) -> int:
    """Writes rows of 2 to 12 words, and returns the file's size in bytes."""
    rng, words = random.Random(0), WORDS.split()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        for number in range(rows):
            writer.writerow([f"r{number}", " ".join(rng.choices(words, k=rng.randint(2, 12))), rng.choice(LABELS)])
    return path.stat().st_size


def run_child(step: str, folder: str) -> dict[str, Any]:
    """Runs a step in a process of its own, whose memory is then nobody else's, and shows its progress."""
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.memory", "--child", step, folder], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    last = ""
    for line in child.stdout:
        last = line
        if not line.startswith("{"):
            print(f"  {line.rstrip()}", flush=True)
    if child.wait() != 0:
        raise SystemExit(f"The step {step} failed.")
    return json.loads(last) if last.startswith("{") else {}


def build_model(folder: Path) -> None:
    """Builds the model in a process that ends, so that training a tokenizer is in nobody's baseline."""
    from transformers.utils import logging

    from tests.tiny_model import build_tiny_model

    logging.disable_progress_bar()
    build_tiny_model(folder / "model", LABELS, [WORDS])


def measure_read(folder: Path) -> None:
    """Measures read_dataset, beyond what its imports take."""
    from components.data.read_dataset.read import read

    with Peak() as peak:
        read(str(folder / "rows.csv"), folder / "dataset", "text", "id", "label")
    print(peak.as_json())


def measure_classify(folder: Path) -> None:
    """Measures classify_text, beyond what its imports and the loaded model take."""
    from components.inference.classify_text.classify import classify
    from components.inference.engine import TextClassifier

    # The libraries and the model are there once a first window is through.
    TextClassifier(folder / "model").classify(["a first text, which sets up what is kept", "and another"])
    with Peak() as peak:
        classify(folder / "dataset", folder / "model", folder / "predictions", include_probabilities=True)
    print(peak.as_json())


class Peak:
    """The resident memory of this process within a `with` block, beyond what it had at its start (Linux)."""

    def __enter__(self) -> "Peak":
        # Forgets the peak so far, which imports may have set.
        Path("/proc/self/clear_refs").write_text("5")
        self.baseline, self.started = self._read("VmRSS"), time.monotonic()
        self._course: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.peak, self.seconds = self._read("VmHWM"), time.monotonic() - self.started
        self._over.set()
        self._thread.join()

    def as_json(self) -> str:
        """Returns the baseline and what was taken beyond it, in MiB, the seconds, and the course of both."""
        facts = {"baseline": self.baseline, "mib": self.peak - self.baseline, "seconds": self.seconds}
        return json.dumps({**facts, "course": self._course})

    def _watch(self) -> None:
        while not self._over.wait(0.25):
            self._course.append(
                (round(time.monotonic() - self.started, 2), round(self._read("VmRSS") - self.baseline, 1))
            )

    @staticmethod
    def _read(name: str) -> float:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name + ":")) / 1024


def plot(results: dict[str, dict[str, Any]], rows: int, path: Path) -> None:
    """Draws resident memory over time."""
    import matplotlib

    matplotlib.use("svg" if path.suffix == ".svg" else "agg")
    # The same numbers give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "memory"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3.5), layout="constrained")
    for name, result in results.items():
        seconds, mib = zip(*result["course"], strict=True) if result["course"] else ((), ())
        axes.plot(seconds, mib, label=name)
    axes.axhline(LIMITS_MIB["classify_text"], color="grey", linestyle=":", label="limit of classify_text")
    axes.set(xlabel="seconds", ylabel="MiB beyond libraries and model", title=f"Resident memory, {rows:,} rows", ylim=0)
    axes.legend()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
