"""The model card of a version: README.md in the format of the Hugging Face hub."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import yaml

from components.models import CLASSIFIER, CONTAINER_ARCHITECTURE, ModelFacts

# The hub knows a metric by its id in the library `evaluate`; any other name stays as it is.
_METRIC_TYPES = {"macro_f1": "f1", "weighted_f1": "f1", "macro_precision": "precision", "macro_recall": "recall"}


def make_card(reference: str, created: datetime, facts: ModelFacts, details: Mapping[str, Any]) -> str:
    """Writes the model card of a version.

    Args:
        reference: What names the version for ever.
        created: When it was pushed.
        facts: What its files say.
        details: Its metrics, lineage and libraries.

    Returns:
        Markdown with YAML front matter, as the hub reads it.
    """
    name, _, version = reference.rpartition("/")[2].partition("@")
    front = yaml.safe_dump(_front_matter(name, facts, details), sort_keys=False, allow_unicode=True)
    sections = [
        f"---\n{front}---\n\n# {name}\n",
        f"Version {_code(version)}, pushed {created:%Y-%m-%d %H:%M:%S} UTC: {_code(facts.architecture)} with "
        f"{facts.parameters:,} parameters.\n\nReference: {_code(reference)}\n",
        _table("Labels", "number", "label", dict(enumerate(facts.labels))),
        _table("Evaluation", "metric", "value", details["metrics"]),
        _table("Lineage", "", "", {**details["lineage"], "digest of the files": facts.digest}),
        _table("Libraries", "library", "version", details["libraries"]),
    ]
    return "\n".join(section for section in sections if section)


def _front_matter(name: str, facts: ModelFacts, details: Mapping[str, Any]) -> dict[str, Any]:
    in_container = facts.architecture == CONTAINER_ARCHITECTURE
    is_classifier = in_container or facts.architecture.endswith(CLASSIFIER)
    task = "text-classification" if is_classifier else "feature-extraction"
    base_model = details["lineage"].get("base_model")
    results = [
        {"type": _METRIC_TYPES.get(metric, metric), "value": value, "name": metric}
        for metric, value in details["metrics"].items()
    ]
    dataset = {"name": str(details["lineage"].get("dataset", "evaluation")), "type": "dataset"}
    index = [{"name": name, "results": [{"task": {"type": task}, "dataset": dataset, "metrics": results}]}]
    front = {
        "library_name": None if in_container else "transformers",
        "pipeline_tag": task,
        "base_model": base_model if isinstance(base_model, str) and base_model else None,
        "labels": facts.labels,
        "metrics": sorted({result["type"] for result in results}),
        "model-index": index if results else None,
        "lineage": details["lineage"],
    }
    return {key: value for key, value in front.items() if value}


def _table(heading: str, first: str, second: str, rows: Mapping[Any, Any]) -> str:
    if not rows:
        return ""
    lines = [f"| {_cell(key)} | {_cell(value)} |" for key, value in rows.items()]
    return "\n".join([f"## {heading}\n", f"| {first} | {second} |", "|---|---|", *lines, ""])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return _code(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _code(text: str) -> str:
    """Shows a text as it is: a label with a pipe or a backtick must not change the page."""
    line = " ".join(text.split()).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in _backticks(line)), default=0) + 1)
    return f"{fence} {line} {fence}" if "`" in line else f"`{line}`" if line else ""


def _backticks(text: str) -> list[str]:
    return [run for run in "".join(c if c == "`" else " " for c in text).split() if run]
