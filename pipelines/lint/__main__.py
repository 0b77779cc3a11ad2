"""`python -m pipelines.lint compiled`: what the checks find, and what to do about it."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.errors import InputError
from pipelines.lint import CHECKS, Finding, Severity, Subject, Target, lint, read_spec
from triggers.spec import MACHINES

_SUFFIXES = (".json", ".yaml", ".yml")
_COLORS = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}


def _files(paths: list[Path]) -> list[Path]:
    """Returns the files, and those in the folders; the table of GPU profiles that lies beside ours is no pipeline."""
    found = []
    for path in paths:
        inside = sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES) if path.is_dir() else [path]
        found += [each for each in inside if each.name != MACHINES]
    return found


def _as_json(subject: Subject, name: str, finding: Finding) -> dict[str, Any]:
    return {
        "file": str(subject.path),
        "line": subject.line_of(finding.keys),
        "severity": finding.severity,
        "check": name,
        "where": finding.where,
        "message": finding.message,
        "remedy": finding.remedy,
    }


def _summary(files: int, findings: list[dict[str, Any]]) -> Table:
    table = Table(
        "check", *Severity, title=f"{files} {'file' if files == 1 else 'files'}", box=None, title_justify="left"
    )
    counts = Counter((each["check"], each["severity"]) for each in findings)
    for name in CHECKS:
        table.add_row(name, *(str(counts[name, severity] or "") for severity in Severity))
    return table


def _print(console: Console, finding: dict[str, Any]) -> None:
    place = f"{finding['file']}:{finding['line']}"
    kind = f"[{_COLORS[finding['severity']]}]{finding['severity']}[/] {escape('[' + finding['check'] + ']')}"
    console.print(f"{escape(place)}: {kind} {escape(finding['where'])}: {escape(finding['message'])}")
    console.print(f"    {escape(finding['remedy'])}", style="dim")


def _list_checks(value: bool) -> None:
    if value:
        for name, check in CHECKS.items():
            print(f"{name:14}{(check.__doc__ or '').strip()}")
        raise typer.Exit


def main(
    paths: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Compiled pipelines, JSON or YAML, or folders of them.")
    ],
    target: Annotated[Target, typer.Option(help="Where they are to run.")] = Target.VERTEX,
    ignore: Annotated[list[str] | None, typer.Option(help="A check to leave out; may be repeated.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail for warnings too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    checks: Annotated[
        bool, typer.Option("--checks", callback=_list_checks, is_eager=True, help="List the checks.")
    ] = False,
) -> None:
    """Check compiled pipelines. Ends with 1 when there is an error (with --strict, a warning), 2 for a bad file.

    Example: python -m pipelines.lint compiled --ignore retry
    """
    console, errors = (Console(stderr=stderr, highlight=False, soft_wrap=True) for stderr in (False, True))
    unknown = sorted(set(ignore or []) - CHECKS.keys())
    findings: list[dict[str, Any]] = []
    try:
        if unknown:
            raise InputError(f"There is no check {', '.join(unknown)}.", f"There are: {', '.join(CHECKS)}.")
        files = _files(paths)
        for path in files:
            subject = read_spec(path, target)
            findings += [_as_json(subject, *each) for each in lint(subject, frozenset(ignore or []))]
    except InputError as error:
        errors.print(f"[bold red]{escape(error.headline)}[/]")
        errors.print(error.remedy, markup=False)
        raise typer.Exit(2) from None
    if as_json:
        print(json.dumps(findings, indent=2, ensure_ascii=False))
    else:
        for finding in findings:
            _print(console, finding)
        console.print(_summary(len(files), findings))
    failing = {Severity.ERROR, Severity.WARNING} if strict else {Severity.ERROR}
    if any(finding["severity"] in failing for finding in findings):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
