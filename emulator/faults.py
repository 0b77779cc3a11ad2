"""Makes the service fail as a network and a busy service do, for tests of whatever calls it: `--faults FILE`.

A file, or the body of `POST /faults` from this machine, says which requests fail and how:

    {"seed": 7, "faults": [
        {"answer": 503, "when": "after", "rate": 0.1},
        {"cut": true, "count": 2},
        {"delay_seconds": 3, "method": "get"}]}
"""

import asyncio
import ipaddress
import json
import random
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from components.errors import InputError

ADMIN_PATH = "/faults"
_METHODS = {"POST": "create", "GET": "get", "DELETE": "delete"}
_STATUS = {429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}


class Fault(BaseModel):
    """One way to fail, and which requests fail in it. Exactly one of `answer`, `cut` and `delay_seconds` is given."""

    model_config = ConfigDict(extra="forbid", strict=True)

    answer: Literal[429, 500, 503] | None = Field(default=None, description="The HTTP status that is answered instead.")
    cut: bool = Field(default=False, description="The connection ends without an answer.")
    delay_seconds: float = Field(default=0, ge=0, le=3600, description="How long the request waits.")
    when: Literal["before", "after"] = Field(
        default="before", description="Before the request is carried out, or after it, when its job is kept on disk."
    )
    method: Literal["create", "get", "list", "cancel", "delete", "any"] = "create"
    rate: float = Field(default=1.0, gt=0, le=1, description="The part of the requests that fail.")
    count: int | None = Field(default=None, ge=1, description="How many requests fail in all; null is no limit.")

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if (self.answer is not None) + self.cut + (self.delay_seconds > 0) != 1:
            raise ValueError("give exactly one of answer, cut and delay_seconds")
        return self


class Faults(BaseModel):
    """What fails; the first fault that meets a request is the one that it gets."""

    model_config = ConfigDict(extra="forbid", strict=True)

    seed: int = Field(default=0, description="The same seed and the same order of requests fail in the same way.")
    faults: list[Fault] = Field(max_length=100)


def read_faults(content: str | bytes) -> Faults:
    """Reads faults from JSON.

    Raises:
        InputError: It is not JSON, or a field is unknown or wrong; every such field is named.
    """
    try:
        return Faults.model_validate_json(content)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc'])) or 'the document'}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise InputError(f"The faults are wrong: {'; '.join(problems)}.", _remedy()) from None


def read_faults_file(path: Path) -> Faults:
    """Reads faults from a file.

    Raises:
        InputError: As `read_faults`, or there is no such file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", "Name a file of faults.") from error
    return read_faults(content)


def _remedy() -> str:
    fields = ", ".join(Fault.model_fields)
    return f'Write {{"seed": 0, "faults": [...]}}; the fields of a fault are {fields}.'


class _Dice:
    """Decides which requests fail, and counts them.

    Each fault has a generator of its own, so that one fault does not change what another meets.
    """

    def __init__(self, faults: Faults):
        self.faults = faults
        self.met = [0] * len(faults.faults)
        self._random = [random.Random(f"{faults.seed}/{number}") for number in range(len(faults.faults))]  # noqa: S311

    def throw(self, method: str) -> Fault | None:
        chosen = None
        for number, fault in enumerate(self.faults.faults):
            if fault.method not in (method, "any") or self._random[number].random() >= fault.rate:
                continue
            if chosen is None and (fault.count is None or self.met[number] < fault.count):
                self.met[number] += 1
                chosen = fault
        return chosen


class FaultInjection:
    """ASGI middleware that lets requests to the API fail, and answers the admin calls.

    `GET /faults` shows the faults and how many requests each has met, `POST /faults` replaces them, `DELETE /faults`
    takes them away. All three are for clients on this machine only.

    Args:
        app: The service.
        faults: What fails from the start.
    """

    def __init__(self, app: ASGIApp, faults: Faults):
        self._app, self._dice = app, _Dice(faults)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == ADMIN_PATH:
            await (await self._administer(Request(scope, receive)))(scope, receive, send)
        else:
            method = method_of(scope)
            await self._serve(self._dice.throw(method) if method else None, scope, receive, send)

    async def _serve(self, fault: Fault | None, scope: Scope, receive: Receive, send: Send) -> None:
        if fault is None:
            await self._app(scope, receive, send)
            return
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        if fault.when == "after":
            await self._app(scope, receive, hold)
        if fault.cut:
            await _cut(scope, receive)
        elif fault.answer:
            await _error(fault.answer)(scope, receive, send)
        elif held:
            await asyncio.sleep(fault.delay_seconds)
            for message in held:
                await send(message)
        else:
            # Read first: the request is carried out also when its client has gone meanwhile.
            receive = await _read(receive)
            await asyncio.sleep(fault.delay_seconds)
            await self._app(scope, receive, send)

    async def _administer(self, request: Request) -> Response:
        if not _is_loopback(request.client.host if request.client else ""):
            return _refusal(403, "PERMISSION_DENIED", "Faults are set from the machine that the service runs on.")
        if request.method == "POST":
            try:
                self._dice = _Dice(read_faults(await request.body()))
            except InputError as error:
                return _refusal(400, "INVALID_ARGUMENT", str(error))
        elif request.method == "DELETE":
            self._dice = _Dice(Faults(faults=[]))
        elif request.method != "GET":
            return _refusal(501, "UNIMPLEMENTED", "Faults are shown by GET, set by POST and taken away by DELETE.")
        faults = json.loads(self._dice.faults.model_dump_json(exclude_defaults=True))
        return JSONResponse({"faults": [], **faults, "met": self._dice.met})


def method_of(scope: Scope) -> str:
    """Returns which method of the API a request calls, as `Fault.method` names it; "" for none."""
    path, verb = scope["path"], scope["method"]
    if "/pipelineJobs" not in path:
        return ""
    if verb == "GET" and path.endswith("/pipelineJobs"):
        return "list"
    if verb == "POST" and path.endswith(":cancel"):
        return "cancel"
    return _METHODS.get(verb, "")


async def _read(receive: Receive) -> Receive:
    """Reads a request's body, and returns what gives it again."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    return again


async def _cut(scope: Scope, receive: Receive) -> None:
    transport = scope["state"].get("transport")
    if transport is None:
        raise RuntimeError("This server does not hand its connections out: start it with `python -m emulator`.")
    transport.abort()
    # The server must learn of it first: it would answer 500 for a request that it takes for forgotten.
    while (await receive())["type"] != "http.disconnect":
        pass


def _error(code: int) -> Response:
    return _refusal(code, _STATUS[code], "This answer is injected: see --faults.")


def _refusal(code: int, status: str, message: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message, "status": status}}, code)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Http(H11Protocol):
    """uvicorn's HTTP protocol, which hands each request its connection, so that it can be cut."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to serve a connection."""
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)
