import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from emulator.local_only import LocalOnly

SERVICE = Starlette(routes=[Route("/", lambda request: PlainTextResponse("served"), methods=["GET", "POST"])])


def answer(headers, allow_remote=False):
    return TestClient(LocalOnly(SERVICE, allow_remote), base_url="http://127.0.0.1").post("/", headers=headers)


@pytest.mark.parametrize("host", ["127.0.0.1:8085", "127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:8085", "[::1]"])
def test_a_client_on_this_machine_is_served(host):
    assert answer({"host": host}).text == "served"


@pytest.mark.parametrize(
    "host", ["evil.example:8085", "127.0.0.1.evil.example", "10.0.0.7:8085", "localhost.evil:1", ""]
)
def test_a_name_that_was_made_to_point_here_is_refused(host):
    refused = answer({"host": host})
    assert refused.status_code == 403 and refused.json()["error"]["status"] == "PERMISSION_DENIED"
    assert answer({"host": host}, allow_remote=True).text == "served"


@pytest.mark.parametrize("allow_remote", [False, True])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:8085"])
def test_a_web_page_is_refused(origin, allow_remote):
    refused = answer({"host": "127.0.0.1:8085", "origin": origin}, allow_remote)
    assert refused.status_code == 403 and "web page" in refused.json()["error"]["message"]
