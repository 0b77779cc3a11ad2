"""Serves the local Vertex AI Pipelines service: `python -m emulator --port 8085`."""

import logging
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from rich.console import Console

from components.errors import InputError
from emulator.faults import FaultInjection, Faults, Http, read_faults_file
from emulator.jobs import JobStore
from emulator.local_only import LocalOnly, is_loopback
from emulator.server import create_app


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            print(f"Vertex AI Pipelines on http://{host}:{port}", flush=True)


def main(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 lets the system choose one.")],
    host: Annotated[str, typer.Option(help="The address; loopback unless --allow-remote is given.")] = "127.0.0.1",
    folder: Annotated[Path, typer.Option(help="Where jobs are kept.")] = Path("out/emulator"),
    max_running: Annotated[int, typer.Option(min=0, help="How many jobs run at once; 0 runs none, they all wait.")] = 2,
    faults: Annotated[Path | None, typer.Option(help="A JSON file of faults: see emulator/faults.py.")] = None,
    allow_remote: Annotated[bool, typer.Option(help="Bind an address that other machines reach.")] = False,
) -> None:
    """Serves PipelineJobs as Vertex AI does, and runs them on this machine. Whoever reaches the port runs code here."""
    if not allow_remote and not is_loopback(host):
        raise typer.BadParameter(f"{host} is reached from other machines, who could run code here: add --allow-remote.")
    try:
        injected = read_faults_file(faults) if faults else Faults(faults=[])
    except InputError as error:
        errors = Console(stderr=True, highlight=False, soft_wrap=True)
        errors.print("[bold red]The faults cannot be used[/]")
        errors.print(str(error), markup=False)
        raise typer.Exit(2) from error
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # uvicorn hands the signal that stopped it on, after everything is closed: it is then a success.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        store = JobStore(folder, max_running)
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, RuntimeError) as error:
        raise SystemExit(f"The emulator cannot start on {host}:{port}: {error}") from error
    # A client that keeps its connection open must not hold the stop up.
    app = LocalOnly(FaultInjection(create_app(store), injected), allow_remote)
    config = uvicorn.Config(app, http=Http, log_level="warning", timeout_graceful_shutdown=2)
    _Server(config).run(sockets=[listener])


if __name__ == "__main__":
    typer.run(main)
