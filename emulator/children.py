"""Ends every process of a job, found by a mark that each of them carries.

A job's processes inherit an environment variable with the job's folder. Unlike a process id in a file, the mark cannot
name a stranger after a reboot, and it also finds a step's child that left the process group, and the steps of a runner
that is no longer there.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from emulator.engines import remove_containers

MARK = "KFP_TRANSFORMERS_JOB_FOLDER"
_GRACE_SECONDS = 3.0


def processes_of(folder: Path) -> list[psutil.Process]:
    """Returns the living processes of the job in a folder."""
    return [process for process in psutil.process_iter() if _mark_of(process) == str(folder)]


def end_job(folder: Path, grace: float = _GRACE_SECONDS) -> None:
    """Ends the processes of the job in a folder, and returns when they are gone.

    The job's runner goes first and at once: it would otherwise record as failed the steps that end here.

    Args:
        folder: The job's folder, absolute.
        grace: How many seconds a step has between SIGTERM and SIGKILL.
    """
    found = processes_of(folder)
    for process in found:
        if "emulator.runner" in _command_of(process):
            _signal(process.kill)
    while found:
        for process in found:
            _signal(process.terminate)
        left = _wait(found, grace)
        for process in left:
            _signal(process.kill)
        _wait(left, grace)
        # What was started between the look and the signal is found by the next look.
        found = processes_of(folder)
    remove_containers(folder)


def _wait(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Returns the processes that still live after so many seconds.

    psutil's own wait would take the exit code of a child away from whoever started it.
    """
    deadline = time.monotonic() + seconds
    while (left := [each for each in processes if _lives(each)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _mark_of(process: psutil.Process) -> str | None:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


def _command_of(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _signal(send: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        send()
