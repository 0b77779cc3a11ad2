"""Every component is what the catalogue promises: thin, without pip at step start, and documented as it is."""

import ast
import json
import re
from pathlib import Path

import pytest
from google.protobuf import json_format
from kfp.dsl import container_component_class

import components
from components.image import COMPONENT_IMAGE, TRAINING_IMAGE

FOLDER = Path(components.__file__).parent
NAMES = sorted(components.CATALOGUE)


def folder_of(name):
    return FOLDER / components.CATALOGUE[name] / name


def function_of(name):
    component = getattr(components, name)
    is_container = isinstance(component, container_component_class.ContainerComponent)
    return component.pipeline_func if is_container else component.python_func


def spec_of(name):
    return json_format.MessageToDict(getattr(components, name).pipeline_spec)


def interface_of(name, side):
    definitions = spec_of(name)["root"].get(f"{side}Definitions", {})
    return {**definitions.get("parameters", {}), **definitions.get("artifacts", {})}


def test_the_catalogue_names_every_component_folder():
    found = {path.parent.name for path in FOLDER.glob("*/*/component.py")}
    assert found == set(NAMES)


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(AttributeError, match="classify_text"):
        components.classify_texts  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_a_step_starts_without_pip_in_the_constant_image(name):
    (executor,) = spec_of(name)["deploymentSpec"]["executors"].values()
    assert executor["container"]["image"] in (COMPONENT_IMAGE, TRAINING_IMAGE)
    assert "pip" not in json.dumps(executor["container"]["command"][:3])


@pytest.mark.parametrize("name", NAMES)
def test_a_declaration_imports_only_kfp_and_the_image_at_its_top(name):
    tree = ast.parse((folder_of(name) / "component.py").read_text())
    modules = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert modules <= {"typing", "kfp", "kfp.dsl", "components.image"}


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_described(name):
    docstring = function_of(name).__doc__
    for parameter in function_of(name).__annotations__:
        if parameter != "return":
            assert re.search(rf"^\s+{parameter}: \S", docstring, re.MULTILINE), f"{name}: {parameter}"


def table_of(text, heading):
    """The rows of a README's table by their first cell; the heading is the table's first cell."""
    table = re.search(rf"^\| {heading} \|.*?(?=\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    rows = table[0].splitlines()[2:] if table else []
    return {row.split("`")[1]: row.split(" | ") for row in rows}


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_lists_inputs_and_outputs_as_they_are(name):
    text = (folder_of(name) / "README.md").read_text()
    inputs = table_of(text, "input")
    assert set(inputs) == set(interface_of(name, "input"))
    assert set(table_of(text, "output")) == set(interface_of(name, "output"))
    for parameter, definition in interface_of(name, "input").items():
        if "defaultValue" in definition:
            default = definition["defaultValue"]
            if definition["parameterType"] == "NUMBER_INTEGER":
                default = int(default)
            shown = inputs[parameter][2].strip().strip("`")
            assert shown in (json.dumps(default), repr(default)), f"{parameter}: {default!r}, and not {shown}"
