"""Refuses, before anything runs, the pipelines that kfp.local cannot run or would get wrong without a word.

Each check is a registered function from a pipeline to problems; a message names the task and says what to change.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from components.errors import InputError
from emulator.conditions import to_python
from emulator.containers import EXECUTOR_MODULE, check_container, is_container_component
from emulator.custom_jobs import unwrap

# A process takes 131,071 bytes in one argument, and a step's whole input is one argument.
MAX_PARAMETER_BYTES = 100_000
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://")
# What is filled in, by the emulator or by kfp.local.
_KNOWN_PLACEHOLDERS = re.compile(
    r"\{\{\$\.(inputs\.parameters\[[^\]]*\]|pipeline_(job_(name|uuid|resource_name|create_time_utc|schedule_time_utc)"
    r"|root|task_(name|uuid)))\}\}"
)


@dataclass(frozen=True)
class Pipeline:
    """A compiled pipeline and the parameters of a run."""

    spec: dict[str, Any]
    parameters: dict[str, Any]

    def dags(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields each DAG: "" for the pipeline itself or the component's name, and its component specification."""
        yield "", self.spec["root"]
        for name, component in self.spec.get("components", {}).items():
            if "dag" in component:
                yield name, component

    def tasks(self) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """Yields each task: its name, its specification, and the component around it."""
        for _, component in self.dags():
            for name, task in component["dag"].get("tasks", {}).items():
                yield name, task, component

    def component(self, task: dict[str, Any]) -> dict[str, Any]:
        """Returns the component that a task runs."""
        return dict(self.spec.get("components", {}).get(task.get("componentRef", {}).get("name"), {}))

    def executor(self, component: dict[str, Any]) -> dict[str, Any]:
        """Returns what executes a component; empty for a DAG."""
        executors = self.spec.get("deploymentSpec", {}).get("executors", {})
        return dict(executors.get(component.get("executorLabel"), {}))


Check = Callable[[Pipeline], Iterator[InputError]]
_CHECKS: list[Check] = []


def _register(check: Check) -> Check:
    _CHECKS.append(check)
    return check


def find_problems(spec: dict[str, Any], parameters: dict[str, Any]) -> list[InputError]:
    """Returns everything in a pipeline that keeps it from running here as it would on Vertex AI.

    Args:
        spec: The compiled pipeline.
        parameters: The run's parameters.
    """
    pipeline = Pipeline(unwrap(spec)[0], parameters)
    return [problem for check in _CHECKS for problem in check(pipeline)]


def check(spec: dict[str, Any], parameters: dict[str, Any]) -> None:
    """Refuses a pipeline that `find_problems` finds something in.

    Raises:
        InputError: The first problem, and how many others there are.
    """
    problems = find_problems(spec, parameters)
    if problems:
        others = f" ({len(problems) - 1} more problems of this kind.)" if len(problems) > 1 else ""
        raise InputError(problems[0].headline, problems[0].remedy + others)


@_register
def _executors(pipeline: Pipeline) -> Iterator[InputError]:
    for name, task, _ in pipeline.tasks():
        component = pipeline.component(task)
        if "dag" in component:
            continue
        executor = pipeline.executor(component)
        container = executor.get("container", {})
        command = [*container.get("command", []), *container.get("args", [])]
        if command[:3] == ["python3", "-m", EXECUTOR_MODULE]:
            yield InputError(
                f"The task {name} is a containerized Python component, whose code is only in its image.",
                "Take target_image out, so that the step's source is compiled in.",
            )
        elif is_container_component(container):
            if problem := check_container(name, container):
                yield problem
        elif not container and "importer" not in executor:
            yield InputError(
                f"The task {name} is executed by {', '.join(executor) or 'nothing'}, which does not run here.",
                "Use Python components and importers of local files.",
            )
        if any(len(str(part).encode()) > MAX_PARAMETER_BYTES for part in command):
            yield InputError(
                f"The source of the task {name} is longer than {MAX_PARAMETER_BYTES} bytes.",
                "Move code and embedded files into an installed package.",
            )


