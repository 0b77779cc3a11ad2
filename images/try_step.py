"""Runs a step of a compiled pipeline in this environment, as Vertex AI starts it: what an image must be able to do.

    python images/try_step.py compiled/batch_classification.json

It runs the step read-dataset on two rows, and needs nothing but the image that it is run in.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def command_of(
    spec: Mapping[str, Any],
    name: str,
    folder: str,
    output_file: str,
    artifacts: Mapping[str, tuple[str, str]],
    parameters: Mapping[str, Any],
) -> list[str]:
    """Returns a step's command and arguments, with the placeholder filled.

    Args:
        spec: The compiled pipeline.
        name: The component's name, such as `read-dataset`.
        folder: Where its outputs go, a path or a `gs://` URI.
        output_file: Where kfp's runtime tells of the outputs, a path.
        artifacts: Its input artifacts by name: type and URI.
        parameters: Values for its parameters; the others have their defaults.
    """
    component = spec["components"][f"comp-{name}"]
    definitions = component.get("inputDefinitions", {}).get("parameters", {})
    defaults = {key: each["defaultValue"] for key, each in definitions.items() if "defaultValue" in each}
    produced = component.get("outputDefinitions", {}).get("artifacts", {})
    executor_input = {
        "inputs": {
            "parameterValues": {**defaults, **parameters},
            "artifacts": {
                key: {"artifacts": [{"name": key, "type": {"schemaTitle": kind}, "uri": uri, "metadata": {}}]}
                for key, (kind, uri) in artifacts.items()
            },
        },
        "outputs": {
            "artifacts": {
                key: {"artifacts": [{"name": key, "type": each["artifactType"], "uri": f"{folder}/{key}"}]}
                for key, each in produced.items()
            },
            "outputFile": output_file,
        },
    }
    container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
    given = json.dumps(executor_input)
    return [part.replace("{{$}}", given) for part in [*container["command"], *container.get("args", [])]]


def main() -> None:
    """Runs the step, and says how long it took; ends with 1 when it did not do its work."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "in.csv").write_text("text,label\nIt works.,yes\nIt does not.,no\n")
        output = folder / "executor_output.json"
        given = {"source_uri": str(folder / "in.csv")}
        start = time.monotonic()
        done = subprocess.run(command_of(spec, "read-dataset", temporary, str(output), {}, given), check=False)
        seconds = time.monotonic() - start
        written = json.loads(output.read_text()) if output.exists() else {}
    rows = written.get("artifacts", {}).get("dataset", {}).get("artifacts", [{}])[0].get("metadata", {}).get("rows")
    if done.returncode or rows != 2:
        sys.exit(f"The step read-dataset did not do its work: exit code {done.returncode}, {rows} rows.")
    print(f"The step read-dataset ran in {seconds:.1f} s.")


if __name__ == "__main__":
    main()
