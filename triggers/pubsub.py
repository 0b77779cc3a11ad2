"""Publishes one message, and waits until Pub/Sub has it."""

import os
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.cloud.pubsub_v1 import PublisherClient

TIMEOUT_SECONDS = 30.0

_lock = threading.Lock()


def publish(topic: str, data: bytes, attributes: Mapping[str, str] | None = None) -> str:
    """Publishes one message.

    Args:
        topic: `projects/P/topics/T`.
        data: The message's data.
        attributes: The message's attributes.

    Returns:
        The message's id.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: Pub/Sub did not take the message.
    """
    from google import pubsub_v1

    # The method of the generated class: the one that overrides it takes attributes as keyword arguments, so that an
    # attribute could not be called `timeout`.
    response = pubsub_v1.PublisherClient.publish(
        _client(),
        topic=topic,
        messages=[pubsub_v1.PubsubMessage(data=data, attributes=dict(attributes or {}))],
        retry=None,
        timeout=TIMEOUT_SECONDS,
    )
    return response.message_ids[0]


def _client() -> "PublisherClient":
    with _lock:
        return _make_client(os.environ.get("PUBSUB_EMULATOR_HOST", ""), os.getpid())


@lru_cache(maxsize=4)
def _make_client(emulator: str, process: int) -> "PublisherClient":
    from google.cloud.pubsub_v1 import PublisherClient

    # It reads PUBSUB_EMULATOR_HOST itself.
    return PublisherClient()
