"""A step's command, the line that says why it failed, and the conditions between steps."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.conditions import evaluate
from emulator.steps import last_error, run_step, with_this_python

TRACEBACK = ["Traceback (most recent call last):", '  File "x.py", line 1, in f', "    raise E"]


@pytest.mark.parametrize(
    ("lines", "code", "expected"),
    [
        ([*TRACEBACK, "ValueError: no: good"], 1, "ValueError: no: good"),
        (
            [*TRACEBACK, "package.errors.InputError: Bad. Mend it.", "", "bye"],
            1,
            "package.errors.InputError: Bad. Mend it.",
        ),
        ([*TRACEBACK, "KeyboardInterrupt"], 1, "KeyboardInterrupt"),
        (["some words"], 2, "some words (exit code 2)"),
        ([], 3, "The step ended with exit code 3."),
        (["Killed"], 137, "The step was ended by signal 9 (SIGKILL)."),
        ([], -15, "The step was ended by signal 15 (SIGTERM)."),
    ],
)
def test_last_error(lines, code, expected):
    assert last_error(lines, code) == expected


def test_only_the_scripts_name_the_interpreter(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/a path/python")
    script = 'python3 -m kfp.dsl.executor_main "$program_path/ephemeral_component.py" "$@"'
    command = ["sh", "-ec", script, "run('python3')", "--x", "python3"]
    changed = with_this_python(command)
    assert changed[2].startswith("'/a path/python' -m kfp")
    assert changed[3:] == command[3:]


def test_input_that_is_too_long_says_what_to_do():
    assert "pass large values as an artifact" in run_step(["true", "x" * 140_000], {}, print)


def test_lines_arrive_and_the_environment_is_set():
    lines = []
    assert run_step(["sh", "-c", "echo one; echo $MINE >&2"], {"MINE": "two"}, lines.append) == ""
    assert lines == ["one", "two"]


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ("inputs.parameter_values['v'] == true", True, True),
        ("inputs.parameter_values['v'] != 'a'", "a", False),
        ("int(inputs.parameter_values['v']) > 3", 4.0, True),
        ("!(inputs.parameter_values['v'] == 'a') && (inputs.parameter_values['v'] != 'b')", "c", True),
        ("inputs.parameter_values['v'] == 'a' || inputs.parameter_values['v'] == 'b'", "b", True),
        ("inputs.parameter_values['v'] == 'x && y || !z'", "x && y || !z", True),
    ],
)
def test_condition(condition, value, expected):
    assert evaluate(condition, {"v": value}) is expected


@given(st.text(), st.text())
def test_condition_compares_any_text_as_it_is(left, right):
    condition = "inputs.parameter_values['a'] == inputs.parameter_values['b']"
    assert evaluate(condition, {"a": left, "b": right}) is (left == right)
