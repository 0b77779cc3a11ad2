"""What names, aliases, versions and references to them look like in a model store."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from components.errors import InputError

CHAMPION, PREVIOUS = "champion", "previous"
ALIASES, MANIFEST, CARD = "aliases.json", "version.json", "README.md"
_NAME = re.compile(r"[A-Za-z0-9](?!.*\.\.)[A-Za-z0-9._-]{0,95}", re.ASCII)
_ALIAS = re.compile(r"[a-z0-9](?!.*\.\.)[a-z0-9._-]{0,62}", re.ASCII)
_VERSION = re.compile(r"(?P<stamp>[0-9]{8}-[0-9]{6})-(?P<digest>[0-9a-f]{12})", re.ASCII)
_REFERENCE = re.compile(r"(?P<store>.*[^/])?/+(?P<name>[^/@]+)@(?P<selector>[^/@#]+)")
_STAMP = "%Y%m%d-%H%M%S"


@dataclass(frozen=True)
class StoreReference:
    """A reference to a version in a model store: `<store>/<name>@<selector>`.

    Attributes:
        store: The store's folder or `gs://` prefix.
        name: The model's name.
        selector: An alias, or a version.
    """

    store: str
    name: str
    selector: str


def parse_store_reference(reference: str) -> StoreReference | None:
    """Returns the parts of a text that has the form of a store's reference, and None of any other text."""
    match = _REFERENCE.fullmatch(reference)
    if not match or match["store"] in ("gs:", "file:"):
        return None
    return StoreReference(match["store"] or "/", match["name"], match["selector"])


def check_name(name: str) -> None:
    """Checks the name of a model.

    Raises:
        InputError: It has other characters than those that mean the same in a path, a URI and a reference.
    """
    if not is_name(name):
        raise InputError(
            f"{name!r} is no name for a model.",
            "Give 1 to 96 letters, digits, '-', '_' and single dots, with a letter or digit first.",
        )


def is_name(text: str) -> bool:
    """Tells whether a text can be the name of a model."""
    return _NAME.fullmatch(text) is not None


def check_alias(alias: str) -> None:
    """Checks the name of an alias.

    Raises:
        InputError: It has other characters than lower-case letters, digits, '-', '_' and '.', or looks like a version.
    """
    if is_version(alias):
        raise InputError(f"{alias!r} looks like a version.", "Give the alias another name.")
    if not _ALIAS.fullmatch(alias):
        raise InputError(
            f"{alias!r} is no name for an alias.",
            "Give 1 to 63 lower-case letters, digits, '-', '_' and single dots, with a letter or digit first.",
        )


def is_version(text: str) -> bool:
    """Tells whether a text has the form of a version's name."""
    match = _VERSION.fullmatch(text)
    if not match:
        return False
    try:
        datetime.strptime(match["stamp"], _STAMP)
    except ValueError:
        return False
    return True


def version_name(created: datetime, digest: str) -> str:
    """Returns the name of a version: when it was made, in UTC, and the first 12 digits of its digest."""
    return f"{created.astimezone(UTC):{_STAMP}}-{digest[:12]}"


def has_digest(version: str, digest: str) -> bool:
    """Tells whether a version's name is one of a Model with this digest."""
    return version.endswith(f"-{digest[:12]}")


def time_after(versions: list[str], now: datetime) -> datetime:
    """Returns when a new version was made, so that its name sorts after all others.

    Now, unless another version has the same second, or comes from a machine whose clock is ahead.
    """
    newest = max((version[:15] for version in versions), default="")
    if not newest or f"{now.astimezone(UTC):{_STAMP}}" > newest:
        return now
    return datetime.strptime(newest, _STAMP).replace(tzinfo=UTC) + timedelta(seconds=1)
