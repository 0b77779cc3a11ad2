"""Whatever arrives: never a crash, never a job for what is invalid, never a secret or a stack trace in an answer."""

import base64
import json
import os
import tracemalloc

import functions_framework
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.triggers.conftest import ROOT, push_body
from triggers import pubsub
from triggers.dead_letter import MAX_ATTRIBUTES, MAX_NAME_BYTES, MAX_VALUE_BYTES
from triggers.request import Origin, parse
from triggers.strict_json import MAX_BYTES

SECRET = "hunter2-in-the-environment"  # noqa: S105
VALID = {"version": 1, "pipeline": "two_steps", "parameters": {"count": 3}}
PATH = "/projects/my-project/topics/runs"
TYPES = {
    "on_message": "google.cloud.pubsub.topic.v1.messagePublished",
    "on_object_finalized": "google.cloud.storage.object.v1.finalized",
}

TEXT = st.text(max_size=20)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.integers(10**999, 10**1000),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)
FIELDS = ["version", "pipeline", "parameters", "machine", "run_key", "enable_caching", "labels", "count"]
NEAR = st.dictionaries(st.sampled_from(FIELDS) | TEXT, ANY, max_size=5).map(lambda changed: VALID | changed)
DATA = (
    st.binary(max_size=200)
    | ANY.map(lambda value: json.dumps(value).encode())
    | NEAR.map(lambda d: json.dumps(d).encode())
)
HEADER_TEXT = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=30)


class App:
    """The three entry points, each in an app of its own, and what was set aside."""

    def __init__(self):
        source = str(ROOT / "triggers" / "main.py")
        kinds = {"on_message": "cloudevent", "on_object_finalized": "cloudevent", "on_request": "http"}
        self.clients = {
            name: functions_framework.create_app(name, source, kind).test_client() for name, kind in kinds.items()
        }
        self.letters = []

    def post(self, name, data, headers, path="/", method="POST"):
        answer = self.clients[name].open(path, method=method, data=data, headers=headers)
        text = answer.get_data(as_text=True)
        assert SECRET not in text
        assert "Traceback" not in text and 'File "' not in text
        return answer


@pytest.fixture(scope="module")
def app():
    return App()


@pytest.fixture(autouse=True)
def surroundings(configured, compiled, tmp_path, monkeypatch, app):
    """A secret in the environment, a rule for every object, and a topic that takes what Pub/Sub takes."""
    rules = tmp_path / "rules.json"
    rule = {"name": "all", "bucket": "bucket", "prefix": "in/", "pipeline": "two_steps", "parameters": {"count": 1}}
    rules.write_text(json.dumps({"version": 1, "rules": [rule | {"labels": {}}]}))
    monkeypatch.setenv("RULES_FILE", str(rules))
    monkeypatch.setenv("PIPELINE_SERVICE_ACCOUNT", SECRET)
    monkeypatch.setenv("DEAD_LETTER_TOPIC", "rejected")
    app.letters.clear()

    def publish(topic, data, attributes=None):
        attributes = attributes or {}
        assert len(attributes) <= MAX_ATTRIBUTES
        assert len(data) + sum(len(n.encode()) + len(v.encode()) for n, v in attributes.items()) <= 10_000_000
        for name, value in attributes.items():
            assert 0 < len(name.encode()) <= MAX_NAME_BYTES and not name.startswith("goog")
            assert len(value.encode()) <= MAX_VALUE_BYTES
        app.letters.append((data, attributes))
        return "1"

    monkeypatch.setattr(pubsub, "publish", publish)


def is_valid(data):
    """Whether data is a request that the two_steps pipeline takes, by the function's own reader."""
    from triggers import job
    from triggers.errors import PermanentError

    try:
        job.check(parse(data), Origin("s", "7", "2026-01-31T05:06:07Z"))
    except PermanentError:
        return False
    return True


