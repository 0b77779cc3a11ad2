"""Starts the processes of a training run: this one, or one per GPU through torch's elastic launch.

    python -m components.training.finetune_classifier.launch FOLDER

is what each of several processes runs.
"""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import torch

from components.errors import InputError
from components.training.finetune_classifier.callbacks import OnEvaluation
from components.training.finetune_classifier.train import OUTCOME, Outcome, train_model

ERROR, EVALUATIONS = "error.json", "evaluations.jsonl"
_PARENT = "FINETUNE_CLASSIFIER_PARENT"


def run_training(folder: Path, processes: int, listen: OnEvaluation | None = None) -> Outcome:
    """Trains in this process, or in several that share every step.

    Args:
        folder: The run's folder.
        processes: How many; 1 trains in this process.
        listen: Told of each evaluation, in this process; what it raises ends the training.

    Raises:
        InputError: The loss is no number, or one text does not fit into memory.
        RuntimeError: A process failed; its own error is in the log above.
    """
    if processes == 1 and torch.cuda.device_count() <= 1:
        return train_model(folder, listen)
    print(f"finetune_classifier: {processes} processes train together", flush=True)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
        *("--max-restarts", "0", "-m", __name__, str(folder)),
    ]
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // processes))
    group = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": threads, _PARENT: str(os.getpid())})
    try:
        _follow(folder / EVALUATIONS, group, listen)
    finally:
        if group.poll() is None:
            group.terminate()
            group.wait()
    if (folder / ERROR).exists():
        error = json.loads((folder / ERROR).read_text(encoding="utf-8"))
        raise InputError(error["headline"], error["remedy"])
    if group.returncode or not (folder / OUTCOME).exists():
        raise RuntimeError(f"A training process ended with exit code {group.returncode}; its error is above.")
    return Outcome(**json.loads((folder / OUTCOME).read_text(encoding="utf-8")))


def main() -> None:
    """Runs one of several processes."""
    folder = Path(sys.argv[1])
    threading.Thread(target=_end_with_parent, args=(int(os.environ[_PARENT]),), daemon=True).start()
    first = os.environ["RANK"] == "0"

    def write_down(step: int, metrics: dict[str, float]) -> None:
        with (folder / EVALUATIONS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, "metrics": metrics}) + "\n")

    try:
        outcome = train_model(folder, write_down if first else None)
    except InputError as error:
        if first:
            told = {"headline": error.headline, "remedy": error.remedy}
            (folder / ERROR).write_text(json.dumps(told), encoding="utf-8")
        raise SystemExit(1) from error
    if first:
        (folder / OUTCOME).write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _follow(path: Path, group: "subprocess.Popen[bytes]", listen: OnEvaluation | None) -> None:
    told = 0
    ended = False
    while not ended:
        # Looked at once more after the end, for what was written meanwhile.
        ended = group.poll() is not None
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        for line in lines[told:]:
            evaluation = json.loads(line)
            if listen:
                listen(evaluation["step"], evaluation["metrics"])
        told = len(lines)
        time.sleep(0 if ended else 0.2)


def _end_with_parent(parent: int) -> None:
    """Ends this process when the step that started it was killed, which cannot end it itself."""
    while True:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os._exit(1)
        time.sleep(1)


if __name__ == "__main__":
    main()
