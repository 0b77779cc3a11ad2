"""The benchmark's own code: both functions take its messages, and the best round is the one that counts."""

import sys

from benchmarks.trigger import ROOT, Numbers, best, measure, show
from emulator.processes import Process, free_port


def test_both_functions_submit_what_the_benchmark_pushes(tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.trigger", "--serve", str(port)]
    with Process("The stand-in", command, tmp_path / "vertex.log", {}, port, cwd=ROOT) as vertex:
        ours, usual = (measure(name, tmp_path, vertex.address, 5, "basic") for name in ("ours", "usual"))
    assert (tmp_path / "ours" / "trigger.log").read_text().count("is submitted") == 11
    assert (tmp_path / "usual" / "trigger.log").read_text().count("Submitted projects/my-project/") == 11
    assert all(numbers.cpu_seconds > 0 and numbers.throughput > 0 for numbers in (ours, usual))
    assert ours.memory_mib < usual.memory_mib
    assert show(ours, usual).row_count == 6


def test_the_best_of_each_number_counts():
    rounds = [Numbers(1, 5, 9, 2, 10, 6), Numbers(2, 4, 8, 3, 11, 7)]
    assert best(rounds) == Numbers(1, 4, 8, 2, 11, 6)
