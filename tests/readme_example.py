"""The code in a component's README, run as a reader would run it."""

import textwrap
from pathlib import Path
from typing import Any

from kfp.dsl.graph_component import GraphComponent

import components


def readme_pipeline(component: str) -> Any:
    """Runs the first code in a component's README that defines a pipeline, and returns that pipeline."""
    folder = Path(components.__file__).parent / components.CATALOGUE[component] / component
    blocks: list[list[str]] = [[]]
    for line in (folder / "README.md").read_text().splitlines():
        if line.startswith("    ") or (not line and blocks[-1]):
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    code = next(block for block in ("\n".join(lines) for lines in blocks) if "@dsl.pipeline" in block)
    names: dict[str, Any] = {}
    exec(textwrap.dedent(code), names)
    return next(value for value in names.values() if isinstance(value, GraphComponent))
