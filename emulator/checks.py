"""What Vertex AI checks when a PipelineJob is created: its id, names, labels, output folder and parameters."""

import re
from typing import Any

from components.errors import InputError
from emulator.errors import invalid
from emulator.preflight import check

MAX_DISPLAY_NAME, MAX_LABELS, MAX_LABEL = 128, 64, 63
RESERVED_LABEL = "vertex-ai-pipelines-run-billing-id"
FAILURE_POLICIES = (
    "PIPELINE_FAILURE_POLICY_UNSPECIFIED",
    "PIPELINE_FAILURE_POLICY_FAIL_SLOW",
    "PIPELINE_FAILURE_POLICY_FAIL_FAST",
)
_JOB_ID = re.compile(r"[a-z][-a-z0-9]{0,126}")
_OUTPUT_ONLY = ("name", "createTime", "startTime", "endTime", "updateTime", "state", "jobDetail", "error")


def check_job_id(job_id: str) -> None:
    """Refuses an id that Vertex AI does not take.

    Raises:
        ApiError: It is not 1 to 127 characters, a lowercase letter and then lowercase letters, digits and hyphens.
    """
    if not _JOB_ID.fullmatch(job_id):
        raise invalid(
            f"The pipeline job id {job_id!r} is invalid: it must match [a-z][-a-z0-9]{{0,126}}, "
            "a lowercase letter and then lowercase letters, digits and hyphens, 127 characters at most."
        )


def check_job(body: Any) -> dict[str, Any]:
    """Checks a PipelineJob as it arrives.

    Args:
        body: The request's JSON.

    Returns:
        The job without the fields that only the service sets, its enums as names.

    Raises:
        ApiError: INVALID_ARGUMENT, with what is wrong.
    """
    if not isinstance(body, dict):
        raise invalid("The request's body must be a PipelineJob, a JSON object.")
    job = {key: value for key, value in body.items() if key not in _OUTPUT_ONLY}
    if not isinstance(job.get("displayName", ""), str) or len(job.get("displayName", "")) > MAX_DISPLAY_NAME:
        raise invalid(f"display_name must be a text of at most {MAX_DISPLAY_NAME} characters.")
    _check_labels(job.get("labels", {}))
    spec, runtime = job.get("pipelineSpec"), job.get("runtimeConfig", {})
    if not isinstance(spec, dict) or not isinstance(spec.get("root"), dict) or not isinstance(runtime, dict):
        given = "only template_uri is given, which this service does not load" if job.get("templateUri") else "missing"
        raise invalid(f"pipeline_spec must be a compiled pipeline: {given}. Send the compiled JSON as pipeline_spec.")
    if not re.fullmatch(r"2\.1\.\d+", str(spec.get("schemaVersion"))):
        version = spec.get("schemaVersion")
        raise invalid(f"pipeline_spec.schema_version is {version!r}: compile with kfp 2, which writes 2.1.0.")
    if runtime.get("parameters"):
        raise invalid("runtime_config.parameters belongs to schema versions up to 2.0.0: use parameter_values.")
    root = runtime.get("gcsOutputDirectory") or spec.get("defaultPipelineRoot", "")
    if not re.fullmatch(r"gs://[a-z0-9][-_.a-z0-9]+(/.*)?", str(root), re.DOTALL):
        raise invalid(f"runtime_config.gcs_output_directory must be a gs://bucket/folder URI; it is {root!r}.")
    parameters = runtime.get("parameterValues", {})
    if not isinstance(parameters, dict):
        raise invalid("runtime_config.parameter_values must be a JSON object.")
    check_parameters(spec, parameters)
    try:
        check(spec, parameters)
    except InputError as error:
        raise invalid(str(error)) from error
    policy = runtime.get("failurePolicy", 0)
    if isinstance(policy, int) and 0 <= policy < len(FAILURE_POLICIES):
        policy = FAILURE_POLICIES[policy]
    if policy not in FAILURE_POLICIES:
        raise invalid(f"runtime_config.failure_policy is {policy!r}: use one of {', '.join(FAILURE_POLICIES)}.")
    if "failurePolicy" in runtime:
        job["runtimeConfig"] = {**runtime, "failurePolicy": policy}
    return job


def check_parameters(spec: dict[str, Any], parameters: dict[str, Any]) -> None:
    """Checks a run's parameters against the inputs of a compiled pipeline.

    Raises:
        ApiError: One is unknown, missing or of the wrong type.
    """
    inputs = spec["root"].get("inputDefinitions", {})
    definitions = inputs.get("parameters", {})
    unknown = sorted(set(parameters) - set(definitions))
    if unknown:
        known = ", ".join(sorted(definitions)) or "none"
        raise invalid(f"Unknown pipeline parameters: {', '.join(unknown)}. The pipeline has: {known}.")
    missing = sorted(
        name
        for name, definition in definitions.items()
        if name not in parameters and not definition.get("isOptional") and "defaultValue" not in definition
    )
    if missing:
        raise invalid(f"Missing pipeline parameters: {', '.join(missing)}. They have no default.")
    for name, value in parameters.items():
        expected = definitions[name].get("parameterType", "")
        if not _has_type(value, expected):
            raise invalid(f"The pipeline parameter {name} must be {expected}; it is {value!r}.")
    artifacts = [name for name, each in inputs.get("artifacts", {}).items() if not each.get("isOptional")]
    if artifacts:
        raise invalid(f"The pipeline takes artifacts ({', '.join(artifacts)}): bring them in with dsl.importer.")


def _has_type(value: Any, expected: str) -> bool:
    # Everything travels as protobuf's Struct, which has no whole numbers, so 5.0 is a good integer.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match expected:
        case "NUMBER_INTEGER":
            return is_number and float(value).is_integer()
        case "NUMBER_DOUBLE":
            return is_number
        case "STRING":
            return isinstance(value, str)
        case "BOOLEAN":
            return isinstance(value, bool)
        case "LIST":
            return isinstance(value, list)
        case "STRUCT":
            return isinstance(value, dict)
    return True


def _check_labels(labels: Any) -> None:
    if not isinstance(labels, dict) or len(labels) > MAX_LABELS:
        raise invalid(f"labels must be an object of at most {MAX_LABELS} labels.")
    for key, value in labels.items():
        if key == RESERVED_LABEL:
            raise invalid(f"The label {key} is reserved for the service.")
        if not _is_label(key) or not key[:1].isalpha():
            raise invalid(
                f"The label key {key!r} is invalid: a lowercase letter, then lowercase letters, digits, _ and -, "
                f"{MAX_LABEL} characters at most."
            )
        if not _is_label(value):
            raise invalid(
                f"The value {value!r} of the label {key} is invalid: lowercase letters, digits, _ and -, "
                f"{MAX_LABEL} characters at most."
            )


def _is_label(text: Any) -> bool:
    # International letters are allowed where they have no uppercase form or are lowercase.
    return (
        isinstance(text, str)
        and len(text) <= MAX_LABEL
        and all(c in "_-" or c.isdigit() or (c.isalpha() and c == c.lower()) for c in text)
    )
