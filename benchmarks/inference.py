"""Measures batch inference against what a user would write instead: `python -m benchmarks.inference`.

Every way answers the same texts, in one process, in turns; the fastest of several rounds counts. Rival batch sizes are
searched for each case, on the very texts of the case. Telling the answers apart are the share of equal labels and the
largest difference of a logit (up to a constant that softmax takes out) against `transformers.pipeline` in fp32.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.peak import PeakMemory
from benchmarks.rivals import Answer, naive_loop, sentence_transformers_encode, this_library, transformers_pipeline
from benchmarks.utilization import measure_utilization, show_utilization
from benchmarks.workload import Language, build_model, cpu_name, gpu_name, spread_labels, warn_of_load

BATCH_SIZES = (1, 8, 16, 32, 64, 128)
GPU_BATCH_SIZES = (*BATCH_SIZES, 256, 512, 1024)
MOST_SAMPLED = 8192
FAR_SLOWER = 1.3


@dataclass(frozen=True)
class Case:
    """A model and texts.

    Attributes:
        model: A name in `benchmarks.workload.SIZES`.
        texts: `short` or `long`; see `benchmarks.workload.Language`.
        rows: How many texts.
        naive: How many of them the naive loop answers.
        head: Whether labels are wanted; else embeddings.
        precisions: The precisions of this library, besides its defaults.
    """

    model: str
    texts: str
    rows: int
    naive: int = 0
    head: bool = True
    precisions: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the tables call it."""
        return f"{self.model}, {self.texts}{'' if self.head else ', embeddings'}"


@dataclass
class Measurement:
    """One way's fastest round.

    Attributes:
        case: The case's name.
        way: What was measured.
        rows_per_second: The speed of the fastest round.
        ratio: Against the rival's best batch size, in the same run.
        label_agreement: The share of rows with the rival's label; None for embeddings.
        logit_difference: The largest difference of a logit, or of an embedding's number.
        peak_memory_mib: The most memory of the process while it ran; on a GPU, what it took of its memory beside all
            ways' weights.
        details: What else is known, such as the batch size or the share of padding.
    """

    case: str
    way: str
    rows_per_second: float
    ratio: float = 1.0
    label_agreement: float | None = 1.0
    logit_difference: float = 0.0
    peak_memory_mib: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)


def measure(case: Case, folder: Path, device: str, rounds: int, say: Callable[[str], None]) -> list[Measurement]:
    """Measures all ways of a case, in turns."""
    texts = getattr(Language(seed=1), case.texts)(case.rows)
    rival = transformers_pipeline(folder, device) if case.head else sentence_transformers_encode(folder, device)
    name = "transformers.pipeline" if case.head else "sentence-transformers"
    best = search_batch_size(rival, texts, GPU_BATCH_SIZES if device.startswith("cuda") else BATCH_SIZES, say)
    ways: dict[str, tuple[Answer, list[str]]] = {f"{name}, batch_size={best}": (rival(best), texts)}
    if best != 32:
        ways[f"{name}, batch_size=32"] = (rival(32), texts)
    if case.head and device.startswith("cuda"):
        # What of the difference is the precision.
        ways[f"{name}, bf16, batch_size={best}"] = (transformers_pipeline(folder, device, torch.bfloat16)(best), texts)
    if case.naive:
        ways["one text at a time"] = (naive_loop(folder, device), texts[: case.naive])
    engines: dict[str, Any] = {}
    for precision in ("auto", *case.precisions):
        # A model of random weights has no accuracy to lose; what int8 costs a trained one is measured apart.
        ours, engine = this_library(folder, device, case.head, precision=precision, tolerance=1.0)
        way = "this library" if precision == "auto" else f"this library, {precision}"
        ways[way], engines[way] = (ours, texts), engine
        # The first texts make the engine convert, check and choose.
        ours(texts[:64])
    seconds, answers, memory = take_turns(ways, device, rounds, say)
    reference = answers[f"{name}, batch_size={best}"]
    base = len(texts) / seconds[f"{name}, batch_size={best}"]
    return [
        _describe(case, way, len(ways[way][1]) / seconds[way], base, answers[way], reference, memory[way], engines)
        for way in ways
    ]


