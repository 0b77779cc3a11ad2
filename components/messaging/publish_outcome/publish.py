"""Announces how a run ended, on a Pub/Sub topic."""

import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from google.api_core.exceptions import InvalidArgument, NotFound, PermissionDenied
from google.cloud import pubsub_v1

from components.errors import InputError

_TOPIC = re.compile(r"projects/[^/]+/topics/[^/]+")
# Long enough for Pub/Sub's own retries of a passing failure, short enough that a GPU project is not billed for waiting.
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Outcome:
    """What a run says when it has ended (outcome version 1).

    Attributes:
        pipeline: The pipeline's name.
        job: The job's resource name, `projects/P/locations/L/pipelineJobs/ID`.
        run_key: The key of the request that started the run; "" when the run was started without one.
        state: `SUCCEEDED`, `FAILED` or `CANCELLED`.
        error: Why it did not succeed; "" when it did.
        output_uri: Where the result is; "" when the pipeline has none.
        time: When the outcome was made, RFC 3339 in UTC.
        version: The version of this format.
    """

    pipeline: str
    job: str
    run_key: str
    state: str
    error: str
    output_uri: str
    time: str
    version: int = 1

    def to_json(self) -> str:
        """Returns the message's data."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)


def make_outcome(pipeline: str, job: str, run_key: str, state: str, error: str | None, output_uri: str) -> Outcome:
    """Makes the outcome of a run that ends now.

    Args:
        pipeline: The pipeline's name.
        job: The job's resource name.
        run_key: The key of the request; "" when there was none.
        state: The state that the exit handler was given.
        error: The exit handler's error message; Vertex AI and kfp.local leave it None when there is none.
        output_uri: Where the result is. A run that failed may have left nothing there.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Outcome(pipeline, job, run_key, state, error or "", output_uri, now)


def publish(outcome: Outcome, topic: str) -> str:
    """Publishes an outcome, with its pipeline, state and run key as attributes that a subscription can filter on.

    Args:
        outcome: What to announce.
        topic: `projects/P/topics/T`; "" publishes nothing.

    Returns:
        The message's id; "" when nothing was published.

    Raises:
        InputError: The topic's name is malformed, the topic does not exist, or the step may not publish to it.
        google.api_core.exceptions.GoogleAPICallError: A failure that may pass, such as 503.
    """
    if not topic:
        return ""
    if not _TOPIC.fullmatch(topic):
        raise InputError(f"{topic!r} is not a topic's full name.", "Give it as projects/PROJECT/topics/TOPIC.")
    attributes = {"pipeline": outcome.pipeline, "state": outcome.state, "run_key": outcome.run_key[:256]}
    client = pubsub_v1.PublisherClient()
    try:
        future = client.publish(topic, outcome.to_json().encode(), timeout=_TIMEOUT_SECONDS, **attributes)
        return str(future.result(timeout=_TIMEOUT_SECONDS))
    except (NotFound, InvalidArgument) as error:
        raise InputError(
            f"Nothing can be published to {topic}: {error}", "Create the topic, or name another."
        ) from error
    except PermissionDenied as error:
        raise InputError(
            f"The step may not publish to {topic}: {error}",
            "Grant roles/pubsub.publisher on it to the run's service account.",
        ) from error
    finally:
        client.stop()
