"""Creates a PipelineJob, once: with Google's client, on Vertex AI or on the local service at another address."""

import os
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from google.api_core import exceptions

from triggers import job
from triggers.errors import KeyTakenError, PermanentError
from triggers.job import Run
from triggers.settings import Settings

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import PipelineServiceClient

# What is quoted of the service's answer, at most.
MAX_ANSWER = 500

_lock = threading.Lock()


@dataclass(frozen=True)
class Submitted:
    """A job that exists.

    Attributes:
        name: Its resource name.
        existed: Whether an earlier delivery of the same request had created it.
    """

    name: str
    existed: bool


def submit(run: Run, settings: Settings) -> Submitted:
    """Creates the job of a run, unless it exists.

    The client does not try again: Pub/Sub delivers the message again.

    Args:
        run: A request that was checked.
        settings: Where and as whom it runs.

    Returns:
        The job that was created, or the one that an earlier delivery created.

    Raises:
        PermanentError: The service refuses the job (400 INVALID_ARGUMENT), or another request has the same key.
        ConfigurationError: The components' image is not known.
        google.api_core.exceptions.GoogleAPICallError: Anything else that the service answers.
    """
    # The message is filled in only here: importing these takes a second.
    from google.cloud.aiplatform_v1 import PipelineJob
    from google.protobuf import json_format

    pipeline_job = PipelineJob()
    json_format.ParseDict(job.document(run, settings), PipelineJob.pb(pipeline_job))
    client = make_client(settings)
    try:
        created = client.create_pipeline_job(
            parent=settings.parent,
            pipeline_job=pipeline_job,
            pipeline_job_id=run.job_id,
            retry=None,
            timeout=settings.timeout,
        )
    except exceptions.BadRequest as error:
        if _status(error) == "FAILED_PRECONDITION":
            # The project is not ready, such as while its service agents are made.
            raise
        answer = " ".join(error.message.split())[:MAX_ANSWER].rstrip(".")
        raise PermanentError(
            f"Vertex AI refuses the job: {answer}.", "Correct the request and publish it again."
        ) from error
    except exceptions.Conflict as error:
        if isinstance(error, exceptions.Aborted):
            raise
        return _existing(client, run, settings)
    return Submitted(created.name, existed=False)


def _existing(client: "PipelineServiceClient", run: Run, settings: Settings) -> Submitted:
    name = f"{settings.parent}/pipelineJobs/{run.job_id}"
    existing = client.get_pipeline_job(name=name, retry=None, timeout=settings.timeout)
    if existing.labels.get(job.FINGERPRINT_LABEL) != run.fingerprint:
        raise KeyTakenError(
            f"The key {run.key[:128]!r} belongs to another run: the job {existing.name} asks for something else.",
            "Publish this request with a run_key of its own.",
        )
    return Submitted(existing.name, existed=True)


def _status(error: exceptions.GoogleAPICallError) -> str:
    """Returns the canonical code that the service named: 400 alone has several."""
    try:
        return str(error.response.json()["error"]["status"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return ""


def make_client(settings: Settings) -> "PipelineServiceClient":
    """Returns Google's client for the service, the same one each time."""
    # By process: connections and credentials of the server's parent are not for its workers.
    with _lock:
        return _make_client(settings.endpoint, bool(settings.emulator), os.getpid())


@lru_cache(maxsize=4)
def _make_client(endpoint: str, is_emulator: bool, process: int) -> "PipelineServiceClient":
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.aiplatform_v1 import PipelineServiceClient

    return PipelineServiceClient(
        transport="rest",
        credentials=AnonymousCredentials() if is_emulator else None,
        client_options={"api_endpoint": endpoint},
    )
