"""Checks the rules for new objects: `python -m triggers.check_rules FILE [--object gs://bucket/name]`."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from triggers.errors import ConfigurationError, PermanentError
from triggers.rule_files import check_rules, make_job, read_rules
from triggers.rules import Arrived, find_rule


def command(
    file: Annotated[Path, typer.Argument(help="The rules, YAML or JSON.")],
    name: Annotated[str, typer.Option("--object", help="gs://BUCKET/NAME: say which rule it matches.")] = "",
) -> None:
    """Check the rules for new objects against the compiled pipelines; say which rule an object matches.

    Example: python -m triggers.check_rules rules.yaml --object gs://my-bucket/reviews/in/today.csv
    """
    console, headline = Console(highlight=False, soft_wrap=True), "The rules cannot be used"
    try:
        rules = read_rules(file)
        check_rules(rules)
        headline = "The object starts nothing"
        if not name:
            console.print(f"The rules are right: {', '.join(r.name for r in rules.rules)}.", markup=False)
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
        errors.print(f"[bold red]{headline}[/]")
        errors.print(str(error), markup=False)
        raise typer.Exit(2) from error
    console.print(f"{name} matches the rule {rule.name}, and starts {rule.pipeline} with", markup=False)
    print(json.dumps(run.request.parameters, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    typer.run(command)
