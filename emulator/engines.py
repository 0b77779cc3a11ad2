"""What runs containers on this machine: docker, podman or buildah, whichever works."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ENGINES = ("docker", "podman", "buildah")
# In a job's folder: a file for each container that runs, with its engine.
CONTAINERS = "containers"
# An engine whose service does not answer would hold up the creation of a job.
_ANSWER_SECONDS = 30
# With chroot isolation buildah leaves a container on this machine's network, whatever it is asked for.
_WITHOUT_NETWORK = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine that a container sees.

    Attributes:
        path: Where it is here.
        writable: Whether the container may write to it.
        target: Where the container sees it; "" for the same path.
    """

    path: Path
    writable: bool = False
    target: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.target or self.path}:{'rw' if self.writable else 'ro'}"


@dataclass(frozen=True)
class Engine:
    """A program that runs containers.

    Attributes:
        name: One of `ENGINES`.
    """

    name: str

    @cached_property
    def works(self) -> bool:
        """Whether it is installed, and its service answers."""
        return shutil.which(self.name) is not None and _ask([self.name, "info"]) is not None

    def inspect(self, image: str) -> dict[str, Any] | None:
        """Returns what is known of an image on this machine; None when it is not here.

        Args:
            image: Its name, with a tag or digest.

        Returns:
            `id`, and from the image's configuration `Entrypoint`, `Cmd`, `Labels`, `User` where it has them.
        """
        how = ["inspect", "--type", "image"] if self.name == "buildah" else ["image", "inspect"]
        answer = _ask([self.name, *how, image])
        if answer is None:
            return None
        document = json.loads(answer)
        if self.name == "buildah":
            return {"id": document["FromImageID"], **document["OCIv1"].get("config", {})}
        return {"id": document[0]["Id"], **(document[0].get("Config") or {})}

    def build_command(self, tag: str, context: Path, arguments: Sequence[str] = ()) -> list[str]:
        """Returns the command line that builds an image.

        Args:
            tag: The image's name and tag.
            context: The folder that it is built from.
            arguments: Further options, which all three engines understand: `--file`, `--target`, `--build-arg` ...
        """
        # buildah keeps no layer for the next build unless it is asked to.
        how = ["buildah", "build", "--layers"] if self.name == "buildah" else [self.name, "build"]
        return [*how, *arguments, "--tag", tag, str(context)]

    def start_command(
        self,
        container: str,
        image: str,
        command: Sequence[str],
        mounts: Sequence[Mount],
        env: Mapping[str, str],
        network: str = "none",
        as_own_user: bool = False,
    ) -> list[str]:
        """Returns the command line that runs a program in a new container.

        Args:
            container: The container's name; with buildah, what `prepare` returned.
            image: The image, which is here.
            command: The program and its arguments; the image's own entry point is not used.
            mounts: What the container sees of this machine.
            env: Environment variables on top of the image's.
            network: `none`, or another network that the engine knows, such as `host`.
            as_own_user: Whether it runs as the image's user, and not as that of this process.
        """
        volumes = [f"--volume={mount}" for mount in mounts]
        variables = [f"--env={name}={value}" for name, value in env.items()]
        user = [] if as_own_user else [f"--user={os.getuid()}:{os.getgid()}"]
        settings = [*volumes, *variables, f"--network={network}"]
        if self.name == "buildah":
            cut_off = _needs_cutting_off() and network == "none"
            return [
                *(_WITHOUT_NETWORK if cut_off else []),
                "buildah",
                "run",
                *settings,
                *user,
                container,
                "--",
                *command,
            ]
        if self.name == "podman" and os.getuid() and not as_own_user:
            user = ["--userns=keep-id"]
        start = [self.name, "run", "--rm", "--init", "--pull=never", f"--name={container}", *settings, *user]
        return [*start, f"--entrypoint={command[0]}", image, *command[1:]]

    def prepare(self, container: str, image: str) -> str:
        """Returns the name of a container that `start_command` can run; only buildah makes it beforehand.

        Raises:
            RuntimeError: buildah cannot make it.
        """
        if self.name != "buildah":
            return container
        made = subprocess.run(
            ["buildah", "from", "--pull-never", f"--name={container}", image], capture_output=True, text=True
        )
        if made.returncode:
            raise RuntimeError(f"buildah cannot start {image}: {made.stderr.strip()}")
        return made.stdout.strip()

    def remove(self, container: str) -> None:
        """Ends a container, if it is still there, and removes it."""
        how = ["rm"] if self.name == "buildah" else ["rm", "--force"]
        subprocess.run([self.name, *how, container], capture_output=True, check=False)


def engines() -> list[Engine]:
    """Returns the engines that work here, best first; `CONTAINER_ENGINE` names the only one that may be used."""
    chosen = os.environ.get("CONTAINER_ENGINE")
    return [engine for name in ([chosen] if chosen else ENGINES) if (engine := Engine(name)).works]


def find_image(image: str) -> tuple[Engine, dict[str, Any]] | None:
    """Returns the engine that has an image, and what `Engine.inspect` says of it; None when none has it."""
    for engine in engines():
        if found := engine.inspect(image):
            return engine, found
    return None


def remove_containers(folder: Path) -> None:
    """Ends and removes the containers that are noted in a job's folder: their processes may belong to another user."""
    for note in (folder / CONTAINERS).glob("*"):
        Engine(note.read_text()).remove(note.name)
        note.unlink(missing_ok=True)


def _needs_cutting_off() -> bool:
    return os.environ.get("BUILDAH_ISOLATION") == "chroot" and os.getuid() == 0


def _ask(command: list[str]) -> str | None:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None
