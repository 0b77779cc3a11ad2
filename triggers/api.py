"""The HTTP interface: submit, show, list and cancel runs, with JSON. See `triggers.openapi` for its description."""

import ipaddress
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import flask
import requests
from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError

from triggers import jobs, request
from triggers.envelope import refusal
from triggers.errors import ConfigurationError, KeyTakenError, PermanentError
from triggers.events import run
from triggers.log import log, trace_fields, trace_id
from triggers.request import Origin
from triggers.settings import Settings, read_settings

SOURCE = "https"
RETRY_SECONDS = "10"
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")


def answer(http: flask.Request) -> flask.Response:
    """Answers one request.

    Args:
        http: The request.

    Returns:
        JSON: what was asked for, or `{"error": {"code", "headline", "remedy"}}`.
    """
    about: dict[str, Any] = trace_fields()
    try:
        refused = _check_caller(http)
        return refused or _route(http, about)
    except PermanentError as error:
        code = 409 if isinstance(error, KeyTakenError) else 400
        log("WARNING", f"The request is refused: {error}", about | {"reason": error.headline, "remedy": error.remedy})
        return refusal(code, error.headline, error.remedy)
    except (ConfigurationError, exceptions.Unauthorized, exceptions.Forbidden) as error:
        log("ERROR", f"The function is not set up: {error}", about)
        return refusal(500, "The function is not set up.", "Its log says what is missing.")
    except (exceptions.GoogleAPICallError, GoogleAuthError, requests.RequestException, OSError) as error:
        log("WARNING", f"Vertex AI did not answer: {type(error).__name__}: {error}", about)
        return refusal(
            503,
            "Vertex AI cannot be reached now.",
            "Send the same request again: the same run_key is the same run.",
            {"Retry-After": RETRY_SECONDS},
        )


def _check_caller(http: flask.Request) -> flask.Response | None:
    """Lets only this machine in where no IAM stands before the function, and no page in a browser."""
    # Cloud Run sets it, and lets nobody in whom IAM does not know.
    if not os.environ.get("K_SERVICE"):
        host = http.host.rsplit(":", 1)[0].strip("[]")
        if not (_is_loopback(http.remote_addr or "") and (host == "localhost" or _is_loopback(host))):
            return refusal(403, "This function is for its own machine only.", "Deploy it to Cloud Run, behind IAM.")
    if http.method == "POST" and http.mimetype != "application/json":
        return refusal(415, "The request is not JSON.", "Send it with Content-Type: application/json.")
    return None


def _route(http: flask.Request, about: dict[str, Any]) -> flask.Response:
    routes: list[tuple[str, str, Callable[..., flask.Response]]] = [
        ("GET", r"/openapi\.json", _describe),
        ("POST", r"/runs", _submit),
        ("GET", r"/runs", _list),
        ("GET", r"/runs/([^/:]+)", _show),
        ("POST", r"/runs/([^/:]+):cancel", _cancel),
    ]
    known = False
    for method, path, handler in routes:
        match = re.fullmatch(path, http.path)
        known = known or match is not None
        if match and method == http.method:
            return handler(http, about, *match.groups())
    if known:
        return refusal(405, "There is no such method here.", "GET /openapi.json describes what there is.")
    return refusal(404, "There is nothing at this address.", "GET /openapi.json describes what there is.")


def _submit(http: flask.Request, about: dict[str, Any]) -> flask.Response:
    run_request = request.parse(http.get_data())
    if run_request.run_key is None:
        raise PermanentError(
            "The request has no run_key.",
            "Give one: over HTTP, nothing else tells a request that is repeated from a new one.",
        )
    origin = Origin(SOURCE, "", datetime.now(UTC).isoformat(), trace=trace_id())
    submitted = run(run_request, origin, about)
    body = {
        "job": submitted.name,
        "id": about["jobId"],
        "run_key": about["runKey"],
        "existed": submitted.existed,
        "console": jobs.console_link(submitted.name, read_settings()),
    }
    return _json(body, 200 if submitted.existed else 201)


def _list(http: flask.Request, about: dict[str, Any]) -> flask.Response:
    unknown = sorted(set(http.args) - {"pipeline", "run_key", "page_size", "page_token"})
    if unknown:
        raise PermanentError(
            f"There is no parameter {unknown[0][:64]!r}.", "There are: pipeline, run_key, page_size, page_token."
        )
    labels = {}
    for name, label in (("pipeline", "pipeline"), ("run_key", "run-key")):
        if name in http.args:
            if not _LABEL.fullmatch(http.args[name]):
                raise PermanentError(f"{name} cannot be searched for.", "Give lowercase letters, digits, _ and -.")
            labels[label] = http.args[name]
    size = http.args.get("page_size", str(jobs.MAX_PAGE))
    if not re.fullmatch(r"[1-9][0-9]{0,2}", size) or int(size) > jobs.MAX_PAGE:
        raise PermanentError("page_size is no number that is possible.", f"Give 1 to {jobs.MAX_PAGE}.")
    try:
        page = jobs.list_jobs(read_settings(), labels, int(size), http.args.get("page_token", ""))
    except exceptions.BadRequest:
        raise PermanentError("page_token is not one of this list.", "List again from the first page.") from None
    return _json({"runs": page.jobs, "next_page_token": page.next_token})


def _show(http: flask.Request, about: dict[str, Any], job_id: str) -> flask.Response:
    found = jobs.find_job(job_id, read_settings())
    return _json(found) if found else _missing()


def _cancel(http: flask.Request, about: dict[str, Any], job_id: str) -> flask.Response:
    settings: Settings = read_settings()
    found = jobs.find_job(job_id, settings)
    if not found:
        return _missing()
    try:
        jobs.cancel_job(job_id, settings)
    except exceptions.BadRequest:
        return refusal(409, f"The run is {found['state']}.", "It cannot be cancelled any more.")
    log("INFO", f"The job {found['job']} is to be cancelled.", about | {"jobId": job_id, "pipeline": found["pipeline"]})
    return _json(jobs.find_job(job_id, settings) or found)


def _describe(http: flask.Request, about: dict[str, Any]) -> flask.Response:
    from triggers.openapi import description

    return _json(description())


def _missing() -> flask.Response:
    return refusal(404, "This trigger has made no such run.", "GET /runs lists the runs that it has made.")


def _json(document: Any, status: int = 200) -> flask.Response:
    response = flask.jsonify(document)
    response.status_code = status
    return response


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
