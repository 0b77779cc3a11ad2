"""Classifies a Dataset from the command line: `python -m components.inference.classify_text --help`."""

import argparse
import json
import posixpath
import sys
from pathlib import Path
from typing import Any

from components.errors import InputError

_EXAMPLE = """\
example:
  python -m components.inference.classify_text --dataset reviews/ --model models/sentiment/ --output predictions/

The dataset is a folder of Parquet files with the columns id, text and label, as the component read_dataset writes it;
the model is a folder of a sequence-classification model with safetensors.
"""


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m components.inference.classify_text",
        description="Classify the texts of a Dataset with a sequence-classification model, on a GPU if there is one.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", required=True, metavar="FOLDER", help="the texts")
    parser.add_argument("--model", required=True, metavar="FOLDER", help="the model")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="the folder that the predictions become")
    parser.add_argument("--shard", default="", metavar="START:STOP", help="the rows to classify; all by default")
    parser.add_argument(
        "--batch-size", type=_whole, default=0, help="the most rows at once; 0, the default, leaves it to the device"
    )
    parser.add_argument(
        "--max-length",
        type=_whole,
        default=0,
        help="the most tokens of a text that are read; 0: as many as it can",
    )
    parser.add_argument(
        "--include-probabilities",
        type=_yes_or_no,
        nargs="?",
        const=True,
        default=False,
        metavar="true|false",
        help="keep the probability of every label",
    )
    parser.add_argument("--backend", default="auto", help="auto (the default), torch, or openvino")
    parser.add_argument("--precision", default="auto", help="auto (the default), fp32, bf16, fp16, or int8")
    parser.add_argument(
        "--tolerance", type=float, default=0.02, help="with int8, the largest share of labels that may differ: 0.02"
    )
    parser.add_argument(
        "--checkpoint-uri", default="", metavar="URI", help="a folder or gs:// prefix to keep the answers so far in"
    )
    # What kfp tells a step about itself: it knows the artifacts' metadata, and where to write the output's.
    parser.add_argument("--executor-input", default="{}", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Classifies, and tells kfp the Predictions' metadata where it asked for them.

    Returns:
        The metadata.

    Raises:
        InputError: As for `classify`.
    """
    # torch takes seconds to import, and --help does without it.
    from components.inference.classify_text.classify import classify

    step = options.executor_input
    predictions = _artifact(step, "outputs", "predictions")
    metadata = classify(
        options.dataset,
        options.model,
        options.output,
        shard=options.shard,
        batch_size=options.batch_size,
        max_length=options.max_length,
        include_probabilities=options.include_probabilities,
        backend=options.backend,
        precision=options.precision,
        tolerance=options.tolerance,
        checkpoint_uri=options.checkpoint_uri,
        # <job>/<step>/predictions: only the job's folder is sure to be the same for each attempt of the step.
        job_folder=posixpath.dirname(posixpath.dirname(predictions["uri"])) if predictions else "",
        dataset_digest=_artifact(step, "inputs", "dataset").get("metadata", {}).get("digest", ""),
        model_digest=_artifact(step, "inputs", "model").get("metadata", {}).get("digest", ""),
    )
    if predictions:
        described = {"artifacts": {"predictions": {"artifacts": [{**predictions, "metadata": metadata}]}}}
        file = Path(step["outputs"]["outputFile"])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(described))
    return metadata


def main() -> None:
    """Runs the command; ends with 1, and what to change, when the input is wrong."""
    options = parse(sys.argv[1:])
    try:
        metadata = run(options)
    except InputError as error:
        print(f"InputError: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    print(f"Wrote {metadata['rows']:,} rows to {options.output}.")


def _whole(text: str) -> int:
    # Vertex AI writes 32, kfp.local 32.0.
    number = float(text)
    if not number.is_integer():
        raise ValueError(text)
    return int(number)


def _yes_or_no(text: str) -> bool:
    try:
        return {"true": True, "false": False}[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"it is {text!r}, and must be true or false") from None


def _artifact(step: dict[str, Any], side: str, name: str) -> dict[str, Any]:
    found = step.get(side, {}).get("artifacts", {}).get(name, {}).get("artifacts", [])
    return dict(found[0]) if found else {}


if __name__ == "__main__":
    main()
