"""The command behind `python -m triggers.rules`: are the rules right, and what does an object start?"""

import json
import os
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from triggers import job
from triggers.errors import ConfigurationError, PermanentError
from triggers.request import Origin
from triggers.rules import Arrived, Rule, Rules, find_rule, read_rules


def check_rules(rules: Rules, compiled: Path | None = None) -> None:
    """Checks that each rule makes a run of an object that it matches.

    Args:
        rules: The rules.
        compiled: The folder of compiled pipelines; `spec.compiled_folder()` when None.

    Raises:
        PermanentError: A pipeline, a parameter, a machine or a label is wrong; the headline names the rule.
    """
    for rule in rules.rules:
        example = Arrived(rule.bucket, f"{rule.prefix}{rule.marker or 'object' + rule.suffix}", "1")
        try:
            make_job(rule, example, compiled)
        except PermanentError as error:
            raise PermanentError(f"The rule {rule.name} is wrong. {error.headline}", error.remedy) from None


def make_job(rule: Rule, arrived: Arrived, compiled: Path | None = None) -> job.Run:
    """Returns the run that an object makes, after every check that needs no network.

    Raises:
        PermanentError: As `check_rules`.
    """
    origin = Origin(f"//storage.googleapis.com/projects/_/buckets/{arrived.bucket}", "", "", arrived.key)
    location = os.environ.get("VERTEX_LOCATION", "")
    return job.check(rule.request(arrived), origin, compiled, location=location)


def command(
    file: Annotated[Path, typer.Argument(help="The rules, YAML or JSON.")],
    name: Annotated[str, typer.Option("--object", help="gs://BUCKET/NAME: say which rule it matches.")] = "",
) -> None:
    """Check the rules for new objects against the compiled pipelines; say which rule an object matches.

    Example: python -m triggers.rules rules.yaml --object gs://my-bucket/reviews/in/today.csv
    """
    console = Console(highlight=False, soft_wrap=True)
    try:
        rules = read_rules(file)
        check_rules(rules)
        if not name:
            console.print(
                f"{len(rules.rules)} rules are right: {', '.join(r.name for r in rules.rules)}.", markup=False
            )
            return
        found = re.fullmatch(r"gs://([^/]+)/(.+)", name, re.DOTALL)
        if not found:
            raise ConfigurationError(f"{name} is no object: write gs://BUCKET/NAME.")
        arrived = Arrived(found[1], found[2], "1")
        rule = find_rule(rules, arrived)
        if not rule:
            console.print(f"{name} matches no rule, and starts nothing.", markup=False)
            raise typer.Exit(1)
        run = make_job(rule, arrived)
    except (PermanentError, ConfigurationError) as error:
        errors = Console(stderr=True, highlight=False, soft_wrap=True)
        errors.print("[bold red]The rules cannot be used[/]")
        errors.print(str(error), markup=False)
        raise typer.Exit(2) from error
    console.print(f"{name} matches the rule {rule.name}, and starts {rule.pipeline} with", markup=False)
    print(json.dumps(run.request.parameters, indent=2, ensure_ascii=False))


def main() -> None:
    """Runs the command."""
    typer.run(command)
