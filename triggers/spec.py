"""Compiled pipelines: found by name, and a request's parameters checked against them."""

import difflib
import json
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from triggers.errors import ConfigurationError, PermanentError

# Parameters travel as doubles, which hold no larger integer exactly.
MAX_INTEGER = 2**53
MACHINES = "machines.json"
# A job's id begins with the pipeline's name, so the name obeys the rules of the id.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

# What stands for a type of the compiled spec in Python, and in an error.
_TYPES: dict[str, tuple[type, str]] = {
    "STRING": (str, "text"),
    "NUMBER_INTEGER": (int, "an integer"),
    "NUMBER_DOUBLE": (float, "a number"),
    "BOOLEAN": (bool, "true or false"),
    "LIST": (list, "a list"),
    "STRUCT": (dict, "an object"),
}


def compiled_folder() -> Path:
    """Returns the folder of the compiled pipelines: beside this package, unless `COMPILED_FOLDER` names another."""
    beside = Path(__file__).resolve().parent.parent / "compiled"
    return Path(os.environ.get("COMPILED_FOLDER") or beside)


def pipeline_names(folder: Path) -> list[str]:
    """Returns the names of the pipelines in a folder, sorted.

    Raises:
        ConfigurationError: There is no such folder.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"The folder of compiled pipelines is missing: {folder}. Deploy it with the trigger.")
    return sorted(path.stem for path in folder.glob("*.json") if path.name != MACHINES and _NAME.fullmatch(path.stem))


def load(name: str, folder: Path | None = None) -> dict[str, Any]:
    """Reads a compiled pipeline.

    Args:
        name: The pipeline's name. It is looked up in a listing, so it is never part of a path.
        folder: Where to look; `compiled_folder()` when None.

    Returns:
        The PipelineSpec. It is shared between calls: do not change it.

    Raises:
        PermanentError: The folder holds no pipeline of that name.
        ConfigurationError: The folder is missing, or the file is not a compiled pipeline.
    """
    folder = folder or compiled_folder()
    names = pipeline_names(folder)
    if name not in names:
        raise PermanentError(f"There is no pipeline {name!r}.", suggestion(name, names))
    spec = read_json(folder / f"{name}.json")
    if "root" not in spec or "deploymentSpec" not in spec:
        raise ConfigurationError(f"{folder / name}.json is not a compiled pipeline. Compile it again.")
    return spec


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file that is deployed with the trigger, once for as long as it stays the same.

    Raises:
        ConfigurationError: The file is missing or not JSON.
    """
    try:
        return _read_json(path, path.stat().st_mtime_ns)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}). Compile the pipelines again.") from error


@lru_cache(maxsize=64)
def _read_json(path: Path, changed: int) -> dict[str, Any]:
    return json.loads(path.read_bytes())


def suggestion(name: str, known: list[str]) -> str:
    """Returns a sentence with the nearest known name, and all of them."""
    if not known:
        return "There are none."
    near = difflib.get_close_matches(name, known, n=1)
    return (f"Did you mean {near[0]!r}? " if near else "") + f"There are: {', '.join(known)}."


def declared_parameters(spec: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the parameters that a pipeline takes, by name."""
    return spec["root"].get("inputDefinitions", {}).get("parameters", {})


def check_parameters(spec: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Checks a request's parameters against the pipeline, as Vertex AI would after the job is created.

    Args:
        spec: A compiled pipeline.
        parameters: Values by name, as JSON gives them. null for a parameter with a default means that it is not given.

    Returns:
        The given parameters, in the type that the pipeline declares (5.0 as 5 for an integer, 5 as 5.0 for a number).

    Raises:
        PermanentError: A parameter is unknown, missing or of the wrong type. Values are not quoted: they may be secret.
    """
    declared = declared_parameters(spec)
    checked = {}
    for name, value in parameters.items():
        if name not in declared:
            raise PermanentError(f"The pipeline has no parameter {name[:64]!r}.", suggestion(name, sorted(declared)))
        if value is None and declared[name].get("isOptional"):
            continue
        checked[name] = _check(name, value, declared[name]["parameterType"])
    missing = sorted(name for name, about in declared.items() if name not in checked and not about.get("isOptional"))
    if missing:
        names = f"parameter{'s' * (len(missing) > 1)} {', '.join(missing)}"
        raise PermanentError(f"The pipeline's {names} must be given.", "Add what is missing to `parameters`.")
    return checked


def _check(name: str, value: Any, kind: str) -> Any:
    if kind not in _TYPES:
        raise PermanentError(f"The parameter {name} has the type {kind}.", "A request cannot give such a parameter.")
    if kind == "NUMBER_INTEGER" and isinstance(value, float) and value.is_integer():
        value = int(value)
    if kind == "NUMBER_DOUBLE" and isinstance(value, int) and not isinstance(value, bool):
        _check_numbers(name, value)
        value = float(value)
    python_type, expected = _TYPES[kind]
    # Exactly that type: to Python, true is an integer.
    if type(value) is not python_type:
        raise PermanentError(f"The parameter {name} is {_kind_of(value)}.", f"Give {expected}.")
    _check_numbers(name, value)
    return value


def _check_numbers(name: str, value: Any) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _check_numbers(name, item)
    elif isinstance(value, list):
        for item in value:
            _check_numbers(name, item)
    elif isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise PermanentError(
            f"The parameter {name} has an integer beyond 2**53, which Vertex AI would round.", "Give it as text."
        )
    elif isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        raise PermanentError(f"The parameter {name} has a number that is not finite.", "Give a finite number.")


def _kind_of(value: Any) -> str:
    return next((meaning for python_type, meaning in _TYPES.values() if type(value) is python_type), "null")


def typed(spec: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """Gives the texts of a command line the types that the pipeline declares.

    Args:
        spec: A compiled pipeline.
        texts: Values by name, such as `{"num_shards": "2"}`. Lists and objects are JSON.

    Returns:
        Typed values, not yet checked. A name that the pipeline does not have keeps its text.

    Raises:
        PermanentError: A text cannot be read as the parameter's type.
    """
    declared = declared_parameters(spec)
    return {
        name: _typed(name, text, declared.get(name, {}).get("parameterType", "STRING")) for name, text in texts.items()
    }


def _typed(name: str, text: str, kind: str) -> Any:
    if kind == "STRING":
        return text
    try:
        if kind == "BOOLEAN":
            return {"true": True, "false": False}[text.strip().lower()]
        if kind == "NUMBER_INTEGER":
            return int(text)
        return float(text) if kind == "NUMBER_DOUBLE" else json.loads(text)
    except (ValueError, KeyError, RecursionError):
        as_json = " as JSON" if kind in ("LIST", "STRUCT") else ""
        expected = _TYPES[kind][1] if kind in _TYPES else kind
        raise PermanentError(f"The parameter {name} is not {expected}.", f"Give {expected}{as_json}.") from None
