"""Checks of what runs, and will cost someone an afternoon."""

import re
from collections.abc import Iterator
from typing import Any

from components.errors import InputError
from components.image import COMPONENT_IMAGE
from emulator.preflight import find_problems
from pipelines.lint.subject import Finding, Severity, Step, Subject, Task, register

_MOVING = {"latest", "main", "master", "dev", "develop", "nightly", "stable", "edge"}
_PIP = re.compile(r"(?:python3? -m |\b)pip3? install\b|\buv pip install\b")
_PIP_IN_SOURCE = re.compile(
    r"""["']pip3?["'],\s*["']install["']|\bos\.system\(\s*f?["'](?:python3? -m )?pip3? install\b"""
)
_PACKAGE = re.compile(r"'([A-Za-z0-9][\w.\[\],-]*)'")
# A variable whose name has one of these words holds a secret, unless the name says that it holds only a pointer to one.
_SECRET_WORDS = {"TOKEN", "SECRET", "PASSWORD", "PASSWD", "APIKEY", "CREDENTIAL", "CREDENTIALS"}
_SECRET_PAIRS = {("API", "KEY"), ("ACCESS", "KEY"), ("PRIVATE", "KEY"), ("AUTH", "KEY")}
_POINTERS = {"NAME", "FILE", "PATH", "DIR", "ID", "URI", "URL", "TYPE", "VERSION", "ENDPOINT", "LENGTH", "COUNT"}
_SECRET_VALUES = re.compile(
    r"\b(hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|AKIA[0-9A-Z]{16}|AIza[\w-]{35}|sk-[A-Za-z0-9_-]{32,}"
    r"|xox[abp]-[\w-]{20,})|-----BEGIN (?:RSA |EC |OPENSSH )?PRIVATE KEY"
)
_HIDE = "Read it from Secret Manager in the step; on Kubernetes, use_secret_as_env."
_PLACE = re.compile(r"(^|_)(uri|url|path|dir|folder|file|table|query|bucket|glob)$")
# Names of places that are written to.
_WRITTEN = re.compile(r"(^|_)(root|out|output|staging|tmp|temp|destination|target|workspace|log|work)(_|$)")
_CHANGING = re.compile(
    r"datetime\.(?:datetime\.)?(?:now|utcnow|today)\(|\bdate\.today\(|\buuid\.?uuid[14]\(|\buuid4\(|\burlopen\("
    r"|\brequests\.get\(|\burlretrieve\("
)


@register("image")
def check_images(subject: Subject) -> Iterator[Finding]:
    """Images whose name stays while what it names changes."""
    by_image: dict[str, list[Step]] = {}
    for step in subject.steps:
        by_image.setdefault(str(step.container.get("image", "")), []).append(step)
    for image, steps in by_image.items():
        where, keys = _all(steps), steps[0].keys
        if not image:
            yield Finding(Severity.ERROR, where, "It has no image.", "Name one.", keys)
        if "{{$" in image or "@sha256:" in image or image in ("", COMPONENT_IMAGE):
            continue
        tag = image.rpartition("/")[2].partition(":")[2]
        if tag and tag not in _MOVING:
            continue
        message = f"The image {image} has {f'the moving tag {tag}' if tag else 'no tag, which means latest'}."
        if any(step.cached for step in steps):
            message += " The cache knows the name and not what is behind it: it gives results of an older image."
        remedy = "Name a version, or better a digest: image@sha256:..."
        yield Finding(Severity.WARNING, where, message, remedy, keys)


def _all(steps: list[Step]) -> str:
    names = [step.label.removeprefix("exec-") for step in steps]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"step{'s' * (len(names) > 1)} {', '.join(names[:3])}{more}"


