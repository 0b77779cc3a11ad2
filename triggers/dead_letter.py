"""Sets a wrong message aside: on the topic for such messages, with the reason, where one is configured."""

import os
from collections.abc import Mapping
from typing import Any

from triggers import pubsub
from triggers.errors import PermanentError
from triggers.settings import topic_path

# Pub/Sub's limits.
MAX_ATTRIBUTES = 100
MAX_NAME_BYTES = 256
MAX_VALUE_BYTES = 1024
# Pub/Sub takes 10 MB for the data and the attributes together, and these are at most 128 kB.
MAX_DATA_BYTES = 9_800_000


def set_aside(error: PermanentError, source_id: str, data: bytes, attributes: Mapping[str, Any]) -> None:
    """Publishes a message that is wrong, as far as Pub/Sub takes it.

    Args:
        error: Why it is wrong.
        source_id: The id of the message.
        data: Its data.
        attributes: Its attributes, as they came.

    Raises:
        ConfigurationError: `DEAD_LETTER_TOPIC` is no topic's name.
        google.api_core.exceptions.GoogleAPICallError: Pub/Sub did not take it.
    """
    topic = os.environ.get("DEAD_LETTER_TOPIC")
    if not topic:
        return
    own = {"reason": _cut(str(error)), "source_message_id": _cut(source_id)}
    if len(data) > MAX_DATA_BYTES:
        own["cut_from_bytes"] = str(len(data))
    kept = list(_allowed(attributes).items())[: MAX_ATTRIBUTES - len(own)]
    pubsub.publish(topic_path(topic, "DEAD_LETTER_TOPIC"), data[:MAX_DATA_BYTES], dict(kept) | own)


def _allowed(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Returns the attributes that may be published again: names with goog in front are Pub/Sub's own to give."""
    texts = {_utf8(name): _cut(str(value)) for name, value in attributes.items()}
    return {
        name: value
        for name, value in texts.items()
        if name and not name.startswith("goog") and len(name.encode()) <= MAX_NAME_BYTES
    }


def _cut(text: str) -> str:
    return _utf8(text).encode()[:MAX_VALUE_BYTES].decode(errors="ignore")


def _utf8(text: object) -> str:
    # JSON can carry half of a surrogate pair, and no message can.
    return str(text).encode(errors="replace").decode()
