import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.errors import ConfigurationError, PermanentError
from triggers.spec import check_parameters, compiled_folder, load, pipeline_names, typed


def one(kind, **more):
    parameter = {"parameterType": kind, **more}
    return {"root": {"inputDefinitions": {"parameters": {"value": parameter}}}, "deploymentSpec": {}}


@pytest.mark.parametrize(
    ("kind", "given_value", "value"),
    [
        ("STRING", "5", "5"),
        ("NUMBER_INTEGER", 5.0, 5),
        ("NUMBER_INTEGER", -(2**53), -(2**53)),
        ("NUMBER_DOUBLE", 5, 5.0),
        ("BOOLEAN", False, False),
        ("LIST", [1, "a", None], [1, "a", None]),
        ("STRUCT", {"a": [1.5]}, {"a": [1.5]}),
    ],
)
def test_a_value_gets_the_declared_type(kind, given_value, value):
    checked = check_parameters(one(kind), {"value": given_value})["value"]
    assert checked == value
    assert type(checked) is type(value)


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        ("STRING", 5, "is an integer. Give text"),
        ("STRING", None, "is null"),
        ("NUMBER_INTEGER", True, "is true or false. Give an integer"),
        ("NUMBER_INTEGER", "5", "is text. Give an integer"),
        ("NUMBER_INTEGER", 5.5, "Give an integer"),
        ("NUMBER_INTEGER", 2**53 + 1, r"beyond 2\*\*53"),
        ("NUMBER_INTEGER", 1e300, r"beyond 2\*\*53"),
        ("NUMBER_DOUBLE", True, "Give a number"),
        ("NUMBER_DOUBLE", math.inf, "not finite"),
        ("NUMBER_DOUBLE", math.nan, "not finite"),
        ("NUMBER_DOUBLE", 10**400, r"beyond 2\*\*53"),
        ("BOOLEAN", 1, "Give true or false"),
        ("BOOLEAN", "true", "Give true or false"),
        ("LIST", {}, "Give a list"),
        ("STRUCT", [], "Give an object"),
        ("LIST", [[2**60]], r"beyond 2\*\*53"),
        ("STRUCT", {"a": {"b": math.nan}}, "not finite"),
        ("TASK_FINAL_STATUS", {}, "TASK_FINAL_STATUS"),
    ],
)
def test_a_value_of_another_type_is_refused(kind, value, problem):
    with pytest.raises(PermanentError, match=problem):
        check_parameters(one(kind), {"value": value})


def test_an_unknown_parameter_names_the_nearest(two_steps):
    with pytest.raises(PermanentError, match="no parameter 'cuont'. Did you mean 'count'"):
        check_parameters(two_steps, {"cuont": 1})


def test_a_missing_parameter_is_named(two_steps):
    with pytest.raises(PermanentError, match="parameter count must be given"):
        check_parameters(two_steps, {"text": "a"})


def test_null_means_not_given_where_there_is_a_default(two_steps):
    assert check_parameters(two_steps, {"count": 1, "text": None}) == {"count": 1}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("STRING", "true", "true"),
        ("NUMBER_INTEGER", "-3", -3),
        ("NUMBER_DOUBLE", "1e-4", 1e-4),
        ("BOOLEAN", "True", True),
        ("LIST", "[1, 2]", [1, 2]),
        ("STRUCT", '{"a": "b=c"}', {"a": "b=c"}),
    ],
)
def test_a_text_of_the_command_line_is_typed(kind, text, value):
    assert typed(one(kind), {"value": text}) == {"value": value}


@pytest.mark.parametrize(
    ("kind", "text"),
    [("NUMBER_INTEGER", "3.5"), ("NUMBER_DOUBLE", "much"), ("BOOLEAN", "yes"), ("LIST", "1,2"), ("STRUCT", "{")],
)
def test_a_text_that_cannot_be_typed_is_refused(kind, text):
    with pytest.raises(PermanentError, match="The parameter value is not"):
        typed(one(kind), {"value": text})


@given(
    st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["NUMBER_INTEGER", "NUMBER_DOUBLE"]),
)
def test_a_number_is_kept_exactly_or_refused(number, kind):
    try:
        checked = check_parameters(one(kind), {"value": number})["value"]
    except PermanentError:
        assert kind == "NUMBER_INTEGER"
        assert not float(number).is_integer() or abs(number) > 2**53
    else:
        assert checked == number
        assert check_parameters(one(kind), {"value": checked}) == {"value": checked}


def test_pipelines_are_found_by_name_only(compiled, tmp_path):
    assert pipeline_names(compiled) == ["two_steps"]
    assert load("two_steps", compiled)["pipelineInfo"]["name"] == "two-steps"
    (tmp_path / "secret.json").write_text("{}")
    for name in ("machines", "two-steps", f"../{tmp_path.name}/secret", str(tmp_path / "secret"), "gs://b/two_steps"):
        with pytest.raises(PermanentError, match="There is no pipeline"):
            load(name, compiled)


def test_a_broken_deployment_is_not_the_fault_of_the_message(tmp_path):
    with pytest.raises(ConfigurationError, match="missing"):
        load("two_steps", tmp_path / "nowhere")
    for content in ("{", "[]", json.dumps({"pipelineInfo": {}})):
        (tmp_path / "two_steps.json").write_text(content)
        with pytest.raises(ConfigurationError):
            load("two_steps", tmp_path)


def test_the_compiled_folder_is_beside_the_package(monkeypatch):
    monkeypatch.delenv("COMPILED_FOLDER", raising=False)
    assert compiled_folder().name == "compiled"
    assert (compiled_folder().parent / "triggers" / "spec.py").exists()
