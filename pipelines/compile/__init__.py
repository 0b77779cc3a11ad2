"""Compiles pipelines: what kfp writes, with the machines that steps ask for, retry policies and one image."""

import difflib
import json
from importlib import import_module
from typing import Any

from google.protobuf import json_format

from components.image import COMPONENT_IMAGE
from pipelines.compile.retries import retry_steps
from pipelines.machines import applied_profile
from triggers import custom_job, machine

PIPELINES = ("basic", "batch_classification", "train_classifier", "train_classifier_in_container")


def compile_pipeline(name: str, image: str = COMPONENT_IMAGE) -> dict[str, Any]:
    """Compiles one pipeline.

    Args:
        name: One of `PIPELINES`.
        image: The image that steps run in, best by digest; the default is the constant that submission replaces.

    Returns:
        The PipelineSpec as JSON: one document, since Vertex AI takes no platform features.

    Raises:
        ValueError: As for `compile_spec`.
    """
    return compile_spec(getattr(import_module(f"pipelines.{name}"), name), image)


def compile_spec(pipeline: Any, image: str = COMPONENT_IMAGE) -> dict[str, Any]:
    """Compiles any pipeline, with the GPU profiles that its steps ask for; a step without a retry policy is given one.

    Args:
        pipeline: A function decorated with `@dsl.pipeline`.
        image: As for `compile_pipeline`.

    Returns:
        The PipelineSpec as JSON.

    Raises:
        ValueError: The pipeline uses a platform feature, which Vertex AI refuses.
    """
    if json_format.MessageToDict(pipeline.platform_spec):
        raise ValueError(
            f"The pipeline {pipeline.name} uses kfp-kubernetes or a workspace. Vertex AI refuses both: take them out."
        )
    spec = retry_steps(json_format.MessageToDict(pipeline.pipeline_spec))
    for label, executor in spec["deploymentSpec"]["executors"].items():
        accelerator = executor.get("container", {}).get("resources", {}).get("accelerator", {})
        if profile := applied_profile(accelerator.get("resourceType", "")):
            spec = machine.lay(spec, profile.to_json(), [label])
    for executor in spec["deploymentSpec"]["executors"].values():
        container = executor.get("container", {})
        if custom_job.image_of(container) == COMPONENT_IMAGE:
            executor["container"] = custom_job.with_image(container, image)
    return spec


def to_json(document: dict[str, Any]) -> str:
    """Returns a document as it is committed: sorted and indented, so that a change is a small diff."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def difference(name: str, committed: str, current: str) -> list[str]:
    """Returns the lines of a unified diff between a committed file and what would be written now.

    The version of the kfp SDK is left out of the comparison, and so is the image: both say where a spec was compiled,
    not what it does.
    """
    before, after = (_comparable(text).splitlines() for text in (committed, current))
    return list(
        difflib.unified_diff(before, after, f"compiled/{name} (committed)", f"compiled/{name} (now)", lineterm="")
    )


def _comparable(text: str) -> str:
    try:
        document = json.loads(text)
    except ValueError:
        return text
    document.pop("sdkVersion", None)
    for executor in document.get("deploymentSpec", {}).get("executors", {}).values():
        if "container" in executor:
            executor["container"] = custom_job.with_image(executor["container"], "")
    return to_json(document)
