"""Reads and changes compiled pipelines as plain JSON: pure functions, which leave what they are given as it is."""

import copy
import json
from typing import Any

from emulator.records import JobRecord


def fill_job_placeholders(spec: dict[str, Any], record: JobRecord) -> dict[str, Any]:
    """Returns a compiled pipeline with the job's own name, id and times filled in.

    kfp.local knows only some of these placeholders, and would look a step up in the cache before it fills them.
    """
    values = {
        "{{$.pipeline_job_name}}": record.id,
        "{{$.pipeline_job_uuid}}": record.id,
        "{{$.pipeline_job_resource_name}}": record.name,
        "{{$.pipeline_job_create_time_utc}}": record.created,
        "{{$.pipeline_job_schedule_time_utc}}": record.created,
    }
    text = json.dumps(spec)
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return dict(json.loads(text))


def without_caching(spec: dict[str, Any]) -> dict[str, Any]:
    """Returns a compiled pipeline in which every step runs."""
    spec = copy.deepcopy(spec)
    for component in [spec["root"], *spec.get("components", {}).values()]:
        for task in component.get("dag", {}).get("tasks", {}).values():
            task["cachingOptions"] = {}
    return spec


def with_quick_retries(spec: dict[str, Any]) -> dict[str, Any]:
    """Returns a compiled pipeline whose steps are tried again at once: nothing here gets better by waiting."""
    spec = copy.deepcopy(spec)
    for component in [spec["root"], *spec.get("components", {}).values()]:
        for task in component.get("dag", {}).get("tasks", {}).values():
            if "retryPolicy" in task:
                task["retryPolicy"] |= {"backoffDuration": "0s"}
    return spec


def argument_values(spec: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters of a run, with whole numbers as ints: JSON from protobuf has them as doubles."""
    definitions = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    return {
        name: int(value) if definitions.get(name, {}).get("parameterType") == "NUMBER_INTEGER" else value
        for name, value in parameters.items()
    }
