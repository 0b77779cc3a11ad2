"""Merges hyper-parameters from a file and from parameters, and checks them."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.errors import InputError
from components.storage import filesystem
from components.training.hyperparameters import Hyperparameters, load_hyperparameters, parse_hyperparameters

# A list of names and values is some hundred bytes; whoever points at a data set by mistake hears so at once.
LARGEST_FILE = 1_000_000


def read(source_uri: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Reads hyper-parameters from a file and lays others over them.

    Args:
        source_uri: A JSON or YAML file, a local path or a `gs://` URI; "" reads none.
        values: Names and values that win over those of the file.

    Returns:
        What was given, checked, in the order of `Hyperparameters`; what neither names is left out.

    Raises:
        InputError: The file cannot be read, a name is unknown, or a value is out of range.
    """
    given = parse_hyperparameters(values).model_dump(exclude_unset=True)
    read_values = _load(source_uri) if source_uri else {}
    merged = {**read_values, **given}
    for name in Hyperparameters.model_fields:
        if name in given and name in read_values and given[name] != read_values[name]:
            print(f"{name}: {given[name]} (the file says {read_values[name]})", flush=True)
        elif name in merged:
            print(f"{name}: {merged[name]}", flush=True)
    if not merged:
        print("No hyper-parameter is given: all have their defaults.", flush=True)
    return {name: merged[name] for name in Hyperparameters.model_fields if name in merged}


def _load(uri: str) -> dict[str, Any]:
    fs, path = filesystem(uri)
    fs.invalidate_cache()
    if not fs.isfile(path):
        raise InputError(f"There is no file at {uri!r}.", "Check the path, and that the step may read it.")
    if fs.size(path) > LARGEST_FILE:
        raise InputError(
            f"{uri!r} has {fs.size(path):,} bytes, too many for hyper-parameters.",
            "Give a JSON or YAML file with names and values.",
        )
    with tempfile.TemporaryDirectory(prefix="hyperparameters-") as folder:
        # The file keeps its name, which messages say.
        copy = Path(folder) / Path(path).name
        fs.get_file(path, str(copy))
        return load_hyperparameters(copy)