def search_batch_size(
    rival: Callable[[int], Answer], texts: list[str], sizes: Sequence[int], say: Callable[[str], None]
) -> int:
    """Returns the rival's fastest batch size for texts, on a sample of them; the three fastest run a second time.

    Past the best size speed only falls, and the largest sizes take longest: after two that are far slower, no other one
    is tried.
    """
    sample = texts[:: max(1, len(texts) // min(max(128, len(texts) // 4), MOST_SAMPLED))]
    rival(1)(sample[:2])

    def seconds(batch_size: int) -> float:
        start = time.perf_counter()
        rival(batch_size)(sample)
        return time.perf_counter() - start

    first: dict[int, float] = {}
    for size in sizes:
        if len(first) > 2 and all(each > FAR_SLOWER * min(first.values()) for each in list(first.values())[-2:]):
            break
        first[size] = seconds(size)
    fastest = sorted(first, key=lambda size: first[size])[:3]
    again = {size: min(first[size], seconds(size)) for size in fastest}
    best = min(again, key=lambda size: again[size])
    say(f"  batch sizes, rows/s: {', '.join(f'{size}: {len(sample) / first[size]:,.0f}' for size in first)}")
    return best


def take_turns(
    ways: dict[str, tuple[Answer, list[str]]], device: str, rounds: int, say: Callable[[str], None]
) -> tuple[dict[str, float], dict[str, np.ndarray], dict[str, float]]:
    """Runs all ways one after the other, several times, and returns their least seconds, answers and memory."""
    seconds: dict[str, float] = dict.fromkeys(ways, math.inf)
    memory: dict[str, float] = dict.fromkeys(ways, 0.0)
    answers: dict[str, np.ndarray] = {}
    for number in range(rounds):
        for way, (answer, texts) in ways.items():
            with PeakMemory(device) as peak:
                start = time.perf_counter()
                answers[way] = answer(texts)
                seconds[way] = min(seconds[way], time.perf_counter() - start)
            memory[way] = max(memory[way], peak.mib)
        say(f"  round {number + 1} of {rounds}: " + ", ".join(f"{seconds[way]:.1f} s" for way in ways))
    return seconds, answers, memory


def _describe(
    case: Case,
    way: str,
    speed: float,
    base: float,
    answer: np.ndarray,
    reference: np.ndarray,
    memory: float,
    engines: dict[str, Any],
) -> Measurement:
    reference = reference[: len(answer)]
    agreement: float | None = None
    if case.head:
        agreement = float((answer.argmax(axis=1) == reference.argmax(axis=1)).mean())
        answer, reference = centred_logits(answer), centred_logits(reference)
    details = {}
    if way in engines:
        usage = engines[way].usage
        details = {**engines[way].facts(), "padding_share": round(usage.padding_share, 4)}
        details.pop("labels", None)
    return Measurement(
        case.name,
        way,
        round(speed, 1),
        round(speed / base, 3),
        agreement,
        float(np.abs(answer - reference).max()),
        round(memory),
        details,
    )


def centred_logits(probabilities: np.ndarray) -> np.ndarray:
    """Returns the logits behind probabilities; softmax takes out a constant, so their mean is 0."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-30))
    centred: np.ndarray = logits - logits.mean(axis=1, keepdims=True)
    return centred


def cases(quick: bool, on_gpu: bool) -> list[Case]:
    """Returns the cases: fewer and smaller ones for a quick look."""
    more = 64 if on_gpu else 1
    precisions = () if on_gpu else ("bf16", "int8")
    if quick:
        return [Case("MiniLM", "short", 512 * more), Case("MiniLM", "long", 160 * more)]
    return [
        Case("MiniLM", "short", 2048 * more, naive=128, precisions=precisions),
        Case("MiniLM", "long", 384 * more, naive=48, precisions=precisions),
        Case("BERT-base", "short", 384 * more, precisions=precisions),
        Case("BERT-base", "long", 64 * more, precisions=precisions),
        Case("MiniLM", "short", 2048 * more, head=False),
        Case("MiniLM", "long", 384 * more, head=False),
    ]


def show(measurements: list[Measurement]) -> Table:
    """Returns the table."""
    table = Table(title="Batch inference", title_justify="left")
    for column in ("case", "way", "rows/s", "ratio", "labels agree", "largest logit difference", "peak MiB"):
        table.add_column(column, justify="left" if column in ("case", "way") else "right")
    last = ""
    for each in measurements:
        agreement = "" if each.label_agreement is None else f"{each.label_agreement:.4f}"
        table.add_row(
            "" if each.case == last else each.case,
            each.way,
            f"{each.rows_per_second:,.1f}",
            f"{each.ratio:.2f}x",
            agreement,
            f"{each.logit_difference:.1e}",
            f"{each.peak_memory_mib:,.0f}",
        )
        last = each.case
    return table


def summarize(measurements: list[Measurement]) -> dict[str, Any]:
    """Returns what `--json` prints: this library's default settings against the rivals at their best."""
    ours = [each for each in measurements if each.way == "this library"]
    agreements = [each.label_agreement for each in ours if each.label_agreement is not None]
    return {
        "ratio": round(math.exp(sum(math.log(each.ratio) for each in ours) / len(ours)), 3),
        "min_ratio": min(each.ratio for each in ours),
        "label_agreement": min(agreements),
        "cases": [asdict(each) for each in measurements],
        "cpu": cpu_name(),
        "gpu": gpu_name(),
    }


def main() -> int:
    """Prints the tables; with --json also one object as a last line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one small model, few texts; about two minutes")
    parser.add_argument("--json", action="store_true", help="print all numbers as a last line of JSON")
    parser.add_argument("--rounds", type=int, default=0, help="how often each way answers all texts")
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    console, log = Console(width=130), Console(stderr=True)
    gpu = gpu_name()
    device = "cuda:0" if gpu else "cpu"
    console.print(f"On {cpu_name()}{f' and {gpu}' if gpu else ''}. {warn_of_load()}", highlight=False)
    measurements: list[Measurement] = []
    with tempfile.TemporaryDirectory(prefix="inference-") as folder:
        for case in cases(options.quick, bool(gpu)):
            if options.only not in case.name:
                continue
            log.print(f"{case.name}: {case.rows:,} texts", highlight=False)
            model = Path(folder) / f"{case.model}{'' if case.head else '-encoder'}"
            if not model.exists():
                build_model(model, case.model, Language(), case.head)
                if case.head:
                    spread_labels(model)
            rounds = options.rounds or (2 if options.quick else 3)
            measurements += measure(case, model, device, rounds, lambda text: log.print(text, highlight=False))
    console.print(show(measurements))
    if not options.quick and not options.only:
        console.print(show_utilization(measure_utilization()))
    if options.json:
        print(json.dumps(summarize(measurements)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
