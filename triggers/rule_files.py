"""The file of rules that the function is deployed with: read, and checked against the compiled pipelines."""

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from triggers import job
from triggers.errors import ConfigurationError, PermanentError
from triggers.request import Origin
from triggers.rules import Arrived, Rule, Rules

FILE = "rules.json"


def load_rules() -> Rules:
    """Reads the rules of this function: the file that `RULES_FILE` names, or rules.json beside the package.

    Raises:
        ConfigurationError: The file is missing or wrong, or a rule makes no run: that is not the fault of an object,
            whose event waits until the rules are mended.
    """
    beside = Path(__file__).resolve().parent.parent / FILE
    path = Path(os.environ.get("RULES_FILE") or beside)
    try:
        return _load(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}. Deploy the rules with the trigger."
        ) from None


@lru_cache(maxsize=4)
def _load(path: Path, changed: int) -> Rules:
    rules = read_rules(path)
    try:
        check_rules(rules)
    except PermanentError as error:
        raise ConfigurationError(str(error)) from None
    return rules


def read_rules(path: Path) -> Rules:
    """Reads rules from a JSON file, or from a YAML one (.yaml, .yml).

    Raises:
        ConfigurationError: The file is missing, or a field is unknown or wrong; every such field is named.
    """
    try:
        document = _parse_yaml(path) if path.suffix in (".yaml", ".yml") else json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}. Name a file of rules.") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} cannot be read: {' '.join(str(error).split())}.") from None
    try:
        return Rules.model_validate(document)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc'])) or 'the file'}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigurationError(f"{path} is wrong: {'; '.join(problems)}.") from None


def _parse_yaml(path: Path) -> Any:
    # A bundle has its rules as JSON, and no YAML.
    import yaml

    try:
        return yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def as_json(rules: Rules) -> str:
    """Returns the rules as the function's bundle carries them."""
    return json.dumps(rules.model_dump(exclude_unset=True), indent=2, ensure_ascii=False) + "\n"


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
