"""Puts a run's own training image into a compiled pipeline, when the operator allows that image."""

from collections.abc import Collection, Mapping
from typing import Any

from triggers import custom_job
from triggers.errors import PermanentError

# What the steps carry until a run names an image, without the tag.
PLACEHOLDER = "kfp-transformers-training:"
PARAMETER = "training_image"


def with_training_image(
    compiled: dict[str, Any], parameters: Mapping[str, Any], allowed: Collection[str] | None
) -> dict[str, Any]:
    """Returns a pipeline whose training steps run in the image that the run's parameters name.

    An image is static in a compiled pipeline, so it cannot simply be a parameter of it.

    Args:
        compiled: A compiled pipeline; it is not changed.
        parameters: The run's parameters.
        allowed: The images that may be named; an entry that ends in `*` allows what begins like it. None allows any.

    Raises:
        PermanentError: The pipeline needs an image and none is named, or it is not an allowed one.
    """
    deployment = compiled["deploymentSpec"]
    labels = [label for label, executor in deployment["executors"].items() if _has_placeholder(executor)]
    if not labels:
        return compiled
    image = parameters.get(PARAMETER, "")
    if not image:
        raise PermanentError("The pipeline trains in an image, and the request names none.", f"Set {PARAMETER}.")
    if allowed is not None and not any(_allows(entry, image) for entry in allowed):
        names = ", ".join(sorted(allowed))
        among = f"It allows: {names}." if names else "It allows none: its variable TRAINING_IMAGES names no image."
        raise PermanentError(f"This trigger does not allow the training image {image[:256]!r}.", among)
    executors = dict(deployment["executors"])
    for label in labels:
        container = custom_job.with_image(executors[label]["container"], image)
        executors[label] = {**executors[label], "container": container}
    return compiled | {"deploymentSpec": deployment | {"executors": executors}}


def _has_placeholder(executor: Mapping[str, Any]) -> bool:
    return custom_job.image_of(executor.get("container", {})).startswith(PLACEHOLDER)


def _allows(entry: str, image: str) -> bool:
    return image.startswith(entry[:-1]) if entry.endswith("*") else image == entry
