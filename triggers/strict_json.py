"""Reads the JSON of a message in bounded time and memory, and takes nothing that would change on its way."""

import json
import math
from collections.abc import Iterator
from typing import Any

from triggers.errors import PermanentError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
# Python reads no longer integer, since that takes time in the square of the digits.
MAX_DIGITS = 4300


def read_object(data: bytes) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        data: JSON in UTF-8, at most `MAX_BYTES` long and `MAX_DEPTH` levels deep.

    Raises:
        PermanentError: It is not that, or a name stands twice in one object.
    """
    if len(data) > MAX_BYTES:
        raise PermanentError(
            f"The message is {len(data)} bytes long.",
            f"A run request has at most {MAX_BYTES}: pass a URI, not the content.",
        )
    try:
        document = json.loads(
            data.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=_integer
        )
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError:
        raise PermanentError("The message is not UTF-8 text.", "Publish a run request as JSON in UTF-8.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise PermanentError(f"The message is not JSON: {error.msg} at {where}.", "Publish a run request.") from None
    except ValueError as error:
        raise PermanentError(f"The message is not JSON that can be used: {error}.", "Correct it.") from None
    if not isinstance(document, dict):
        raise PermanentError("The message is not a JSON object.", 'Publish {"version": 1, "pipeline": ...}.')
    check_json(document)
    return document


def shown(name: object) -> str:
    """Returns a name from a message as an error may show it."""
    return repr(str(name)[:64])


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the name {shown(name)} stands twice in one object")
            seen.add(name)
    return document


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def _too_deep() -> PermanentError:
    return PermanentError("The message is nested too deeply.", f"Nest it at most {MAX_DEPTH} levels deep.")


def check_json(value: Any) -> None:
    """Checks that a value survives the way to Vertex AI: neither too deep, nor infinite, nor half a character.

    Raises:
        PermanentError: It does not.
    """
    for found, depth in _walk(value):
        if depth > MAX_DEPTH:
            raise _too_deep()
        if isinstance(found, float) and not math.isfinite(found):
            raise PermanentError("The message has a number that is not finite.", "Give a number below 1.8e308.")
        if isinstance(found, str) and any("\ud800" <= character <= "\udfff" for character in found):
            raise PermanentError("The message has half of a surrogate pair in a text.", "Escape the whole character.")


def _walk(value: Any) -> Iterator[tuple[Any, int]]:
    """Yields a value and everything in it with its depth, with an iterator for each level and no list of all."""
    levels: list[Iterator[Any]] = [iter([value])]
    while levels:
        for found in levels[-1]:
            yield found, len(levels) - 1
            if isinstance(found, dict):
                levels.append(item for pair in found.items() for item in pair)
                break
            if isinstance(found, list):
                levels.append(iter(found))
                break
        else:
            levels.pop()
