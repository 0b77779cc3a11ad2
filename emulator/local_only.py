"""Keeps web pages away from a service that runs whatever it is sent: a browser reaches loopback for any page."""

import ipaddress

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from emulator.errors import ApiError


class LocalOnly:
    """Refuses what a browser sends for a page of another origin, and what comes by a name that is not loopback.

    A page elsewhere can post to 127.0.0.1, and then its request names its origin, which no API client does. A page
    whose own name was made to point here is of the same origin, but the name is in the Host.

    Args:
        app: The service.
        allow_remote: Whether other machines may reach the service, by any name.
    """

    def __init__(self, app: ASGIApp, allow_remote: bool = False):
        self._app, self._allow_remote = app, allow_remote

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 403 with an error in Google's form, or hands the request on."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if "origin" in headers:
                return await _refuse("A request from a web page is not served.")(scope, receive, send)
            if not self._allow_remote and not is_loopback(_host(headers.get("host", ""))):
                said = f"The host {headers.get('host')!r} is not this machine's: use 127.0.0.1, or --allow-remote."
                return await _refuse(said)(scope, receive, send)
        return await self._app(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Tells whether a host's name or address is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host(header: str) -> str:
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() and not header.endswith("]") else header
    return name.strip("[]").lower()


def _refuse(message: str) -> ASGIApp:
    error = ApiError("PERMISSION_DENIED", message)
    return JSONResponse(error.to_json(), error.code)
