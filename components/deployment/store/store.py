"""Versions and aliases of the models in one store."""

import hashlib
import json
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.deployment.store.names import (
    ALIASES,
    CARD,
    CHAMPION,
    MANIFEST,
    PREVIOUS,
    StoreReference,
    check_alias,
    check_name,
    has_digest,
    is_name,
    is_version,
    time_after,
    version_name,
)
from components.deployment.store.places import Content, open_place
from components.errors import InputError
from components.models import combine_digests, digests_of_files

ANY_VERSION = "any version"
# Each round is lost only to a writer who won it, so this many writers can come at once.
_SWAP_ROUNDS = 100


@dataclass(frozen=True)
class Version:
    """A version of a model, whole and never changed.

    Attributes:
        name: The model's name.
        version: The version's name, `yyyymmdd-hhmmss-digest`.
        uri: The folder that it is in.
        reference: What names it for ever, `<store>/<name>@<version>`.
        digest: The Model's digest.
        details: What was written down when it was pushed: created, architecture, labels, parameters, metrics, lineage.
    """

    name: str
    version: str
    uri: str
    reference: str
    digest: str
    details: dict[str, Any] = field(default_factory=dict)


class ChampionMovedError(InputError):
    """Another version became the champion while a candidate was compared with the one before."""


class NotThereError(InputError):
    """The store has no such model or alias yet; `allow_none` can bear that."""