@_register
def _importers(pipeline: Pipeline) -> Iterator[InputError]:
    root = pipeline.spec["root"]
    for name, task, around in pipeline.tasks():
        importer = pipeline.executor(pipeline.component(task)).get("importer")
        if not importer:
            continue
        given = task.get("inputs", {}).get("parameters", {}).get("uri", {})
        uri = importer.get("artifactUri", {}).get("constant") or given.get("runtimeValue", {}).get("constant")
        if uri is None and around is root and "componentInputParameter" in given:
            uri = _root_value(pipeline, given["componentInputParameter"])
        if isinstance(uri, str) and _REMOTE.match(uri):
            yield InputError(
                f"The importer {name} names {uri}, and kfp.local does not download it: the step would look for a file "
                "that is not on this machine.",
                "Import a local file or folder, or pass the URI as a parameter to a step that reads it.",
            )
        if importer.get("downloadToWorkspace"):
            yield InputError(
                f"The importer {name} downloads to a workspace, which kfp.local does only in part and Vertex AI "
                "not at all.",
                "Take download_to_workspace out.",
            )


@_register
def _loops(pipeline: Pipeline) -> Iterator[InputError]:
    remedy = (
        "Put the loop into a @dsl.pipeline of its own, call that with the value as its input, and loop there over "
        "the unnamed output of a task or over a parameter."
    )
    for name, task, _ in pipeline.tasks():
        iterator = task.get("parameterIterator")
        if not iterator:
            continue
        items, inputs = iterator.get("items", {}).get("inputParameter"), task.get("inputs", {}).get("parameters", {})
        source = inputs.get(items, {}).get("taskOutputParameter", {}) if items else {}
        if source and source.get("outputParameterKey") != "Output":
            yield InputError(
                f"The loop {name} runs over the named output {source.get('outputParameterKey')} of the task "
                f"{source.get('producerTask')}, which kfp.local does not find.",
                "Let the component return the list as its only, unnamed output.",
            )
        if source and items in _used_inputs(pipeline.component(task)):
            yield InputError(
                f"The body of the loop {name} uses the list that it runs over; kfp.local silently gives it the loop's "
                "item instead.",
                remedy,
            )
        for channel, given in inputs.items():
            outer = given.get("taskOutputParameter", {})
            if outer and channel != items:
                yield InputError(
                    f"The body of the loop {name} uses the output {outer.get('outputParameterKey')} of the task "
                    f"{outer.get('producerTask')} outside it; kfp.local silently gives it the loop's item instead.",
                    remedy,
                )
            outer_item = given.get("componentInputParameter", "")
            if outer_item != iterator.get("itemInput") and outer_item.endswith("-loop-item"):
                yield InputError(
                    f"The body of the loop {name} uses the item of a loop around it; kfp.local silently gives it its "
                    "own item instead.",
                    remedy,
                )


@_register
def _outputs(pipeline: Pipeline) -> Iterator[InputError]:
    for _, component in pipeline.dags():
        for output, selectors in component["dag"].get("outputs", {}).get("artifacts", {}).items():
            if len(selectors.get("artifactSelectors", [])) > 1:
                yield InputError(
                    f"dsl.OneOf over artifacts (the output {output}) does not run with kfp.local.",
                    "Let each branch end in its own consumer, or choose between parameters.",
                )


@_register
def _unset_inputs(pipeline: Pipeline) -> Iterator[InputError]:
    root = pipeline.spec["root"].get("inputDefinitions", {}).get("parameters", {})
    for name in _without_value(root, pipeline.parameters):
        yield InputError(
            f"The optional pipeline parameter {name} is not given, and kfp.local cannot pass nothing on.",
            "Give it, or use '' or 0 as its default.",
        )
    for name, task, _ in pipeline.tasks():
        component = pipeline.component(task)
        definitions = component.get("inputDefinitions", {}).get("parameters", {})
        for unset in _without_value(definitions, task.get("inputs", {}).get("parameters", {})):
            number = definitions[unset].get("parameterType") == "NUMBER_INTEGER"
            if "dag" in component or number:
                yield InputError(
                    f"The optional input {unset} of the task {name} is not given, and kfp.local cannot leave it out.",
                    "Give it, or use '' or 0 as its default.",
                )


