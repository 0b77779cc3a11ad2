"""Looks into a model store, and moves its aliases: `python -m components.deployment.store --help`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from components.deployment.store.names import CHAMPION, PREVIOUS, StoreReference, parse_store_reference
from components.deployment.store.store import ModelStore, find_version
from components.errors import InputError

app = typer.Typer(add_completion=False, no_args_is_help=True)
StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="The store: a folder or a gs:// prefix.")]
ModelArgument = Annotated[str, typer.Argument(metavar="STORE/NAME", help="A model: its store, / and its name.")]


@app.callback()
def main() -> None:
    """Look into a model store, and move its aliases.

    Example: python -m components.deployment.store rollback gs://my-bucket/models/tickets
    """


@app.command("list")
def list_models(
    store: StoreArgument, name: Annotated[str, typer.Argument(help="Only this model, with all its versions.")] = ""
) -> None:
    """List the models of a store, or the versions of one.

    Example: python -m components.deployment.store list gs://my-bucket/models tickets
    """
    with explained():
        opened = ModelStore(store)
        table = Table("version", "aliases", "pushed") if name else Table("model", "versions", CHAMPION)
        if not name:
            for model in opened.names():
                table.add_row(model, str(len(opened.versions(model))), opened.aliases(model).get(CHAMPION, "none"))
        else:
            aliases = opened.aliases(name)
            for version in opened.versions(name):
                named = ", ".join(sorted(alias for alias, target in aliases.items() if target == version))
                table.add_row(version, named, str(opened.find(name, version).details.get("created", "")))
        if not table.row_count:
            raise InputError(
                f"There is no {f'version of {name!r}' if name else 'model'} in {opened.uri}.",
                "Check the store's path, or push a model to it.",
            )
        Console(soft_wrap=True).print(table)


@app.command()
def show(
    reference: Annotated[str, typer.Argument(metavar="STORE/NAME@ALIAS", help="A version, by an alias or its name.")],
) -> None:
    """Show all that is known of a version, as JSON.

    Example: python -m components.deployment.store show gs://my-bucket/models/tickets@champion
    """
    with explained():
        version = find_version(_parse(reference, "STORE/NAME@ALIAS"))
        aliases = ModelStore(_parse(reference, "STORE/NAME@ALIAS").store).aliases(version.name)
        named = sorted(alias for alias, target in aliases.items() if target == version.version)
        known = {"reference": version.reference, "aliases": named, **version.details}
        print(json.dumps(known, indent=2, ensure_ascii=False))


@app.command()
def rollback(model: ModelArgument) -> None:
    """Make the champion before the champion again. A second rollback undoes the first.

    Example: python -m components.deployment.store rollback gs://my-bucket/models/tickets
    """
    with explained():
        parsed = _parse(f"{model}@{CHAMPION}", "STORE/NAME")
        _print_aliases(ModelStore(parsed.store).roll_back(parsed.name))


@app.command("set-alias")
def set_alias(
    model: ModelArgument,
    alias: Annotated[str, typer.Argument(help=f"The alias; moving {CHAMPION} also moves {PREVIOUS}.")],
    version: Annotated[str, typer.Argument(help="The version that it is to stand for.")],
) -> None:
    """Make an alias stand for a version.

    Example: python -m components.deployment.store set-alias gs://my-bucket/models/tickets staging \
    20260131-120000-0123456789ab
    """
    with explained():
        parsed = _parse(f"{model}@{CHAMPION}", "STORE/NAME")
        _print_aliases(ModelStore(parsed.store).set_alias(parsed.name, alias, version))


@contextmanager
def explained() -> Iterator[None]:
    """Ends with 2 and two lines, what is wrong and what to change, where a person can mend it."""
    try:
        yield
    except InputError as error:
        console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
        console.print(error.headline, style="bold red")
        console.print(error.remedy)
        raise typer.Exit(2) from None


def _parse(reference: str, form: str) -> StoreReference:
    parsed = parse_store_reference(reference)
    if not parsed:
        raise InputError(
            f"{reference.removesuffix(f'@{CHAMPION}')!r} does not name a model in a store.", f"Give {form}."
        )
    return parsed


def _print_aliases(aliases: dict[str, str]) -> None:
    for alias, version in sorted(aliases.items()):
        print(f"{alias}: {version}")


if __name__ == "__main__":
    app()
