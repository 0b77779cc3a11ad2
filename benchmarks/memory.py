"""Measures the memory that reading and classifying many short rows take: `python -m benchmarks.memory`."""

import argparse
import csv
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_MIB = 1024
LABELS = ["billing", "error", "praise"]
WORDS = (
    "invoice charged twice printer shows error after update thanks for great quick help today account login "
    "password reset delivery late refund order number missing page slow crash screen"
)


def main() -> int:
    """Prints a table; with --json also the numbers as a last line. Exits 1 when a limit is passed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="20,000 rows")
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
        print(f"{rows:,} rows, {size / 2**20:.0f} MiB of CSV, on {cpu_name()}, {os.cpu_count()} CPUs", flush=True)
        run_child("model", folder)
        read, classify = run_child("read", folder), run_child("classify", folder)
    print(f"{'step':<14}{'baseline MiB':>14}{'beyond it MiB':>15}{'seconds':>9}{'rows/s':>9}")
    for name, result in (("read_dataset", read), ("classify_text", classify)):
        speed = rows / result["seconds"]
        print(f"{name:<14}{result['baseline']:>14.0f}{result['mib']:>15.0f}{result['seconds']:>9.0f}{speed:>9,.0f}")
    print(f"limit: {LIMIT_MIB} MiB beyond the baseline")
    if options.json:
        numbers = {"read_mib": round(read["mib"], 1), "classify_mib": round(classify["mib"], 1)}
        print(json.dumps({"rows": rows, **numbers, "limit_mib": LIMIT_MIB}))
    return int(max(read["mib"], classify["mib"]) > LIMIT_MIB)


def write_csv(path: Path, rows: int) -> int:
    """Writes rows of 2 to 12 words, and returns the file's size in bytes."""
    rng, words = random.Random(0), WORDS.split()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        for number in range(rows):
            writer.writerow([f"r{number}", " ".join(rng.choices(words, k=rng.randint(2, 12))), rng.choice(LABELS)])
    return path.stat().st_size


def run_child(step: str, folder: str) -> dict[str, float]:
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

    TextClassifier(folder / "model").classify(["a first text, which makes torch set up what it keeps"])
    with Peak() as peak:
        classify(folder / "dataset", folder / "model", folder / "predictions", include_probabilities=True)
    print(peak.as_json())


class Peak:
    """The largest resident memory of this process within a `with` block, beyond what it had at its start (Linux)."""

    def __enter__(self) -> "Peak":
        # Forgets the peak so far, which imports may have set.
        Path("/proc/self/clear_refs").write_text("5")
        self.baseline, self.started = self._read("VmRSS"), time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        self.peak, self.seconds = self._read("VmHWM"), time.monotonic() - self.started

    def as_json(self) -> str:
        """Returns the baseline and what was taken beyond it, in MiB, and the seconds."""
        return json.dumps({"baseline": self.baseline, "mib": self.peak - self.baseline, "seconds": self.seconds})

    @staticmethod
    def _read(name: str) -> float:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name + ":")) / 1024


def cpu_name() -> str:
    """Returns the processor's name, as Linux knows it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