FUZZ = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FUZZ
@given(data=DATA, attributes=ANY | st.dictionaries(TEXT, TEXT, max_size=5), message_id=ANY)
@example(data=b"hello", attributes=["a list"], message_id="7")
@example(
    data=b"hello",
    attributes={"": "no name", "n" * 300: "long", "v": "v" * 3000, "half\ud800": "\ud800"},
    message_id="7",
)
@example(data=b"hello", attributes={}, message_id=7)
@example(data=json.dumps(VALID | {"version": 10**999}).encode(), attributes={}, message_id="7")
@example(data=json.dumps(VALID | {"run_key": "{period:9999d}{period:0d}"}).encode(), attributes={}, message_id="7")
def test_any_message_is_settled(app, vertex, data, attributes, message_id):
    app.letters.clear()
    before = len(vertex.creates)
    body = push_body(data, message_id=message_id, attributes=attributes)
    answer = app.post("on_message", json.dumps(body), {"Content-Type": "application/json"}, PATH)
    assert answer.status_code in (200, 400)
    created = len(vertex.creates) - before
    if answer.status_code == 200:
        assert created == is_valid(data)
        assert len(app.letters) == (not created)
        assert all(letter.get("reason") for _, letter in app.letters)
    else:
        assert created == 0


ENVELOPE = (
    st.dictionaries(
        st.sampled_from(["subscription", "message", "context", "data", "specversion", "id", "source", "type", "time"])
        | TEXT,
        ANY
        | st.dictionaries(st.sampled_from(["data", "messageId", "publishTime", "attributes"]) | TEXT, ANY, max_size=5),
        max_size=6,
    )
    | ANY
)

STRUCTURED = st.fixed_dictionaries(
    {
        "specversion": st.sampled_from(["1.0", "0.3", "9", "", 1.0]),
        "id": TEXT,
        "source": TEXT,
        "type": st.sampled_from(list(TYPES.values())) | TEXT,
    },
    optional={
        "data": ENVELOPE,
        "data_base64": TEXT | ANY,
        "time": TEXT | ANY,
        "datacontenttype": TEXT,
        "traceparent": TEXT | ANY,
        "subject": ANY,
    },
)


@FUZZ
@given(
    name=st.sampled_from(list(TYPES)),
    envelope=ENVELOPE | STRUCTURED,
    kind=st.sampled_from(["json", "cloudevents+json", "text"]),
)
@example(name="on_message", envelope="not an object", kind="json")
@example(name="on_message", envelope={"context": 5, "data": {}}, kind="json")
@example(name="on_message", envelope={"subscription": 1, "message": ["data", "messageId"]}, kind="json")
@example(
    name="on_message", envelope={"specversion": "1.0", "id": "1", "source": "s", "type": 5}, kind="cloudevents+json"
)
def test_any_envelope_is_answered(app, vertex, name, envelope, kind):
    before = len(vertex.creates)
    headers = {"Content-Type": f"application/{kind}", "Authorization": f"Bearer {SECRET}"}
    answer = app.post(name, json.dumps(envelope), headers, PATH)
    assert answer.status_code in (200, 400, 415)
    assert len(vertex.creates) == before


@FUZZ
@given(
    name=st.sampled_from(list(TYPES)),
    headers=st.dictionaries(
        st.sampled_from(["ce-id", "ce-source", "ce-type", "ce-time", "ce-specversion", "ce-traceparent", "ce-subject"])
        | st.sampled_from(["traceparent", "X-Cloud-Trace-Context", "Content-Type", "Content-Encoding"]),
        HEADER_TEXT | st.sampled_from([*TYPES.values(), "1.0", "0.3", "application/json"]),
        max_size=8,
    ),
    body=st.binary(max_size=50) | ANY.map(lambda value: json.dumps(value).encode()),
)
@example(
    name="on_message",
    headers={"ce-id": "1", "ce-source": "s", "ce-type": TYPES["on_message"], "ce-specversion": "1.0"},
    body=b"{",
)
@example(name="on_message", headers={}, body=b"\xc1")
@example(name="on_message", headers={}, body=bytes(5))
def test_any_cloud_event_is_answered(app, vertex, name, headers, body):
    before = len(vertex.creates)
    answer = app.post(name, body, headers, PATH)
    assert answer.status_code in (200, 400, 415)
    assert len(vertex.creates) == before


