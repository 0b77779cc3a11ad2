"""The jobs that this trigger has made: found, listed and cancelled, with Google's client."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions

from triggers.job import FINGERPRINT_LABEL
from triggers.settings import Settings
from triggers.submit import make_client

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import PipelineJob

MAX_PAGE = 100
_CONSOLE = "https://console.cloud.google.com/vertex-ai/pipelines/locations/{location}/runs/{job}?project={project}"


@dataclass(frozen=True)
class Page:
    """One page of a list.

    Attributes:
        jobs: The jobs, the newest first.
        next_token: The token of the next page; "" after the last.
    """

    jobs: list[dict[str, Any]]
    next_token: str


def find_job(job_id: str, settings: Settings) -> dict[str, Any] | None:
    """Returns a job of this trigger by its id; None when there is none.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: The service does not answer.
    """
    if not re.fullmatch(r"[a-z][-a-z0-9]{0,126}", job_id):
        return None
    name = f"{settings.parent}/pipelineJobs/{job_id}"
    try:
        found = make_client(settings).get_pipeline_job(name=name, retry=None, timeout=settings.timeout)
    except exceptions.NotFound:
        return None
    # Whoever may ask this trigger need not see what else the project runs.
    return describe(found, settings) if FINGERPRINT_LABEL in found.labels else None


def list_jobs(settings: Settings, labels: dict[str, str], page_size: int = MAX_PAGE, token: str = "") -> Page:
    """Lists jobs of this trigger, the newest first.

    Args:
        settings: Where they are.
        labels: Labels that they have, such as `{"pipeline": "basic"}`.
        page_size: How many at most.
        token: The token that the page before gave.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: The service does not answer, or refuses the token.
    """
    terms = [f"labels.{FINGERPRINT_LABEL}:*", *(f'labels.{name}="{value}"' for name, value in labels.items())]
    request = {
        "parent": settings.parent,
        "filter": " AND ".join(terms),
        "order_by": "create_time desc",
        "page_size": page_size,
        "page_token": token,
    }
    pager = make_client(settings).list_pipeline_jobs(request=request, retry=None, timeout=settings.timeout)
    page = next(iter(pager.pages))
    return Page([describe(found, settings) for found in page.pipeline_jobs], page.next_page_token)


def cancel_job(job_id: str, settings: Settings) -> None:
    """Cancels a job; nothing happens to one that has ended.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: The service does not answer.
    """
    name = f"{settings.parent}/pipelineJobs/{job_id}"
    make_client(settings).cancel_pipeline_job(name=name, retry=None, timeout=settings.timeout)


def describe(found: "PipelineJob", settings: Settings) -> dict[str, Any]:
    """Returns what this trigger says of a job, as JSON."""
    labels = dict(found.labels)
    job_id = found.name.rsplit("/", 1)[-1]
    return {
        "job": found.name,
        "id": job_id,
        "pipeline": labels.get("pipeline", ""),
        "state": found.state.name.removeprefix("PIPELINE_STATE_"),
        "title": found.display_name,
        "labels": labels,
        "created": found.create_time.isoformat() if found.create_time else "",
        "ended": found.end_time.isoformat() if found.end_time else "",
        "error": found.error.message,
        "console": console_link(found.name, settings),
    }


def console_link(name: str, settings: Settings) -> str:
    """Returns where a person looks at a job: Google's console, or the local service's answer.

    Args:
        name: The job's resource name.
        settings: Where it runs.
    """
    if settings.emulator:
        return f"{settings.endpoint}/v1/{name}"
    _, project, _, location, _, job = name.split("/")
    # The resource name has the project's number, which the console does not take in every place.
    return _CONSOLE.format(location=location, job=job, project=settings.project or project)
