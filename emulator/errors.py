"""Errors as Vertex AI's REST API answers them."""

from typing import Any

# HTTP status of each google.rpc.Code that this service answers; Google's clients pick the exception's class by both.
_HTTP = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
}


class ApiError(Exception):
    """A request that is refused.

    Args:
        status: A google.rpc.Code, such as INVALID_ARGUMENT.
        message: What is wrong and, where a person can mend it, what to change.
    """

    def __init__(self, status: str, message: str):
        super().__init__(message)
        self.status, self.code, self.message = status, _HTTP[status], message

    def to_json(self) -> dict[str, Any]:
        """Returns the body of the answer."""
        return {"error": {"code": self.code, "message": self.message, "status": self.status}}


def invalid(message: str) -> ApiError:
    """Returns the error for a bad argument."""
    return ApiError("INVALID_ARGUMENT", message)
