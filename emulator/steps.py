"""Runs one step's command as a process, and keeps the end of what it said."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable

# Linux refuses a longer single argument (MAX_ARG_STRLEN).
MAX_ARGUMENT_BYTES = 131_071
_KEPT_LINES = 400
_NOTHING = re.compile(r"(?!)")
_SCRIPT = '"$program_path/ephemeral_component.py"'
_PERMANENT = re.compile(r"^[\w.]*\bInputError: ")
_EXCEPTION = re.compile(r"^[\w.]*(Error|Exception|Exit|Interrupt|Warning|Iteration)\b(: .*)?$")


def run_step(
    command: list[str], env: dict[str, str], log: Callable[[str], None], ignored: re.Pattern[str] = _NOTHING
) -> str:
    """Runs a step.

    Args:
        command: The step's full command, placeholders filled.
        env: Environment variables on top of this process's.
        log: Takes each line that the step prints.
        ignored: Lines that are not the step's own.

    Returns:
        Why it failed, in one line; "" when it succeeded.
    """
    longest = max(len(part.encode()) for part in command)
    if longest > MAX_ARGUMENT_BYTES:
        return (
            f"The step's inputs or source take {longest} bytes, and a process takes at most {MAX_ARGUMENT_BYTES} "
            "in one argument: pass large values as an artifact."
        )
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    with subprocess.Popen(
        with_this_python(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **env},
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if not ignored.match(line):
                lines.append(line.rstrip("\n"))
                log(lines[-1])
    return "" if process.returncode == 0 else last_error(list(lines), process.returncode)


class PermanentFailure(Exception):
    """A step failed in a way that it says will be the same the next time."""


def raise_if_permanent(error: str) -> None:
    """Raises when a step ended with an InputError, which no second try mends.

    Raises:
        PermanentFailure: It did.
    """
    if _PERMANENT.match(error):
        raise PermanentFailure(error)


def log(path: str, line: str) -> None:
    """Writes a line into the job's log, with the path of the task that it is about."""
    sys.stdout.write(f"[{path}] {line}\n")
    sys.stdout.flush()


def with_this_python(command: list[str]) -> list[str]:
    """Names the running interpreter in the shell scripts of a command.

    kfp.local's own replacement also changes the word `python3` in the step's arguments, and breaks when the
    interpreter's path has a space.
    """
    scripts = next((i for i, part in enumerate(command) if _SCRIPT in part), -1) + 1
    python = shlex.quote(sys.executable)
    return [re.sub(r"\bpython3\b", lambda _: python, part) for part in command[:scripts]] + command[scripts:]


def last_error(lines: list[str], code: int) -> str:
    """Returns the line that says why a process failed.

    Args:
        lines: The end of its output.
        code: Its exit code; negative, or 128 and more from a shell, for a signal.
    """
    number = -code if code < 0 else code - 128
    if number in {s.value for s in signal.Signals} and number != signal.SIGHUP:
        return f"The step was ended by signal {number} ({signal.Signals(number).name})."
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said[-50:] if _EXCEPTION.match(line)]
    if errors:
        return errors[-1]
    return f"{said[-1]} (exit code {code})" if said else f"The step ended with exit code {code}."