class ModelStore:
    """A model store in a folder or a `gs://` prefix, which need not exist before the first push.

    Args:
        uri: A local folder or a `gs://` URI.

    Attributes:
        uri: Its absolute path or URI, without a slash at the end.

    Raises:
        InputError: The URI names no place, or one that cannot hold a store.
    """

    def __init__(self, uri: str):
        self._place = open_place(uri)
        self.uri = self._place.uri.rstrip("/")

    def names(self) -> list[str]:
        """Lists the models that have a version."""
        return [name for name in self._place.folders() if is_name(name) and self.versions(name)]

    def versions(self, name: str) -> list[str]:
        """Lists a model's versions, oldest first; none when there is no such model."""
        check_name(name)
        found = [path.split("/") for path in self._place.files(name)]
        return sorted(folder for folder, file in found if file == MANIFEST and is_version(folder))

    def aliases(self, name: str) -> dict[str, str]:
        """Returns a model's aliases and the versions that they stand for."""
        check_name(name)
        return self._parse_aliases(name, self._place.read(f"{name}/{ALIASES}"))

    def find(self, name: str, selector: str) -> Version:
        """Finds a version of a model.

        Args:
            name: The model's name.
            selector: A version, or an alias such as `champion`.

        Raises:
            NotThereError: The store has no such alias.
            InputError: The store has no such version, or its manifest is broken.
        """
        check_name(name)
        version = selector
        if not is_version(selector):
            check_alias(selector)
            aliases = self.aliases(name)
            if selector not in aliases:
                # "None yet" is no answer about a bucket that is missing: a listing says so.
                self._place.folders()
                there = f"It has: {', '.join(sorted(aliases))}." if aliases else "It has none yet: push a model first."
                raise NotThereError(f"{name!r} in {self.uri} has no alias {selector!r}.", there)
            version = aliases[selector]
        return self._load(name, version)

    def push(self, name: str, folder: Path, details: dict[str, Any], make_card: Callable[[str], str]) -> Version:
        """Stores a Model as a new version, or finds the version that has the same files.

        Args:
            name: The model's name.
            folder: The Model's folder; its files are those of the Model contract, others are left out.
            details: What is written down beside it, JSON values.
            make_card: Makes the model card (README.md) of a version's reference.

        Returns:
            The version. One that was found again keeps its own card and details.

        Raises:
            InputError: The name will not do, or the store cannot be written.
        """
        digests = digests_of_files(folder)
        digest = combine_digests(digests)
        while True:
            versions = self.versions(name)
            for version in reversed(versions):
                if has_digest(version, digest) and (found := self._load(name, version)).digest == digest:
                    return found
            # Folders of pushes that broke off, or go on at this moment, have no manifest, but their names are taken.
            taken = {path.split("/")[0] for path in self._place.files(name)}
            now = datetime.now(UTC)
            version = version_name(time_after([v for v in taken if is_version(v)], now), digest)
            with tempfile.TemporaryDirectory(prefix="push-") as temporary:
                card, manifest = Path(temporary, CARD), Path(temporary, MANIFEST)
                card.write_text(make_card(self.reference(name, version)), encoding="utf-8")
                files = {file: folder / file for file in digests}
                document = {
                    "format": 1,
                    "name": name,
                    "version": version,
                    "digest": digest,
                    "created": now.isoformat(timespec="seconds"),
                    "files": digests | {CARD: hashlib.sha256(card.read_bytes()).hexdigest()},
                }
                manifest.write_bytes(_to_json(details | document))
                if self._place.publish(f"{name}/{version}", {**files, CARD: card, MANIFEST: manifest}, CARD, MANIFEST):
                    return self._load(name, version)

    def move_champion(self, name: str, version: str, expected: str = ANY_VERSION) -> dict[str, str]:
        """Makes a version the champion, and the champion of before `previous`, in one swap.

        Args:
            name: The model's name.
            version: The new champion. When it is the champion already, nothing changes.
            expected: The champion that the caller knows; "" for none.

        Returns:
            The aliases after the swap.

        Raises:
            ChampionMovedError: The champion is another one than expected, and nothing was changed.
            InputError: There is no such version.
        """
        self._load(name, version)

        def move(aliases: dict[str, str]) -> dict[str, str]:
            champion = aliases.get(CHAMPION, "")
            if champion == version:
                return aliases
            if expected not in (ANY_VERSION, champion):
                raise ChampionMovedError(
                    f"{champion or 'no version'} is now the champion of {name!r}, and no longer "
                    f"{expected or 'none'}, which {version} was compared with; {version} is stored, but it is not the "
                    "champion.",
                    "Run again, to compare it with the champion of now.",
                )
            return aliases | {CHAMPION: version} | ({PREVIOUS: champion} if champion else {})

        return self._change_aliases(name, move)

    def set_alias(self, name: str, alias: str, version: str) -> dict[str, str]:
        """Makes an alias stand for a version; moving `champion` also moves `previous`.

        Raises:
            InputError: There is no such version, or the alias's name will not do.
        """
        check_alias(alias)
        if alias == CHAMPION:
            return self.move_champion(name, version)
        if alias == PREVIOUS:
            raise InputError(
                f"{PREVIOUS!r} is always the champion before.", f"Move {CHAMPION!r}, or give another alias."
            )
        self._load(name, version)
        return self._change_aliases(name, lambda aliases: aliases | {alias: version})

    def roll_back(self, name: str) -> dict[str, str]:
        """Exchanges `champion` and `previous` in one swap, so that a second time undoes the first.

        Raises:
            InputError: There is no champion before the present one.
        """

        def exchange(aliases: dict[str, str]) -> dict[str, str]:
            if PREVIOUS not in aliases:
                raise InputError(
                    f"{name!r} in {self.uri} has no champion to go back to.",
                    f"Set one: set-alias {self.uri}/{name} {CHAMPION} VERSION.",
                )
            return aliases | {CHAMPION: aliases[PREVIOUS], PREVIOUS: aliases[CHAMPION]}

        return self._change_aliases(name, exchange)

    def reference(self, name: str, version: str) -> str:
        """Returns what names a version for ever."""
        return f"{self.uri}/{name}@{version}"

    def _change_aliases(self, name: str, change: Callable[[dict[str, str]], dict[str, str]]) -> dict[str, str]:
        """Changes the aliases of a model as they are at that moment: what others change meanwhile is not lost."""
        path = f"{name}/{ALIASES}"
        for _ in range(_SWAP_ROUNDS):
            before = self._place.read(path)
            aliases = self._parse_aliases(name, before)
            after = change(aliases)
            # The id tells this write from every other, also from one that sets the same aliases.
            document = {"aliases": after, "changed": datetime.now(UTC).isoformat(), "change": uuid.uuid4().hex}
            if after == aliases or self._place.swap(path, _to_json(document), before):
                return after
        raise TimeoutError(f"Others changed the aliases of {name!r} in {self.uri} {_SWAP_ROUNDS} times: try again.")

    def _parse_aliases(self, name: str, content: Content | None) -> dict[str, str]:
        if content is None:
            check_name(name)
            return {}
        try:
            aliases = json.loads(content.data)["aliases"]
            if not all(is_version(version) for version in aliases.values()):
                raise ValueError("an alias stands for what is no version")
            if PREVIOUS in aliases and CHAMPION not in aliases:
                raise ValueError(f"there is a {PREVIOUS!r} without a {CHAMPION!r}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.uri}/{name}/{ALIASES} is broken: {error}.",
                "Restore it, or remove it and set the aliases again.",
            ) from error
        return dict(aliases)

    def _load(self, name: str, version: str) -> Version:
        check_name(name)
        content = self._place.read(f"{name}/{version}/{MANIFEST}") if is_version(version) else None
        if content is None:
            raise InputError(
                f"{name!r} in {self.uri} has no version {version!r}.",
                f"Look at what there is: python -m components.deployment.store list {self.uri} {name}.",
            )
        try:
            manifest = json.loads(content.data)
            if not has_digest(version, manifest["digest"]):
                raise ValueError("its digest is that of another version")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.uri}/{name}/{version}/{MANIFEST} is broken: {error}.", "Choose another version."
            ) from error
        uri, reference = f"{self.uri}/{name}/{version}", self.reference(name, version)
        return Version(name, version, uri, reference, manifest["digest"], manifest)


def find_version(reference: StoreReference) -> Version:
    """Finds the version that a reference names now.

    Raises:
        NotThereError: The store has no such alias.
        InputError: The store has no such version.
    """
    return ModelStore(reference.store).find(reference.name, reference.selector)


def _to_json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode()