@FUZZ
@given(
    data=st.dictionaries(st.sampled_from(["bucket", "name", "generation", "size"]), ANY, max_size=4)
    | st.fixed_dictionaries({"bucket": st.just("bucket"), "name": TEXT.map("in/{}".format), "generation": ANY})
    | ANY
)
@example(data={"bucket": "bucket", "name": "in/{date}", "generation": "5"})
@example(data={"bucket": "bucket", "name": "in/" + "ü" * 1000, "generation": "5"})
def test_any_object_is_settled(app, vertex, data):
    before = len(vertex.creates)
    headers = {"ce-id": "1", "ce-source": "//storage.googleapis.com/b", "ce-type": TYPES["on_object_finalized"]}
    headers |= {"ce-specversion": "1.0", "Content-Type": "application/json"}
    answer = app.post("on_object_finalized", json.dumps(data), headers)
    assert answer.status_code in (200, 400)
    matches = isinstance(data, dict) and data.get("bucket") == "bucket" and str(data.get("name")).startswith("in/")
    assert len(vertex.creates) == before or matches


@FUZZ
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]),
    path=st.sampled_from(["/runs", "/runs/", "/openapi.json", "/", "/runs/a:cancel", "/runs/a%2Fb", "/runs/../x"])
    | st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=20).map(lambda text: "/runs/" + text),
    query=st.dictionaries(st.sampled_from(["pipeline", "run_key", "page_size", "page_token"]) | TEXT, TEXT, max_size=3),
    body=DATA,
    kind=st.sampled_from(["application/json", "text/plain", ""]),
)
def test_any_request_is_answered(app, vertex, method, path, query, body, kind):
    before = len(vertex.creates)
    client = app.clients["on_request"]
    headers = {"Authorization": f"Bearer {SECRET}"} | ({"Content-Type": kind} if kind else {})
    answer = client.open(
        path.split("?")[0].split("#")[0], method=method, query_string=query, data=body, headers=headers
    )
    text = answer.get_data(as_text=True)
    assert SECRET not in text and "Traceback" not in text
    assert answer.status_code < 500 or answer.status_code == 503
    if answer.status_code >= 400 and method != "HEAD":
        assert {"code", "headline", "remedy"} == answer.json["error"].keys()
    created = len(vertex.creates) - before
    assert created == 0 or (is_valid(body) and (method, kind) == ("POST", "application/json"))


# What a message may cost. Memory is what Python allocates beyond the request itself; Cloud Run's smallest function that
# holds this one has 256 MiB, and handles eight messages at once.
COSTLY = {
    "10 MB of text": b'{"version": 1, "pipeline": "' + b"x" * 9_999_000 + b'"}',
    "10 MB of brackets": b"[" * 10_000_000,
    "10 MB of objects": b"[" + b"{}," * 3_333_000 + b"{}]",
    "1 MB of brackets": b'{"parameters":' + b"[" * (MAX_BYTES - 20),
    "1 MB of empty objects": b'{"parameters":{"count":[' + b"{}," * 340_000 + b"{}]}}",
    "1 MB of numbers": b'{"parameters":{"count":[' + b"0," * 500_000 + b"0]}}",
    "a number with a thousand digits": b'{"version":1,"pipeline":"two_steps","parameters":{"count":'
    + b"9" * 1000
    + b"}}",
    "a number with a million digits": b'{"parameters":{"count":' + b"9" * 1_000_000 + b"}}",
    "a fraction with a million digits": b'{"parameters":{"count":0.' + b"9" * 1_000_000 + b"}}",
    "an exponent with a million digits": b'{"parameters":{"count":1e' + b"9" * 1_000_000 + b"}}",
    "one name a hundred thousand times": b'{"parameters":{' + b'"a":1,' * 150_000 + b'"a":1}}',
    "a name twice behind many others": b"{" + b",".join(b'"%d":1' % n for n in range(80_000)) + b',"x":1,"x":1}',
    "many names that are unknown": b"{" + b",".join(b'"%d":1' % n for n in range(80_000)) + b"}",
    "many parameters": b'{"version":1,"pipeline":"two_steps","parameters":{'
    + b",".join(b'"%d":1' % n for n in range(80_000))
    + b"}}",
    "many labels": b'{"version":1,"pipeline":"two_steps","parameters":{"count":1},"labels":{'
    + b",".join(b'"%d":1' % n for n in range(80_000))
    + b"}}",
}


@pytest.mark.parametrize("data", COSTLY.values(), ids=COSTLY)
@pytest.mark.timeout(120)
def test_a_costly_message_is_refused_in_bounded_memory(app, vertex, capfd, data):
    body = json.dumps(push_body(data))
    tracemalloc.start()
    try:
        answer = app.post("on_message", body, {"Content-Type": "application/json"}, PATH)
        peak = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert (answer.status_code, vertex.creates) == (200, [])
    [(_, attributes)] = app.letters
    assert len(attributes["reason"]) <= MAX_VALUE_BYTES
    assert len(capfd.readouterr().out) < 20_000
    # Five copies of the largest request, or what a megabyte of tiny objects takes in Python.
    assert peak < 75, f"{peak:.0f} MiB"


