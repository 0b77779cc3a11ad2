"""A process that listens on a port, is waited for, and is stopped with everything that it started."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

_STOP_SECONDS = 10


def free_port() -> int:
    """Returns a port on loopback that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Process(AbstractContextManager["Process"]):
    """A process in a group of its own, with a log file, which is stopped with everything it started.

    Args:
        name: What messages call it.
        command: The command line.
        log: The file that takes its output.
        env: Environment variables on top of this process's; None as a value takes one away.
        port: The port on 127.0.0.1 that it will listen on.
        cwd: Its working directory.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        log: Path,
        env: Mapping[str, str | None],
        port: int,
        cwd: Path | None = None,
    ):
        self.name, self.command, self.log, self.port, self.cwd = name, command, log, port, cwd
        merged: dict[str, str | None] = {**os.environ, **env}
        self.env = {key: value for key, value in merged.items() if value is not None}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Where it listens, as `127.0.0.1:PORT`."""
        return f"127.0.0.1:{self.port}"

    def start(self, timeout: float = 60) -> None:
        """Starts it and waits until its port is open.

        Raises:
            RuntimeError: It ended, or did not listen in time; the message has the end of its log.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=self.env, cwd=self.cwd, start_new_session=True
            )
        deadline = time.monotonic() + timeout
        while not _accepts(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                end = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.name} did not start. The end of {self.log}:\n{end}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Asks the process to stop, and ends its whole group when it has not done so in time."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        self._end_group()

    def kill(self) -> None:
        """Ends the process and its group, such as a server's workers, as a crash would (kill -9)."""
        self._end_group()
        self.process.wait()

    def _end_group(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _accepts(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0
