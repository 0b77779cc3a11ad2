"""A Cloud Storage server that honours `ifGenerationMatch`, which gcp-storage-emulator does not."""

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

BUCKET = "bucket"
Fault = Callable[[str, str], str]


class Bucket:
    """What the server holds, and what went over the wire.

    Attributes:
        objects: (generation, bytes) by name.
        writes: (name, ifGenerationMatch, status) of each upload, in order.
        fault: Called with method and name before each upload; "lose the answer" or "break off" make it fail so.
    """

    def __init__(self) -> None:
        self.objects: dict[str, tuple[int, bytes]] = {}
        self.writes: list[tuple[str, str | None, int]] = []
        self.fault: Fault = lambda method, name: ""
        self._lock, self._generation = threading.Lock(), 1000
        self.sessions: dict[str, tuple[str, str | None]] = {}

    def write(self, name: str, content: bytes, expected: str | None) -> int:
        """Writes an object where its generation is the one expected; returns the HTTP status."""
        with self._lock:
            present = self.objects.get(name, (0, b""))[0]
            status = 200 if expected is None or int(expected) == present else 412
            if status == 200:
                self._generation += 1
                self.objects[name] = (self._generation, content)
            self.writes.append((name, expected, status))
            return status

    def about(self, name: str) -> dict[str, str]:
        """Describes an object as the JSON API does."""
        generation, content = self.objects[name]
        crc = base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
        about = {"kind": "storage#object", "bucket": BUCKET, "name": name, "size": str(len(content)), "crc32c": crc}
        return {**about, "generation": str(generation), "metageneration": "1", "etag": f"e{generation}"}


@contextmanager
def serve_bucket() -> Iterator[tuple[str, Bucket]]:
    """Serves one empty bucket.

    Yields:
        The server's address, for STORAGE_EMULATOR_HOST, and the bucket.
    """
    bucket = Bucket()

    class Storage(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def answer_json(self, status: int, content: object, **headers: str) -> None:
            self.answer(status, json.dumps(content).encode(), Content_Type="application/json", **headers)

        def fail(self, status: int, why: str) -> None:
            self.answer_json(status, {"error": {"code": status, "message": why}})

        def parse(self) -> tuple[str, str, dict[str, str]]:
            parts = urlsplit(self.path)
            match = re.search(r"/b/([^/]+)(?:/o)?(?:/(.+))?$", parts.path)
            query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
            return (match[1] if match else ""), unquote((match and match[2]) or ""), query

        def do_GET(self) -> None:
            found, name, query = self.parse()
            if found != BUCKET:
                return self.fail(404, "The specified bucket does not exist.")
            if not name:
                return self.list_objects(query)
            held = bucket.objects.get(name)
            if not held or query.get("generation", str(held[0])) != str(held[0]):
                return self.fail(404, f"No such object: {name}")
            if query.get("alt") == "media":
                return self.answer(200, held[1], Content_Type="application/octet-stream")
            return self.answer_json(200, bucket.about(name))

        def list_objects(self, query: dict[str, str]) -> None:
            prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
            items, prefixes = [], set()
            for name in sorted(bucket.objects):
                if not name.startswith(prefix):
                    continue
                head, cut, _ = name.removeprefix(prefix).partition(delimiter) if delimiter else (name, "", "")
                if cut:
                    prefixes.add(f"{prefix}{head}{cut}")
                else:
                    items.append(bucket.about(name))
            self.answer_json(200, {"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found, _, query = self.parse()
            if found != BUCKET:
                return self.fail(404, "The specified bucket does not exist.")
            if query.get("uploadType") == "resumable":
                session = str(len(bucket.sessions))
                bucket.sessions[session] = (json.loads(body)["name"], query.get("ifGenerationMatch"))
                address = f"http://{self.headers['Host']}/upload/storage/v1/b/{BUCKET}/o?session={session}"
                return self.answer(200, b"", Location=address)
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            about, content = BytesParser().parsebytes(head + body).get_payload()
            name = json.loads(about.get_payload(decode=True))["name"]
            return self.store(name, content.get_payload(decode=True), query.get("ifGenerationMatch"))

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            name, expected = bucket.sessions[self.parse()[2]["session"]]
            return self.store(name, body, expected)

        def store(self, name: str, content: bytes, expected: str | None) -> None:
            fault = bucket.fault(self.command, name)
            if fault == "break off":
                return self.fail(400, "broken off before it was stored")  # a status that no client repeats
            status = bucket.write(name, content, expected)
            if fault == "lose the answer":
                return self.fail(503, "stored, but the answer is lost")
            if status == 412:
                return self.fail(412, "At least one of the pre-conditions you specified did not hold.")
            return self.answer_json(200, bucket.about(name))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Storage)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bucket
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