def test_a_request_that_is_too_large_is_not_read(app):
    answer = app.post("on_message", b"x" * 16_000_001, {"Content-Type": "application/json"}, PATH)
    assert answer.status_code == 413
    assert answer.json["error"]["headline"] == "The request is too large."


@pytest.mark.parametrize("count", [990, 100_000])
def test_a_deeply_nested_envelope_is_refused(app, count):
    body = '{"subscription": "s", "message": ' + "[" * count + "]" * count + "}"
    assert app.post("on_message", body, {"Content-Type": "application/json"}, PATH).status_code == 400


def test_a_refusal_by_the_framework_echoes_nothing(app):
    headers = {"Content-Type": "application/json", "Authorization": "Bearer a-token"}
    data = base64.b64encode(b"a-parameter").decode()
    body = json.dumps({"subscription": "s", "message": {"data": data}})
    answer = app.post("on_message", body, headers, PATH)
    assert answer.status_code == 400
    assert answer.json["error"]["remedy"].startswith("Send a CloudEvent")
    assert "a-token" not in answer.text and data not in answer.text


def test_a_push_without_its_time_is_refused(app, vertex):
    """The framework would give it the present time, and a redelivery would be another run."""
    body = push_body(json.dumps(VALID).encode())
    del body["message"]["publishTime"]
    assert app.post("on_message", json.dumps(body), {"Content-Type": "application/json"}, PATH).status_code == 400
    assert vertex.creates == []


@pytest.mark.parametrize("name", TYPES)
def test_half_a_character_in_an_event_is_set_aside(app, vertex, name):
    """It cannot become a key, and would come again for as long as it is kept."""
    half, message = "\ud800", push_body(json.dumps(VALID).encode())
    thing = {"bucket": "bucket", "name": "in/a", "generation": "5"}
    for event_id, source, data in (
        (half, "s", message if name == "on_message" else thing),
        ("1", half, message if name == "on_message" else thing),
        ("1", "s", message | {"message": {"data": half}} if name == "on_message" else thing | {"name": "in/" + half}),
    ):
        event = {"specversion": "1.0", "id": event_id, "source": source, "type": TYPES[name], "data": data}
        headers = {"Content-Type": "application/cloudevents+json"}
        assert app.post(name, json.dumps(event | {"time": "2026-01-31T05:06:07Z"}), headers).status_code == 200
    assert (vertex.creates, len(app.letters)) == ([], 3)


@pytest.mark.parametrize("is_binary", [True, False])
def test_an_event_without_its_time_is_refused(app, vertex, is_binary):
    """As above: the events' own library would give it the present time."""
    data = push_body(json.dumps(VALID).encode())
    event = {"specversion": "1.0", "id": "7", "source": "s", "type": TYPES["on_message"]}

    def deliver():
        if is_binary:
            headers = {f"ce-{name}": value for name, value in event.items()} | {"Content-Type": "application/json"}
            return app.post("on_message", json.dumps(data), headers)
        return app.post(
            "on_message", json.dumps(event | {"data": data}), {"Content-Type": "application/cloudevents+json"}
        )

    assert [deliver().status_code for _ in range(2)] == [200, 200]
    assert len(vertex.jobs) == 1
    del data["message"]["publishTime"]
    refused = deliver()
    assert (refused.status_code, len(vertex.creates)) == (400, 2)
    assert "when the message was published" in refused.json["error"]["headline"]


@pytest.mark.parametrize("name", ["on_message", "on_object_finalized", "on_request"])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/runs"), ("POST", "/runs/a:cancel"), ("PUT", "/"), ("GET", "/")]
)
def test_what_is_too_large_is_413_wherever_it_is_sent(app, capfd, name, method, path):
    """The framework reads every request again before it answers, and would answer 500 with a stack trace in its log."""
    answer = app.post(name, b"x" * 16_000_001, {"Content-Type": "application/json"}, path, method)
    assert (answer.status_code, answer.json["error"]["code"]) == (413, 413)
    assert "Traceback" not in capfd.readouterr().err
