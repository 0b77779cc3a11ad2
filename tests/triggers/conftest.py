"""A small compiled pipeline, a stand-in for the Vertex AI service that fails when told to, and the function itself."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import functions_framework
import pytest
from kfp import dsl

from pipelines.compile import compile_spec
from pipelines.machines import apply, machines_json

ROOT = Path(__file__).resolve().parents[2]
PARENT = "projects/my-project/locations/europe-west4"


@dsl.component(base_image="kfp-transformers-python:0.1.0", install_kfp_package=False)
def on_gpu(count: int, text: str, rate: float, flag: bool, items: list, options: dict) -> str:
    return text


@dsl.component(base_image="kfp-transformers-python:0.1.0", install_kfp_package=False)
def on_cpu(text: str) -> str:
    return text


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def elsewhere(text: str) -> str:
    return text


def compile_two_steps(machine: str) -> dict[str, Any]:
    """Compiles a pipeline with one GPU step, inside a pipeline of its own, and two others."""

    @dsl.pipeline(name="inner")
    def inner(count: int, text: str, rate: float, flag: bool, items: list, options: dict) -> str:
        step = on_gpu(count=count, text=text, rate=rate, flag=flag, items=items, options=options)
        apply(step, machine)
        return step.output

    @dsl.pipeline(name="two-steps")
    def two_steps(
        count: int,
        text: str = "",
        rate: float = 0.5,
        flag: bool = False,
        items: list = [1],  # noqa: B006
        options: dict = {},  # noqa: B006
        run_key: str = "",
    ):
        first = inner(count=count, text=text, rate=rate, flag=flag, items=items, options=options)
        second = on_cpu(text=first.output).set_caching_options(False)
        second.set_cpu_limit("2").set_memory_limit("4G")
        elsewhere(text=second.output)

    return compile_spec(two_steps)


@pytest.fixture(scope="session")
def compile_with():
    return compile_two_steps


@pytest.fixture(scope="session")
def two_steps() -> dict[str, Any]:
    return compile_two_steps("l4-1")


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory, two_steps: dict[str, Any]) -> Path:
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "two_steps.json").write_text(json.dumps(two_steps))
    (folder / "machines.json").write_text(json.dumps(machines_json()))
    return folder


class Vertex:
    """What the stand-in was asked and what it answers.

    `failures` are answered first, one for each create: a status, and whether the job is created all the same.
    `status` is the canonical code that they name.
    """

    def __init__(self, port: int):
        self.host = f"127.0.0.1:{port}"
        self.jobs: dict[str, dict[str, Any]] = {}
        self.creates: list[str] = []
        self.failures: list[tuple[int, bool]] = []
        self.parent = PARENT
        self.status = "X"

    def create(self, job_id: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.creates.append(job_id)
        status, created = self.failures.pop(0) if self.failures else (200, True)
        if job_id in self.jobs and status == 200:
            return 409, _error(409, "Pipeline job with the specified ID already exists.", "ALREADY_EXISTS")
        if created:
            self.jobs[job_id] = body | {"name": f"{self.parent}/pipelineJobs/{job_id}"}
        return (
            (200, self.jobs[job_id]) if status == 200 else (status, _error(status, "No, because of this.", self.status))
        )


def _error(code: int, message: str, status: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status}}


class _Handler(BaseHTTPRequestHandler):
    vertex: Vertex
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        address = urlsplit(self.path)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert address.path == f"/v1/{self.vertex.parent}/pipelineJobs"
        self._answer(*self.vertex.create(parse_qs(address.query)["pipelineJobId"][0], body))

    def do_GET(self) -> None:
        job = self.vertex.jobs.get(urlsplit(self.path).path.rpartition("/")[2])
        self._answer(*((200, job) if job else (404, _error(404, "Not found.", "NOT_FOUND"))))

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def vertex() -> Iterator[Vertex]:
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.vertex = Vertex(server.server_port)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield handler.vertex
        server.shutdown()


@pytest.fixture
def environment(vertex: Vertex, compiled: Path) -> dict[str, str]:
    return {
        "GOOGLE_CLOUD_PROJECT": "my-project",
        "VERTEX_LOCATION": "europe-west4",
        "PIPELINE_ROOT": "gs://bucket/root",
        "AIPLATFORM_EMULATOR_HOST": vertex.host,
        "COMPILED_FOLDER": str(compiled),
    }


@pytest.fixture
def configured(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name in ("COMPONENT_IMAGE", "DEAD_LETTER_TOPIC", "PIPELINE_SERVICE_ACCOUNT", "PUBSUB_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


def push_body(
    data: bytes | str | None, message_id: str = "7", published: str = "2026-01-31T05:06:07.123456789Z", **more: Any
) -> dict[str, Any]:
    """Returns a push request as Pub/Sub sends it; `data` as text is taken for what stands in the message already."""
    encoded = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    message = {"data": encoded, "messageId": message_id, "publishTime": published, "attributes": {}, **more}
    return {"subscription": "projects/my-project/subscriptions/runs", "message": message}


@pytest.fixture
def push(configured: dict[str, str]):
    client = functions_framework.create_app(
        "on_message", str(ROOT / "triggers" / "main.py"), "cloudevent"
    ).test_client()

    def deliver(document: Any, **message: Any) -> int:
        data = document if isinstance(document, bytes | str) else json.dumps(document).encode()
        return client.post("/projects/my-project/topics/runs", json=push_body(data, **message)).status_code

    deliver.client = client  # type: ignore[attr-defined]
    return deliver
