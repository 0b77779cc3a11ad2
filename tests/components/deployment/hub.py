"""A server that answers huggingface_hub as the hub does, for the few calls that a download makes."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = {"main", "v1", "refs/pr/1", COMMIT}


@contextmanager
def serve_hub(models: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """Serves folders as models on a hub.

    `org/gated` may be looked at but not read, `org/forbidden` not even looked at, and `org/overloaded` gives 503.

    Yields:
        The hub's address, and the files that were downloaded so far.
    """
    downloads: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def answer_json(self, content: object) -> None:
            self.answer(200, json.dumps(content).encode(), Content_Type="application/json")

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0].replace("%2F", "/")
            about = re.fullmatch("/api/models/(?P<model>.+?)(/(?P<call>revision|tree)/(?P<revision>.+))?", path)
            file = re.fullmatch("/(?P<model>.+?)/resolve/(?P<revision>[^/]+)/(?P<name>.+)", path)
            found = about or file
            model = found["model"] if found else ""
            if model == "org/overloaded":
                return self.answer(503)
            if model == "org/forbidden":
                return self.answer(403)
            if not found or model not in models:
                return self.answer(401, X_Error_Code="RepoNotFound")
            if (found["revision"] or "main") not in REVISIONS:
                return self.answer(404, X_Error_Code="RevisionNotFound")
            names = [str(f.relative_to(models[model])) for f in sorted(models[model].rglob("*")) if f.is_file()]
            if about and about["call"] != "tree":
                return self.answer_json({"id": model, "sha": COMMIT, "siblings": [{"rfilename": n} for n in names]})
            if about:
                sizes = {name: (models[model] / name).stat().st_size for name in names}
                entries = [{"type": "file", "path": n, "size": size, "oid": COMMIT} for n, size in sizes.items()]
                return self.answer_json(entries)
            if model == "org/gated":
                return self.answer(403, X_Error_Code="GatedRepo")
            body = (models[model] / found["name"]).read_bytes()
            if self.command == "GET":
                downloads.append(found["name"])
            etag = f'"{hashlib.sha256(body).hexdigest()}"'
            return self.answer(200, body, ETag=etag, X_Repo_Commit=COMMIT)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", downloads
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


_CHILD = """
import json, sys
from components.deployment.pin_model.pin import pin
from components.deployment.resolve_model.resolve import resolve
try:
    print(json.dumps(pin(sys.argv[2]) if sys.argv[1] == "pin" else resolve(sys.argv[2], sys.argv[3])))
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


def resolve_from_hub(reference: str, folder: Path, hub: str, **env: str):
    """Resolves a reference to `folder / "out"`; returns its metadata, or an error's type and message."""
    return run_in_child("resolve", reference, folder, hub, **env)


def run_in_child(call: str, reference: str, folder: Path, hub: str, **env: str):
    """Runs in a process of its own: huggingface_hub reads HF_ENDPOINT when it is imported."""
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, call, reference, str(folder / "out")],
        env={**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "0", **env},
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    return json.loads(child.stdout.splitlines()[-1])
