"""Submits a run by hand: the request that a message would carry, through the trigger's own code."""

import tempfile
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.errors import InputError
from pipelines.compile import compile_pipeline, to_json
from pipelines.machines import machines_json
from triggers import job, request, spec
from triggers.errors import ConfigurationError
from triggers.settings import Settings, read_settings

_SOURCE = "//pipelines.run"


def make_run(
    name: str,
    texts: Mapping[str, str],
    *,
    settings: Settings,
    machines: Sequence[str] = (),
    run_key: str = "",
    labels: Mapping[str, str] | None = None,
    enable_caching: bool = True,
) -> job.Run:
    """Compiles a pipeline and checks a request for it, as the trigger checks a message.

    Args:
        name: One of `pipelines.compile.PIPELINES`.
        texts: Parameters as texts, typed from the compiled spec.
        settings: Where it is to run.
        machines: GPU profiles in order of preference; none leaves every step as it is compiled.
        run_key: The same key is the same run; "" makes each call a run of its own.
        labels: Labels of the job.
        enable_caching: False runs every step anew.

    Returns:
        The run, which is not submitted yet.

    Raises:
        PermanentError: The request is wrong.
    """
    compiled = compile_pipeline(name)
    document: dict[str, Any] = {
        "version": request.VERSION,
        "pipeline": name,
        "parameters": spec.typed(compiled, texts),
        "labels": dict(labels or {}),
    }
    if machines:
        document["machine"] = list(machines)
    if run_key:
        document["run_key"] = run_key
    if not enable_caching:
        document["enable_caching"] = False
    origin = request.Origin(_SOURCE, uuid.uuid4().hex, datetime.now(UTC).isoformat())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / f"{name}.json").write_text(to_json(compiled))
        (folder / spec.MACHINES).write_text(to_json(machines_json()))
        return job.check(request.from_document(document), origin, folder, settings.location)


def submit(name: str, texts: Mapping[str, str], **options: Any) -> tuple[str, job.Run, bool]:
    """Submits a run to Vertex AI, or to the local service where `AIPLATFORM_EMULATOR_HOST` says so.

    Args:
        name: One of `pipelines.compile.PIPELINES`.
        texts: Parameters as texts.
        **options: As for `make_run`.

    Returns:
        The job's resource name, the run, and whether the job existed already.

    Raises:
        PermanentError: The request is wrong, or the service refuses it.
        InputError: Something is not configured, or the service cannot be reached.
    """
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import ConnectionError as NoConnection

    from triggers.submit import submit as submit_run

    try:
        settings = read_settings()
        run = make_run(name, texts, settings=settings, **options)
        submitted = submit_run(run, settings)
    except ConfigurationError as error:
        raise InputError("Something is not set up.", str(error)) from error
    except (GoogleAPICallError, GoogleAuthError, NoConnection) as error:
        said = " ".join(str(error).split())[:300]
        raise InputError("The service did not take the job.", f"Mend this, and run again: {said}") from error
    return submitted.name, run, submitted.existed


def console_address(name: str) -> str:
    """Returns where a person sees a job in Google's console.

    Args:
        name: `projects/P/locations/L/pipelineJobs/ID`.
    """
    _, project, _, location, _, job_id = name.split("/")
    return f"https://console.cloud.google.com/vertex-ai/pipelines/locations/{location}/runs/{job_id}?project={project}"