@register("pip")
def check_installs(subject: Subject) -> Iterator[Finding]:
    """Packages that are installed when a step starts."""
    remedy = "Put them into the image, and compile with install_kfp_package=False and no packages_to_install."
    by_packages: dict[tuple[str, ...], list[Step]] = {}
    for step in subject.steps:
        scripts = [part for part in step.command if _PIP.search(part) and "\ndef " not in part]
        if scripts or _PIP_IN_SOURCE.search(_source(step)):
            packages = {name for part in scripts for name in _PACKAGE.findall(part)}
            unpinned = tuple(sorted(name for name in packages if not re.search(r"[=<>@]", name)))
            by_packages.setdefault(unpinned, []).append(step)
    for unpinned, steps in by_packages.items():
        which = f", of no fixed version: {', '.join(unpinned)}" if unpinned else ""
        message = f"Packages are installed at each start{which}. That takes time and network."
        yield Finding(Severity.WARNING, _all(steps), message, remedy, steps[0].keys)


@register("secret")
def check_secrets(subject: Subject) -> Iterator[Finding]:
    """Secrets that everyone can read who sees the pipeline. What they are is never printed."""
    for step in subject.steps:
        for variable in step.container.get("env", []):
            name, value = str(variable.get("name", "")), str(variable.get("value", ""))
            if _SECRET_VALUES.search(value) or (_is_secret(name) and _is_literal(value)):
                yield _exposed(step.where, f"The environment variable {name}", value, (*step.keys, "env"))
        if any(_SECRET_VALUES.search(part) for part in step.command):
            yield Finding(Severity.ERROR, step.where, "Its command holds a key, for all to read.", _HIDE, step.keys)
    parameters = subject.spec["root"].get("inputDefinitions", {}).get("parameters", {})
    values: list[tuple[str, str, Any, tuple[str, ...]]] = [
        ("the pipeline", name, each.get("defaultValue"), ("root", name)) for name, each in parameters.items()
    ]
    for task in subject.tasks:
        given = task.spec.get("inputs", {}).get("parameters", {})
        values += [
            (task.where, name, each.get("runtimeValue", {}).get("constant"), task.keys) for name, each in given.items()
        ]
    for where, name, value, keys in values:
        if isinstance(value, str) and (_SECRET_VALUES.search(value) or (_is_secret(name) and _is_literal(value))):
            yield _exposed(where, f"The value of {name}", value, keys)


def _exposed(where: str, what: str, value: str, keys: tuple[str, ...]) -> Finding:
    if _SECRET_VALUES.search(value):
        return Finding(Severity.ERROR, where, f"{what} is a key, for all to read who see the file.", _HIDE, keys)
    return Finding(Severity.WARNING, where, f"{what} may be a secret, for all to read who see the file.", _HIDE, keys)


def _is_secret(name: str) -> bool:
    words = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).upper().replace("-", "_").split("_")
    named = bool(_SECRET_WORDS & set(words)) or any(
        pair in _SECRET_PAIRS for pair in zip(words, words[1:], strict=False)
    )
    return named and words[-1] not in _POINTERS


def _is_literal(value: str) -> bool:
    """Whether a value can be a secret: not a place, a number, a switch, a placeholder or the name of a resource."""
    if re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]{1,12})+", value):
        return False
    if len(value) < 8 or "{{$" in value or "://" in value or value.startswith(("/", "projects/", "$")):
        return False
    return not re.fullmatch(r"[\d.]+|true|false", value, re.IGNORECASE) and " " not in value


@register("retry")
def check_retries(subject: Subject) -> Iterator[Finding]:
    """Steps that one short failure of a machine or a network ends, and the run with them."""
    steps = [task for task in subject.tasks if "executorLabel" in task.component and not _is_importer(subject, task)]
    without = [task for task in steps if not task.spec.get("retryPolicy", {}).get("maxRetryCount")]
    if not without:
        return
    names = ", ".join(task.name for task in without[:5]) + (", ..." if len(without) > 5 else "")
    which = "No step" if len(without) == len(steps) else f"{len(without)} of {len(steps)} steps: not one of them"
    message = f"{which} is tried again when it fails: {names}."
    remedy = "task.set_retry(2, backoff_duration='60s') where a second try can help."
    yield Finding(Severity.NOTE, "the file", message, remedy, without[0].keys)


