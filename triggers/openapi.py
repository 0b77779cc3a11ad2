"""The OpenAPI description of the HTTP interface, made from the request's model."""

from typing import Any

from triggers.jobs import MAX_PAGE
from triggers.request import VERSION, RunRequest

_TEXT = {"type": "string"}


def description() -> dict[str, Any]:
    """Returns the OpenAPI 3.1 document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Runs of compiled pipelines on Vertex AI",
            "version": str(VERSION),
            "description": "The same request twice is one run: its run_key says which.",
        },
        "paths": {
            "/runs": {"post": _submit(), "get": _list()},
            "/runs/{id}": {
                "parameters": [_path_id()],
                "get": _operation("show", "Show a run.", {"200": _answer("The run.", "Run")}),
            },
            "/runs/{id}:cancel": {
                "parameters": [_path_id()],
                "post": _operation("cancel", "Cancel a run.", {"200": _answer("The run.", "Run")}),
            },
        },
        "components": {
            "schemas": {
                "RunRequest": RunRequest.model_json_schema(),
                "Submitted": _object(
                    {"job": _TEXT, "id": _TEXT, "run_key": _TEXT, "existed": {"type": "boolean"}, "console": _TEXT}
                ),
                "Run": _object(
                    dict.fromkeys(("job", "id", "pipeline", "state", "title", "created", "ended", "error"), _TEXT)
                    | {"console": _TEXT, "labels": {"type": "object", "additionalProperties": _TEXT}}
                ),
                "Runs": _object(
                    {
                        "runs": {"type": "array", "items": {"$ref": "#/components/schemas/Run"}},
                        "next_page_token": _TEXT,
                    }
                ),
                "Error": _object({"error": _object({"code": {"type": "integer"}, "headline": _TEXT, "remedy": _TEXT})}),
            },
            # What Cloud Run asks for: an identity token of an account that may invoke the service.
            "securitySchemes": {"google": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
        "security": [{"google": []}],
    }


def _submit() -> dict[str, Any]:
    answers = {
        "201": _answer("The run is submitted.", "Submitted"),
        "200": _answer("It was submitted before.", "Submitted"),
        "409": _answer("The run_key belongs to another run.", "Error"),
    }
    with_key = {"required": ["run_key"], "properties": {"run_key": _TEXT}}
    schema = {"allOf": [{"$ref": "#/components/schemas/RunRequest"}, with_key]}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return _operation("submit", "Submit a run. run_key must be given.", answers) | {"requestBody": body}


def _list() -> dict[str, Any]:
    size = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": MAX_PAGE}
    fields = {"pipeline": _TEXT, "run_key": _TEXT, "page_size": size, "page_token": _TEXT}
    parameters = [{"name": name, "in": "query", "schema": schema} for name, schema in fields.items()]
    operation = _operation("list", "List runs, the newest first.", {"200": _answer("A page of runs.", "Runs")})
    return operation | {"parameters": parameters}


def _operation(name: str, summary: str, answers: dict[str, Any]) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "responses": {**answers, "default": _answer("Refused.", "Error")}}


def _answer(meaning: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": meaning, "content": content}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _path_id() -> dict[str, Any]:
    return {"name": "id", "in": "path", "required": True, "schema": _TEXT}
