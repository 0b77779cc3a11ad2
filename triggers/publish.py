"""Publishes a run request: `python -m triggers.publish NAME --param k=v`."""

import json
import os
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError
from rich.console import Console

from triggers import job, pubsub, spec
from triggers.errors import ConfigurationError, PermanentError
from triggers.job import Run
from triggers.request import VERSION, Origin, RunRequest, parse
from triggers.settings import read_settings, topic_path

# What stands in a dry run for what only the function knows.
_UNKNOWN = {
    "GOOGLE_CLOUD_PROJECT": "GOOGLE_CLOUD_PROJECT",
    "VERTEX_LOCATION": "VERTEX_LOCATION",
    "PIPELINE_ROOT": "gs://PIPELINE_ROOT",
    "COMPONENT_IMAGE": "COMPONENT_IMAGE",
}


def main(
    name: Annotated[str, typer.Argument(help="The pipeline: the name of a file in compiled/.")],
    param: Annotated[list[str] | None, typer.Option(help="A parameter, k=v; lists and objects as JSON.")] = None,
    machine: Annotated[list[str] | None, typer.Option(help="A GPU profile; several in order of preference.")] = None,
    run_key: Annotated[str | None, typer.Option(help="The same key is the same run, such as daily-{date}.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="A label of the job, k=v.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Take no result of an earlier run.")] = False,
    topic: Annotated[
        str, typer.Option(envvar="PIPELINE_TOPIC", help="projects/P/topics/T, or T with GOOGLE_CLOUD_PROJECT set.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Publish nothing; print the message and the PipelineJob.")
    ] = False,
) -> None:
    """Publish a run request, after the checks that the trigger makes.

    Example: python -m triggers.publish basic --param first=hello --machine l4-1 --run-key "daily-{date}" --topic runs
    """
    try:
        request = _request(name, param or [], machine or [], run_key, label or [], no_cache)
        run = _check(request, topic)
        if dry_run:
            _print_dry_run(request, run, topic)
            return
        if not topic:
            raise ConfigurationError("No topic is named: give --topic, or set PIPELINE_TOPIC.")
        path = topic_path(topic, "--topic")
        message_id = pubsub.publish(path, _message(request))
    except PermanentError as error:
        raise _exit("The request is wrong", str(error)) from error
    except ConfigurationError as error:
        raise _exit("Something is not set up", str(error)) from error
    except (GoogleAPICallError, GoogleAuthError) as error:
        raise _exit("Pub/Sub did not take the message", str(error)) from error
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Published message {message_id} to {path}.", markup=False)
    if run_key is not None:
        console.print(f"It becomes the job {run.job_id}.", markup=False)


def _request(
    name: str, params: list[str], machines: list[str], run_key: str | None, labels: list[str], no_cache: bool
) -> RunRequest:
    parameters = spec.typed(spec.load(name), _pairs("--param", params))
    document: dict[str, Any] = {"version": VERSION, "pipeline": name, "parameters": parameters}
    if machines:
        document["machine"] = machines[0] if len(machines) == 1 else machines
    if run_key is not None:
        document["run_key"] = run_key
    if no_cache:
        document["enable_caching"] = False
    if labels:
        document["labels"] = _pairs("--label", labels)
    # Through the function's own reader, with its limits.
    return parse(json.dumps(document).encode())


def _pairs(option: str, texts: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise PermanentError(f"{option} is not of the form k=v.", f"Write {option} name=value.")
        if name in pairs:
            raise PermanentError(f"{option} {name} is given twice.", "Give it once.")
        pairs[name] = value
    return pairs


def _message(request: RunRequest) -> bytes:
    return json.dumps(request.model_dump(exclude_unset=True), ensure_ascii=False).encode()


def _check(request: RunRequest, topic: str) -> Run:
    """Checks the request as the function will, as if it were published now."""
    source = f"//pubsub.googleapis.com/{topic or 'TOPIC'}"
    published = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return job.check(request, Origin(source, "MESSAGE_ID", published), location=os.environ.get("VERTEX_LOCATION", ""))


def _print_dry_run(request: RunRequest, run: Run, topic: str) -> None:
    environment = _UNKNOWN | {name: value for name, value in os.environ.items() if value}
    unknown = [variable for variable in _UNKNOWN if not os.environ.get(variable)]
    settings = read_settings(environment)
    known = request.run_key is not None
    document = {
        "topic": topic_path(topic, "--topic", environment) if topic else None,
        "message": json.loads(_message(request)),
        "job_id": run.job_id if known else None,
        "pipeline_job": job.document(run, settings),
    }
    print(json.dumps(document, indent=2, ensure_ascii=False))
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    if not known:
        errors.print("Without a run key, the job's id follows from the message's id and publish time.", markup=False)
    if unknown:
        errors.print(f"Not set here, so their names stand in their place: {', '.join(unknown)}.", markup=False)


def _exit(headline: str, sentence: str) -> typer.Exit:
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    errors.print(f"[bold red]{headline}[/]")
    errors.print(sentence, markup=False)
    return typer.Exit(2)


if __name__ == "__main__":
    typer.run(main)
