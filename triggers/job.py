"""From a run request to a PipelineJob, without a network: everything that can be checked before a job is created."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triggers import custom_job, machine, request, spec
from triggers.errors import ConfigurationError, PermanentError
from triggers.request import Origin, RunRequest
from triggers.settings import Settings
from triggers.training_image import with_training_image

# What components carry until a real image is known: the name without its version.
CONSTANT_IMAGE = "kfp-transformers-python:"
FINGERPRINT_LABEL = "request-fingerprint"
MAX_LABELS = 64
MAX_LABEL = 63
MAX_DISPLAY_NAME = 128
_OWN_LABELS = (
    FINGERPRINT_LABEL,
    "machine",
    "machines-passed-over",
    "message-id",
    "pipeline",
    "run-key",
    "trace",
    "vertex-ai-pipelines-run-billing-id",
)


@dataclass(frozen=True)
class Run:
    """A request that was checked against the pipeline it names.

    Attributes:
        request: The request.
        spec: The compiled pipeline, with the request's machine and caching laid on.
        parameters: The parameters, in the types that the pipeline declares.
        key: What makes two messages the same run.
        fingerprint: A digest of what the request asks for.
        machine: The GPU profile that was chosen.
        origin: Where the request came from.
    """

    request: RunRequest
    spec: dict[str, Any]
    parameters: dict[str, Any]
    key: str
    fingerprint: str
    machine: machine.Choice
    origin: Origin

    @property
    def job_id(self) -> str:
        """The id of the PipelineJob."""
        return request.job_id(self.request.pipeline, self.key)

    @property
    def labels(self) -> dict[str, str]:
        """The user's labels, and of the trigger's own those that can be: a run is found by them from its message."""
        own = {"pipeline": self.request.pipeline, FINGERPRINT_LABEL: self.fingerprint, **self.machine.labels}
        message = {"message-id": self.origin.id, "trace": self.origin.trace}
        if self.request.run_key is not None:
            message["run-key"] = self.key
        # Of letters beyond ASCII, the service takes some only, and no label may cost a run.
        own |= {name: value for name, value in message.items() if value and value.isascii() and _is_label(value)}
        return self.request.labels | own


def check(run_request: RunRequest, origin: Origin, folder: Path | None = None, location: str = "") -> Run:
    """Checks a request against the pipeline that it names.

    A pipeline with an optional text parameter `run_key` is given the run's key there, unless the request gives another:
    so the outcome that it announces can name the key.

    Args:
        run_request: The request.
        origin: The message that it came in.
        folder: The folder of compiled pipelines; `spec.compiled_folder()` when None.
        location: The region that it runs in, where it is known: not every one has every machine.

    Returns:
        The run that it asks for.

    Raises:
        PermanentError: The pipeline, a parameter, a machine or a label is wrong.
        ConfigurationError: The compiled pipelines are not there.
    """
    compiled = spec.load(run_request.pipeline, folder)
    parameters = spec.check_parameters(compiled, run_request.parameters)
    fingerprint = request.fingerprint(run_request, parameters)
    key = request.key(run_request, origin)
    declared = spec.declared_parameters(compiled).get("run_key", {})
    if declared.get("parameterType") == "STRING" and declared.get("isOptional"):
        parameters.setdefault("run_key", key)
    _check_labels(run_request.labels)
    choice = machine.Choice({})
    if run_request.machines:
        choice = machine.choose(machine.load_machines(folder), run_request.machines, location)
        compiled = machine.lay(compiled, choice.profile)
    if run_request.enable_caching is False:
        compiled = without_caching(compiled)
    return Run(run_request, compiled, parameters, key, fingerprint, choice, origin)


def document(run: Run, settings: Settings) -> dict[str, Any]:
    """Returns the PipelineJob as JSON.

    Args:
        run: The run.
        settings: Where and as whom it runs.

    Raises:
        PermanentError: The run names a training image that is not allowed.
        ConfigurationError: The job is for Vertex AI, and the components' image is not known.
    """
    compiled = with_training_image(run.spec, run.parameters, settings.training_images)
    compiled = with_image(compiled, settings.image) if settings.image else compiled
    if not settings.emulator and any(map(_has_constant_image, compiled["deploymentSpec"]["executors"].values())):
        raise ConfigurationError("COMPONENT_IMAGE is not set: set it to the image that the components run in.")
    job = {
        "displayName": f"{run.request.pipeline} {run.key}"[:MAX_DISPLAY_NAME],
        "labels": run.labels,
        "pipelineSpec": compiled,
        "runtimeConfig": {"gcsOutputDirectory": settings.pipeline_root, "parameterValues": run.parameters},
    }
    return job | ({"serviceAccount": settings.service_account} if settings.service_account else {})


def without_caching(compiled: dict[str, Any]) -> dict[str, Any]:
    """Returns a pipeline that takes no result of an earlier run: in its root and in every pipeline inside it."""
    components = {name: _uncached(component) for name, component in compiled.get("components", {}).items()}
    return compiled | {"root": _uncached(compiled["root"])} | ({"components": components} if components else {})


def _uncached(component: dict[str, Any]) -> dict[str, Any]:
    if "dag" not in component:
        return component
    # An absent enableCache is false: what a step that opts out is compiled to.
    tasks = {name: task | {"cachingOptions": {}} for name, task in component["dag"]["tasks"].items()}
    return component | {"dag": component["dag"] | {"tasks": tasks}}


def with_image(compiled: dict[str, Any], image: str) -> dict[str, Any]:
    """Returns a pipeline whose steps run in an image, where they carried the components' constant one."""
    deployment = compiled["deploymentSpec"]
    executors = {
        label: executor | {"container": custom_job.with_image(executor["container"], image)}
        if _has_constant_image(executor)
        else executor
        for label, executor in deployment["executors"].items()
    }
    return compiled | {"deploymentSpec": deployment | {"executors": executors}}


def _has_constant_image(executor: dict[str, Any]) -> bool:
    return custom_job.image_of(executor.get("container", {})).startswith(CONSTANT_IMAGE)


def _check_labels(labels: dict[str, str]) -> None:
    own = len(_OWN_LABELS)
    if len(labels) > MAX_LABELS - own:
        raise PermanentError(f"The request has {len(labels)} labels.", f"Give at most {MAX_LABELS - own}.")
    rule = f"Use at most {MAX_LABEL} lowercase letters, digits, _ and -; a name starts with a letter."
    for name, value in labels.items():
        if name in _OWN_LABELS:
            raise PermanentError(f"The label {name} is set by the trigger.", "Give it another name.")
        if not _is_label(name) or not name[:1].isalpha():
            raise PermanentError(f"{name[:64]!r} cannot be the name of a label.", rule)
        if not _is_label(value):
            raise PermanentError(f"The label {name} has a value that cannot be one.", rule)


def _is_label(text: str) -> bool:
    letters = (character in "_-" or (character.isalnum() and character == character.lower()) for character in text)
    return len(text) <= MAX_LABEL and all(letters)