@_register
def _unknown_inputs(pipeline: Pipeline) -> Iterator[InputError]:
    kinds = (("parameters", "componentInputParameter"), ("artifacts", "componentInputArtifact"))
    for name, task, around in pipeline.tasks():
        for kind, key in kinds:
            known = {*around.get("inputDefinitions", {}).get(kind, {}), *_items_of_loops(pipeline)}
            for given in task.get("inputs", {}).get(kind, {}).values():
                if key in given and given[key] not in known:
                    yield InputError(
                        f"The task {name} takes {given[key]}, which nothing around it has; kfp's compiler writes this "
                        "for a loop inside a loop that mixes both items.",
                        "Put the inner loop into a @dsl.pipeline of its own.",
                    )


@_register
def _texts(pipeline: Pipeline) -> Iterator[InputError]:
    for name, value in pipeline.parameters.items():
        text = json.dumps(value, ensure_ascii=False)
        if "{{$" in text:
            yield InputError(
                f"The pipeline parameter {name} contains '{{{{$', which every step would take for a placeholder.",
                "Write it in another way.",
            )
        if len(text.encode()) > MAX_PARAMETER_BYTES:
            yield InputError(
                f"The pipeline parameter {name} takes {len(text.encode())} bytes; a step takes at most "
                f"{MAX_PARAMETER_BYTES} here, and Vertex AI 131,072 for all of a task's parameters.",
                "Put the value into a file, and pass its URI.",
            )
    for name, task, _ in pipeline.tasks():
        for channel, given in task.get("inputs", {}).get("parameters", {}).items():
            constant = json.dumps(given.get("runtimeValue", {}).get("constant"), ensure_ascii=False)
            left = _KNOWN_PLACEHOLDERS.sub("", constant)
            if "{{$" in left:
                yield InputError(
                    f"The input {channel} of the task {name} contains a placeholder that kfp.local does not fill: "
                    f"{left[left.index('{{$') :][:60]}",
                    "Take it out.",
                )
            if len(constant.encode()) > MAX_PARAMETER_BYTES:
                yield InputError(
                    f"The input {channel} of the task {name} takes more than {MAX_PARAMETER_BYTES} bytes.",
                    "Put the value into a file, and pass its URI.",
                )


@_register
def _conditions(pipeline: Pipeline) -> Iterator[InputError]:
    for name, task, _ in pipeline.tasks():
        condition = task.get("triggerPolicy", {}).get("condition", "")
        try:
            to_python(condition or "true")
        except SyntaxError:
            yield InputError(
                f"The condition of {name} cannot be read, perhaps for a quote or a line break in a text: {condition}",
                "Compare with a text that has neither.",
            )


def _items_of_loops(pipeline: Pipeline) -> set[str]:
    return {task["parameterIterator"]["itemInput"] for _, task, _ in pipeline.tasks() if "parameterIterator" in task}


def _used_inputs(component: dict[str, Any]) -> set[str]:
    tasks = component.get("dag", {}).get("tasks", {}).values()
    inputs = [given for task in tasks for given in task.get("inputs", {}).get("parameters", {}).values()]
    return {given["componentInputParameter"] for given in inputs if "componentInputParameter" in given}


def _without_value(definitions: dict[str, Any], given: dict[str, Any]) -> list[str]:
    return [
        name
        for name, definition in definitions.items()
        if name not in given
        and definition.get("isOptional")
        and "defaultValue" not in definition
        and definition.get("parameterType") != "TASK_FINAL_STATUS"
    ]


def _root_value(pipeline: Pipeline, name: str) -> Any:
    definition = pipeline.spec["root"].get("inputDefinitions", {}).get("parameters", {}).get(name, {})
    return pipeline.parameters.get(name, definition.get("defaultValue"))