@register("cache")
def check_caching(subject: Subject) -> Iterator[Finding]:
    """Steps whose result is taken from the cache although it would be another one today."""
    remedy = "set_caching_options(False), or give it what changes as an input: a date, a generation, a digest."
    uncached = {(task.parent, task.name) for task in subject.tasks if not _is_cached(task)}
    for task in subject.tasks:
        step = next((step for step in subject.steps if task in step.tasks), None)
        if step is None or not _is_cached(task):
            continue
        found = _CHANGING.search(_source(step))
        if found:
            message = f"It is cached, and its source asks for what changes: {found[0].rstrip('(')}."
            yield Finding(Severity.WARNING, task.where, message, remedy, task.keys)
        elif place := _place_without_digest(task, uncached):
            message = f"It is cached by the text of {place}: a second run neither reads nor writes there."
            yield Finding(Severity.NOTE, task.where, message, remedy, task.keys)


def _is_cached(task: Task) -> bool:
    return bool(task.spec.get("cachingOptions", {}).get("enableCache"))


def _place_without_digest(task: Task, uncached: set[tuple[str, str]]) -> str:
    """Returns an input that names a place, when no other input comes from a step that looks at what is there."""
    inputs = task.spec.get("inputs", {})
    producers = {
        given[key]["producerTask"]
        for kind in ("parameters", "artifacts")
        for given in inputs.get(kind, {}).values()
        for key in ("taskOutputParameter", "taskOutputArtifact")
        if key in given
    }
    if inputs.get("artifacts") or any((task.parent, name) in uncached for name in producers):
        return ""
    # Where nothing comes out, something is written there, not read.
    definitions = task.component.get("inputDefinitions", {}).get("parameters", {})
    if not task.component.get("outputDefinitions"):
        return ""
    texts = (name for name, each in definitions.items() if each.get("parameterType") == "STRING")
    return next((name for name in texts if _PLACE.search(name) and not _WRITTEN.search(name)), "")


def _source(step: Step) -> str:
    return "\n".join(part for part in step.command if "\ndef " in part)


def _is_importer(subject: Subject, task: Task) -> bool:
    return "importer" in subject.executors.get(task.component.get("executorLabel", ""), {})


@register("local")
def check_local_run(subject: Subject) -> Iterator[Finding]:
    """What does not run on this machine, or runs otherwise without a word."""
    required = {
        name: _example(each.get("parameterType", ""))
        for name, each in subject.spec["root"].get("inputDefinitions", {}).get("parameters", {}).items()
        if not each.get("isOptional")
    }
    by_remedy: dict[str, list[InputError]] = {}
    for problem in find_problems(subject.raw, required):
        by_remedy.setdefault(problem.remedy, []).append(problem)
    for remedy, problems in by_remedy.items():
        first = problems[0].headline
        severity = Severity.WARNING if any("silently" in each.headline for each in problems) else Severity.NOTE
        keys = next((task.keys for task in subject.tasks if f" {task.name} " in first), ())
        more = f" ({len(problems) - 1} more like it.)" if len(problems) > 1 else ""
        yield Finding(severity, "on this machine", first + more, remedy, keys)


def _example(kind: str) -> Any:
    values: dict[str, Any] = {"NUMBER_INTEGER": 1, "NUMBER_DOUBLE": 1.0, "BOOLEAN": True, "LIST": [], "STRUCT": {}}
    return values.get(kind, "a")


@register("spec")
def check_references(subject: Subject) -> Iterator[Finding]:
    """Tasks that name what the file has not."""
    components = subject.spec.get("components", {})
    for task in subject.tasks:
        name = task.spec.get("componentRef", {}).get("name", "")
        if name not in components:
            message = f"It runs the component {name or 'of no name'}, which the file has not."
            yield Finding(Severity.ERROR, task.where, message, "Compile the pipeline again.", task.keys)
        siblings = {each.name for each in subject.tasks if each.parent == task.parent}
        for other in task.spec.get("dependentTasks", []):
            if other not in siblings:
                message = f"It waits for {other}, which is not beside it."
                yield Finding(Severity.ERROR, task.where, message, "Compile the pipeline again.", task.keys)
    for name, component in components.items():
        label = component.get("executorLabel")
        if label is not None and label not in subject.executors:
            message = f"It is executed by {label}, which the file has not."
            where = f"component {name.removeprefix('comp-')}"
            yield Finding(Severity.ERROR, where, message, "Compile the pipeline again.", ("components", name))
