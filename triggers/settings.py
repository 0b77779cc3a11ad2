"""What the trigger is told by environment variables, read when it is needed and never at import."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from triggers.errors import ConfigurationError


@dataclass(frozen=True)
class Settings:
    """Where and as whom a job runs.

    Attributes:
        project: `GOOGLE_CLOUD_PROJECT`.
        location: `VERTEX_LOCATION`, such as `europe-west4`.
        pipeline_root: `PIPELINE_ROOT`, the `gs://` folder for artifacts.
        service_account: `PIPELINE_SERVICE_ACCOUNT`; "" is Vertex AI's own choice, the Compute Engine default account.
        image: `COMPONENT_IMAGE`, which replaces the components' constant image; "" leaves it.
        training_images: `TRAINING_IMAGES`, the images that a run may train in, with spaces or commas between them; an
            entry that ends in `*` allows what begins like it.
        emulator: `AIPLATFORM_EMULATOR_HOST`, host and port of a local service; "" is Google's.
        timeout: `VERTEX_TIMEOUT_SECONDS`, how long an answer is waited for. The default is well within Pub/Sub's
            longest acknowledgement deadline, also when the job must be looked up after it was created.
    """

    project: str
    location: str
    pipeline_root: str
    service_account: str = ""
    image: str = ""
    emulator: str = ""
    timeout: float = 30.0
    training_images: tuple[str, ...] = ()

    @property
    def parent(self) -> str:
        """The resource that jobs are created in."""
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def endpoint(self) -> str:
        """The address of the service."""
        if self.emulator:
            return f"http://{self.emulator}"
        return f"https://{self.location}-aiplatform.googleapis.com"


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings.

    Args:
        environment: Variables by name; the process's own when None.

    Returns:
        The settings, complete.

    Raises:
        ConfigurationError: A variable is missing or cannot be right.
    """
    environment = os.environ if environment is None else environment
    root = _required(environment, "PIPELINE_ROOT", "the gs:// folder for artifacts")
    if not re.match(r"gs://[^/]", root):
        raise ConfigurationError(f"PIPELINE_ROOT is {root!r}: set it to a gs:// folder.")
    emulator = environment.get("AIPLATFORM_EMULATOR_HOST", "")
    if emulator and not re.fullmatch(r"[^/\s]+:\d+", emulator):
        raise ConfigurationError(f"AIPLATFORM_EMULATOR_HOST is {emulator!r}: set it to host:port, or to nothing.")
    timeout = environment.get("VERTEX_TIMEOUT_SECONDS") or "30"
    if not re.fullmatch(r"[1-9][0-9]{0,2}", timeout):
        raise ConfigurationError(f"VERTEX_TIMEOUT_SECONDS is {timeout!r}: set it to whole seconds, 1 to 999.")
    return Settings(
        project=_required(environment, "GOOGLE_CLOUD_PROJECT", "the id of your project"),
        location=_required(environment, "VERTEX_LOCATION", "the region that jobs run in"),
        pipeline_root=root.rstrip("/"),
        service_account=environment.get("PIPELINE_SERVICE_ACCOUNT", ""),
        image=environment.get("COMPONENT_IMAGE", ""),
        emulator=emulator,
        timeout=float(timeout),
        training_images=tuple(environment.get("TRAINING_IMAGES", "").replace(",", " ").split()),
    )


def topic_path(topic: str, variable: str, environment: Mapping[str, str] | None = None) -> str:
    """Returns a topic's full name.

    Args:
        topic: `projects/P/topics/T`, or `T` for a topic of the project in `GOOGLE_CLOUD_PROJECT`.
        variable: What the topic was named with, for the error.
        environment: Variables by name; the process's own when None.

    Raises:
        ConfigurationError: It is neither, or the project is not known.
    """
    environment = os.environ if environment is None else environment
    if re.fullmatch(r"projects/[^/\s]+/topics/[^/\s]+", topic):
        return topic
    if not re.fullmatch(r"[^/\s]+", topic):
        raise ConfigurationError(f"{variable} is {topic!r}: set it to projects/PROJECT/topics/TOPIC.")
    project = _required(environment, "GOOGLE_CLOUD_PROJECT", f"the project of the topic {topic}")
    return f"projects/{project}/topics/{topic}"


def _required(environment: Mapping[str, str], name: str, meaning: str) -> str:
    if not environment.get(name):
        raise ConfigurationError(f"{name} is not set: set it to {meaning}.")
    return environment[name]
