"""Evaluates the conditions of a compiled pipeline: comparisons of parameters, in the CEL that kfp's compiler writes."""

import ast
import re
from types import SimpleNamespace
from typing import Any

_NAMES = {"true": True, "false": False, "null": None, "int": int, "double": float, "string": str, "bool": bool}


def to_python(condition: str) -> str:
    """Returns a condition as a Python expression; text in quotes stays as it is.

    Raises:
        SyntaxError: It cannot be read.
    """
    # Quoted text is matched first, so that operators inside it are left alone.
    pattern = r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|&&|\|\||!(?!=)"
    words = {"&&": " and ", "||": " or ", "!": " not "}
    expression = re.sub(pattern, lambda match: words.get(match[0], match[0]), condition).strip()
    ast.parse(expression, mode="eval")
    return expression


def evaluate(condition: str, parameters: dict[str, Any]) -> bool:
    """Says whether a condition holds.

    Args:
        condition: Such as `inputs.parameter_values['pipelinechannel--n'] == 'a'`.
        parameters: The values by the names that the condition uses.

    Raises:
        SyntaxError: The condition cannot be read.
        KeyError: It names a parameter that is not given.
    """
    names: dict[str, Any] = {"__builtins__": {}, **_NAMES, "inputs": SimpleNamespace(parameter_values=parameters)}
    return bool(eval(to_python(condition), names))  # noqa: S307 - written by the compiler; whoever submits it runs code anyway
