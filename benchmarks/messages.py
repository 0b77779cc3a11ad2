"""The messages of the fault benchmark: valid ones, repetitions of them, and malformed ones, from a seed."""

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PIPELINE = "basic"


@dataclass(frozen=True)
class Message:
    """A message to publish.

    Attributes:
        token: What tells the runs apart: the parameter `first` of a valid message, and of every repetition of it.
        data: The message's data.
        reason: Words of the reason that a malformed message must be set aside with; "" for a valid one.
    """

    token: str
    data: bytes
    reason: str = ""


def make_messages(count: int, seed: int) -> list[Message]:
    """Makes messages: a tenth is malformed, a third repeats another, the rest asks for a run of its own.

    Half of the runs have a run key, and may be repeated; the others are told apart by the message that asks for them.
    Half of the repetitions follow the message that they repeat at once, the others come anywhere.

    Args:
        count: How many messages; at least 20.
        seed: The same seed makes the same messages.
    """
    rng = random.Random(seed)
    malformed, repeated = count // 10, count // 3
    keys = count - malformed - repeated
    runs = [_valid(f"{seed}-{number}", with_key=number % 2 == 0) for number in range(keys)]
    kinds = list(MALFORMED)
    others = [_malformed(f"bad-{seed}-{number}", kinds[number % len(kinds)]) for number in range(malformed)]
    messages = [[message] for message in runs + others]
    scattered = []
    for number in range(repeated):
        target = rng.choice(messages[:keys:2])
        (target if number % 2 else scattered).append(target[0])
    groups = [*messages, *([message] for message in scattered)]
    rng.shuffle(groups)
    return [message for group in groups for message in group]


def request(token: str, **fields: Any) -> dict[str, Any]:
    """Returns a run request."""
    return {"version": 1, "pipeline": PIPELINE, "parameters": {"first": token}, **fields}


def framework_refusals(count: int) -> list[tuple[bytes, dict[str, str]]]:
    """Returns push requests that functions-framework refuses before the trigger sees them: bodies and headers."""
    as_json, data = {"Content-Type": "application/json"}, base64.b64encode(json.dumps(request("refused")).encode())
    subscription, message = "projects/p/subscriptions/s", {"data": data.decode(), "messageId": "1"}
    cases: list[tuple[Any, dict[str, str]]] = [
        # As production pushes a message that has attributes only.
        ({"subscription": subscription, "message": {"messageId": "1", "attributes": {"a": "b"}}}, as_json),
        ({"subscription": subscription, "message": {"data": data.decode()}}, as_json),
        ({"message": message}, as_json),
        ("not an object", as_json),
        ({"subscription": subscription, "message": message}, {}),
    ]
    chosen = [cases[number % len(cases)] for number in range(count)]
    return [(json.dumps(document).encode(), headers) for document, headers in chosen]


def _valid(token: str, with_key: bool) -> Message:
    return Message(token, json.dumps(request(token, **({"run_key": f"key-{token}"} if with_key else {}))).encode())


def _malformed(token: str, kind: str) -> Message:
    make, reason = MALFORMED[kind]
    made = make(token)
    return Message(token, made if isinstance(made, bytes) else json.dumps(made).encode(), reason)


MALFORMED: dict[str, tuple[Callable[[str], bytes | dict[str, Any] | list[Any]], str]] = {
    "not JSON": (lambda token: f"{token}, please".encode(), "is not JSON"),
    "half of JSON": (lambda token: json.dumps(request(token)).encode()[:-3], "is not JSON"),
    "not UTF-8": (lambda token: b"\xff\xfe" + token.encode(), "is not UTF-8"),
    "a list": (lambda token: [request(token)], "is not a JSON object"),
    "no data": (lambda token: b"", "has no data"),
    "another version": (lambda token: request(token, version=2), "version is 2"),
    "an unknown field": (lambda token: request(token, enable_pipeline_caching=True), "enable_pipeline_caching"),
    "an unknown pipeline": (lambda token: request(token, pipeline="basik"), "There is no pipeline 'basik'"),
    "a pipeline's address": (lambda token: request(token, pipeline="gs://b/p.json"), "no pipeline 'gs://b/p.json'"),
    "an unknown parameter": (lambda token: request(token, parameters={"fist": token}), "no parameter 'fist'"),
    "a missing parameter": (lambda token: request(token, parameters={"second": token}), "first must be given"),
    "a wrong type": (lambda token: request(token, parameters={"first": [token]}), "first is a list"),
    "an unknown machine": (lambda token: request(token, machine="l4-3"), "no machine 'l4-3'"),
    "a wrong label": (lambda token: request(token, labels={"Team": token}), "cannot be the name of a label"),
    "an empty run key": (lambda token: request(token, run_key=""), "run_key"),
    "a name twice": (lambda token: b'{"version": 1, "version": 1}', "stands twice"),
    "a number too long": (lambda token: request(token, parameters={"first": 10**1000}), "first is an integer"),
    "too deep": (lambda token: b'{"parameters":' + b"[" * 50_000, "nested too deeply"),
    "not a number": (lambda token: request(token, parameters={"first": float("nan")}), "NaN is not a JSON number"),
}
