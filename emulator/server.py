"""The REST routes of the local Vertex AI Pipelines service, v1 and v1beta1."""

import contextlib
import json
import logging
import re
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from emulator.checks import check_job, check_job_id
from emulator.errors import ApiError, invalid
from emulator.filters import page, parse_filter, parse_order
from emulator.jobs import Job, JobStore
from emulator.records import now
from emulator.views import to_vertex

MAX_OPERATIONS = 1000


def create_app(store: JobStore) -> Starlette:
    """Makes the service.

    Args:
        store: The jobs; started and stopped with the service.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await run_in_threadpool(store.start)
        yield
        await run_in_threadpool(store.stop)

    service = Service(store)
    location = "/projects/{project}/locations/{location}"
    routes = [
        Route(f"{location}/pipelineJobs", service.create, methods=["POST"]),
        Route(f"{location}/pipelineJobs", service.list, methods=["GET"]),
        Route(f"{location}/pipelineJobs/{{job}}", service.get, methods=["GET"]),
        Route(f"{location}/pipelineJobs/{{job}}", service.delete, methods=["DELETE"]),
        Route(f"{location}/pipelineJobs/{{job}}", service.cancel, methods=["POST"]),
        Route(f"{location}/operations/{{operation}}", service.operation, methods=["GET"]),
    ]
    return Starlette(
        routes=[
            Route("/healthz", lambda request: JSONResponse({"status": "ok"})),
            Mount("/v1", routes=routes),
            Mount("/v1beta1", routes=routes),
        ],
        lifespan=lifespan,
        exception_handlers={ApiError: _api_error, HTTPException: _http_error, Exception: _internal_error},
    )


class Service:
    """The handlers of the routes.

    Args:
        store: The jobs.
    """

    def __init__(self, store: JobStore):
        self._store = store
        self._operations: dict[str, dict[str, Any]] = {}

    async def create(self, request: Request) -> Response:
        """CreatePipelineJob."""
        try:
            body = json.loads(await request.body(), parse_constant=_refuse_constant)
        except ValueError as error:
            raise invalid(f"The request's body is not JSON: {error}") from error

        def work() -> Job:
            job_id = request.query_params.get("pipelineJobId") or _new_id(body)
            check_job_id(job_id)
            document = check_job(body)
            return self._store.create(job_id, f"{_parent(request)}/pipelineJobs/{job_id}", document)

        return await self._answer(request, work)

    async def get(self, request: Request) -> Response:
        """GetPipelineJob."""
        return await self._answer(request, lambda: self._find(request, request.path_params["job"]))

    async def list(self, request: Request) -> Response:
        """ListPipelineJobs."""
        query = request.query_params

        def work() -> dict[str, Any]:
            matches, order = parse_filter(query.get("filter", "")), parse_order(query.get("orderBy", ""))
            location = request.path_params["location"]
            jobs = [job for job in self._store.jobs() if _location(job) == location and matches(job)]
            jobs, token = page(order(jobs), query.get("pageSize", ""), query.get("pageToken", ""))
            parent, int_enums = _parent(request), _int_enums(request)
            answer: dict[str, Any] = {"pipelineJobs": [to_vertex(job, parent, int_enums) for job in jobs]}
            return {**answer, "nextPageToken": token} if token else answer

        return JSONResponse(await run_in_threadpool(work))

    async def cancel(self, request: Request) -> Response:
        """CancelPipelineJob."""
        job_id, _, verb = request.path_params["job"].partition(":")
        if verb != "cancel":
            raise HTTPException(404)

        def work() -> None:
            self._find(request, job_id)
            self._store.cancel(job_id)

        await run_in_threadpool(work)
        return JSONResponse({})

    async def delete(self, request: Request) -> Response:
        """DeletePipelineJob: a long-running operation, done by the time it is answered."""
        job_id = request.path_params["job"]

        def work() -> None:
            self._find(request, job_id)
            self._store.delete(job_id)

        await run_in_threadpool(work)
        number, moment = str(uuid.uuid4().int >> 66), now()
        operation = {
            "name": f"{_parent(request)}/operations/{number}",
            "done": True,
            "metadata": {
                "@type": "type.googleapis.com/google.cloud.aiplatform.v1.DeleteOperationMetadata",
                "genericMetadata": {"createTime": moment, "updateTime": moment},
            },
            "response": {"@type": "type.googleapis.com/google.protobuf.Empty"},
        }
        while len(self._operations) >= MAX_OPERATIONS:
            del self._operations[next(iter(self._operations))]
        self._operations[number] = operation
        return JSONResponse(operation)

    async def operation(self, request: Request) -> Response:
        """GetOperation, for the operations of this process."""
        number = request.path_params["operation"]
        if number not in self._operations:
            raise ApiError("NOT_FOUND", f"The operation {number} does not exist.")
        return JSONResponse(self._operations[number])

    async def _answer(self, request: Request, work: Callable[[], Job]) -> Response:
        job = await run_in_threadpool(work)
        return JSONResponse(to_vertex(job, _parent(request), _int_enums(request)))

    def _find(self, request: Request, job_id: str) -> Job:
        job = self._store.get(job_id)
        if _location(job) != request.path_params["location"]:
            raise ApiError(
                "NOT_FOUND", f"The PipelineJob {job_id} does not exist in {request.path_params['location']}."
            )
        return job


def _parent(request: Request) -> str:
    return f"projects/{request.path_params['project']}/locations/{request.path_params['location']}"


def _location(job: Job) -> str:
    return job.record.name.split("/")[3]


def _int_enums(request: Request) -> bool:
    return "enum-encoding=int" in request.query_params.get("$alt", "")


def _refuse_constant(name: str) -> None:
    # Python reads and writes NaN and Infinity, which are no JSON, and no client could read the job.
    raise ValueError(f"{name} is not a JSON value")


def _new_id(body: Any) -> str:
    """Makes an id as PipelineJob does, with something that keeps two jobs of one second apart."""
    info = body.get("pipelineSpec", {}).get("pipelineInfo", {}) if isinstance(body, dict) else {}
    name = re.sub(r"[^a-z0-9]+", "-", str(info.get("name", "")).lower()).strip("-")[:80]
    name = name if name[:1].isalpha() else f"pipeline-{name}".strip("-")
    return f"{name}-{datetime.now(UTC):%Y%m%d%H%M%S}-{uuid.uuid4().hex[:8]}"


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    logging.info("%s %s: %s %s", request.method, request.url.path, error.status, error.message)
    return JSONResponse(error.to_json(), error.code)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path} is no method of this service, which has only PipelineJobs."
    status = "NOT_FOUND" if error.status_code == 404 else "UNIMPLEMENTED"
    return JSONResponse({"error": {"code": error.status_code, "message": message, "status": status}}, error.status_code)


async def _internal_error(request: Request, error: Exception) -> Response:
    return JSONResponse(ApiError("INTERNAL", f"{type(error).__name__}: {error}").to_json(), 500)
