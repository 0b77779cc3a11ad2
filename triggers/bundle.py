"""Writes what is deployed as the Cloud Run function: `python -m triggers.bundle`."""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from triggers.errors import ConfigurationError, PermanentError
from triggers.rule_files import FILE, as_json, check_rules, read_rules
from triggers.spec import MACHINES, compiled_folder, pipeline_names

_PACKAGE = Path(__file__).resolve().parent
# Commands for a person: the function does not carry what they need.
_COMMANDS = ("bundle.py", "check_rules.py", "find.py", "publish.py")
_MAIN = '''"""The entry points that Cloud Run functions looks for."""

from triggers.main import on_message, on_object_finalized, on_request

__all__ = ["on_message", "on_object_finalized", "on_request"]
'''


def write_bundle(output: Path, compiled: Path | None = None, rules: Path | None = None) -> list[str]:
    """Writes the function's source, whole or not at all.

    Args:
        output: The folder to write. A bundle that is there is replaced, anything else is left alone.
        compiled: The folder of compiled pipelines; `compiled_folder()` when None.
        rules: A file of rules for new objects, YAML or JSON, which is carried as JSON; None for none.

    Returns:
        The pipelines that the function will serve.

    Raises:
        ConfigurationError: There is nothing to serve, the rules cannot be read, or the output is something else.
        PermanentError: A rule makes no run of these pipelines.
    """
    output = output.resolve()
    compiled = compiled or compiled_folder()
    names = pipeline_names(compiled)
    if not names or not (compiled / MACHINES).exists():
        raise ConfigurationError(f"{compiled} holds no pipeline and GPU profiles: run `python -m pipelines.compile`.")
    if output.exists() and any(output.iterdir()) and not _is_bundle(output):
        raise ConfigurationError(f"{output} exists and is no bundle: name another folder with --output.")
    checked = read_rules(rules) if rules else None
    if checked:
        check_rules(checked, compiled)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"
        (new / "triggers").mkdir(parents=True)
        (new / "compiled").mkdir()
        (new / "main.py").write_text(_MAIN)
        shutil.copyfile(_PACKAGE / "requirements.txt", new / "requirements.txt")
        for module in sorted(_PACKAGE.glob("*.py")):
            if module.name not in _COMMANDS:
                shutil.copyfile(module, new / "triggers" / module.name)
        for document in sorted(compiled.glob("*.json")):
            shutil.copyfile(document, new / "compiled" / document.name)
        if checked:
            (new / FILE).write_text(as_json(checked))
        # The temporary folder is private to its owner; the bundle is an ordinary folder.
        new.chmod(0o755)
        if output.exists():
            output.rename(old)
        new.rename(output)
    return names


def _is_bundle(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "main.py").read_text() == _MAIN


def main(
    output: Annotated[Path, typer.Option(help="The folder to write.")] = Path("bundle"),
    rules: Annotated[Path | None, typer.Option(help="Rules for new objects, YAML or JSON; checked first.")] = None,
) -> None:
    """Write the Cloud Run function's source: main.py, triggers/, compiled/, requirements.txt and the rules.

    Example: python -m triggers.bundle --output bundle --rules rules.yaml
    """
    try:
        names = write_bundle(output, rules=rules)
    except (ConfigurationError, PermanentError) as error:
        errors = Console(stderr=True, highlight=False, soft_wrap=True)
        errors.print("[bold red]The bundle cannot be written[/]")
        errors.print(str(error), markup=False)
        raise typer.Exit(2) from error
    Console(highlight=False, soft_wrap=True).print(f"Wrote {output}, which serves {', '.join(names)}.", markup=False)


if __name__ == "__main__":
    typer.run(main)
