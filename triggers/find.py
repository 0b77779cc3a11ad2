"""Finds the run that a message became: `python -m triggers.find --run-key K` or `--message-id ID`."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError
from requests import RequestException
from rich.console import Console

from triggers import jobs, request, spec
from triggers.errors import ConfigurationError, PermanentError
from triggers.settings import Settings, read_settings


def find(settings: Settings, run_key: str = "", message_id: str = "", pipeline: str = "") -> list[dict[str, Any]]:
    """Finds the runs of a key or of a message.

    Args:
        settings: Where runs are made.
        run_key: The key, as the log has it in `runKey`: a run key, or what identifies the message or the object. It is
            also looked for with its placeholders filled as in a message of this moment.
        message_id: The message's id: of several messages that are the same run, the first.
        pipeline: The pipeline; "" for any that this trigger serves.

    Returns:
        The runs, as `jobs.describe` gives them.

    Raises:
        PermanentError: There is no such pipeline, or the message's id cannot be one.
        google.api_core.exceptions.GoogleAPICallError: Vertex AI does not answer.
    """
    names = spec.pipeline_names(spec.compiled_folder())
    if pipeline and pipeline not in names:
        raise PermanentError(f"There is no pipeline {pipeline!r}.", spec.suggestion(pipeline, names))
    if run_key:
        keys = dict.fromkeys([run_key, request.fill_run_key(run_key, datetime.now(UTC))])
        # The job's id follows from the key, so nothing is searched.
        ids = [request.job_id(name, key) for key in keys for name in ([pipeline] if pipeline else names)]
        return [job for job_id in ids if (job := jobs.find_job(job_id, settings))]
    if not (message_id.isascii() and message_id.isalnum()):
        raise PermanentError(f"{message_id[:64]!r} is no message's id.", "It is a number.")
    labels = {"message-id": message_id} | ({"pipeline": pipeline} if pipeline else {})
    return jobs.list_jobs(settings, labels).jobs


def command(
    run_key: Annotated[str, typer.Option(help="The key that the message gives, or the log's runKey.")] = "",
    message_id: Annotated[str, typer.Option(help="The message's id.")] = "",
    pipeline: Annotated[str, typer.Option(help="The pipeline, when the key is used for several.")] = "",
) -> None:
    """Print the job that a message became, its state and its console link. Exits with 1 when there is none.

    Example: python -m triggers.find --run-key "daily-{date}"
    """
    console = Console(highlight=False, soft_wrap=True)
    try:
        if bool(run_key) == bool(message_id):
            raise PermanentError("It is not said what to find.", "Give either --run-key or --message-id.")
        found = find(read_settings(), run_key, message_id, pipeline)
    except (PermanentError, ConfigurationError) as error:
        raise _exit("Nothing can be looked for", str(error)) from error
    except (GoogleAPICallError, GoogleAuthError, RequestException) as error:
        raise _exit("Vertex AI does not answer", str(error)) from error
    if not found:
        raise _exit("There is no such run", "The message has not arrived, or was set aside: see the function's log.", 1)
    for job in found:
        console.print(f"job:      {job['job']}\nstate:    {job['state']}", markup=False)
        console.print(f"pipeline: {job['pipeline']}\ncreated:  {job['created']}", markup=False)
        if "message-id" in job["labels"]:
            console.print(f"message:  {job['labels']['message-id']}", markup=False)
        if job["error"]:
            console.print(f"error:    {job['error']}", markup=False)
        console.print(f"console:  {job['console']}", markup=False)


def _exit(headline: str, sentence: str, code: int = 2) -> typer.Exit:
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    errors.print(f"[bold red]{headline}[/]")
    errors.print(sentence, markup=False)
    return typer.Exit(code)


if __name__ == "__main__":
    typer.run(command)
