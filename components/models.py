"""The Model contract: a Hugging Face folder with config.json, safetensors weights and tokenizer files."""

import hashlib
import json
import math
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from components.errors import InputError

CONFIG, WEIGHTS, WEIGHTS_INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER_VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.model",
    "sentencepiece.bpe.model",
    "spm.model",
    "tokenizer.model",
)
# What a training image of the user's own wrote, and only that image reads: its labels, and files of any format.
CONTAINER_MODEL, CONTAINER_ARCHITECTURE = "container.json", "container"
# Names, not endings: a training folder also holds optimizer states, checkpoints and other people's pickles.
MODEL_FILES = (
    CONFIG,
    WEIGHTS,
    WEIGHTS_INDEX,
    "model-*-of-*.safetensors",
    *TOKENIZER_VOCABULARIES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "bpe.codes",
    CONTAINER_MODEL,
    "container-*",
)
PICKLED_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin")
CLASSIFIER = "ForSequenceClassification"
# The one file of a Model that stands for "there is none yet": no champion on a first run, or no base model.
ABSENT = "absent.json"


@dataclass(frozen=True)
class ModelFacts:
    """What a Model's files say about it.

    Attributes:
        architecture: The class that transformers builds, such as `BertForSequenceClassification`.
        labels: The names of the classes, in the order of their ids; empty for a model that is no classifier.
        parameters: The numbers in all weights.
        digest: Digest of the names and the bytes of all model files (64 hexadecimal digits).
    """

    architecture: str
    labels: list[str]
    parameters: int
    digest: str


def write_absent(folder: Path, reference: str) -> dict[str, Any]:
    """Makes a folder the absent Model, which stands for "there is none yet".

    Args:
        folder: The folder; it is made where it is missing.
        reference: What was asked for, such as `gs://bucket/models/tickets@champion`; "" when nothing was.

    Returns:
        The Model's metadata.
    """
    metadata = {"absent": True, "reference": reference}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ABSENT).write_text(json.dumps(metadata, indent=1), encoding="utf-8")
    return metadata


def is_absent(folder: str | Path) -> bool:
    """Tells whether a Model stands for "there is none yet"."""
    return Path(folder, ABSENT).is_file()


def refuse_absent(folder: str | Path, remedy: str) -> None:
    """Checks that a step which needs a model has one.

    Args:
        folder: The Model's folder.
        remedy: What to change, in one sentence.

    Raises:
        InputError: It is the absent Model.
    """
    if is_absent(folder):
        reference = json.loads(Path(folder, ABSENT).read_text(encoding="utf-8")).get("reference", "")
        named = f" ({reference!r} is not there yet)" if reference else ""
        raise InputError(f"There is no model{named}.", remedy)


def model_files(names: list[str]) -> list[str]:
    """Returns the names that belong to a Model, sorted; files in sub-folders never do."""
    return sorted(name for name in names if any(fnmatch(name, pattern) for pattern in MODEL_FILES) and "/" not in name)


def check_names(names: list[str], reference: str) -> None:
    """Checks from the names of its files that a folder can be a Model, before anything large is read.

    Args:
        names: The files' names, relative to the folder.
        reference: What the user calls the model, for the messages.

    Raises:
        InputError: The configuration, the weights or the tokenizer is missing, or the weights are pickled.
    """
    if CONTAINER_MODEL in names:
        return
    if CONFIG not in names:
        raise InputError(f"There is no config.json in {reference!r}.", "Give a folder that save_pretrained wrote.")
    if WEIGHTS not in names and WEIGHTS_INDEX not in names:
        if any(fnmatch(name, pattern) for name in names for pattern in PICKLED_WEIGHTS):
            raise InputError(
                f"The weights of {reference!r} are pickled, and a pickle can run any code when it is opened.",
                "Convert a model that you trust once: "
                "AutoModelForSequenceClassification.from_pretrained(folder).save_pretrained(folder).",
            )
        raise InputError(f"There is no model.safetensors in {reference!r}.", "Write the model with save_pretrained.")
    if not set(TOKENIZER_VOCABULARIES) & set(names):
        raise InputError(
            f"There are no tokenizer files in {reference!r}.", "Write the tokenizer there with its save_pretrained."
        )


def inspect_model(folder: Path, reference: str, any_architecture: bool = False) -> ModelFacts:
    """Checks that a folder is a Model, without building it and without running any code that came with it.

    Args:
        folder: The model's folder.
        reference: What the user calls the model, for the messages.
        any_architecture: Whether a model without a classification head will do, as one to fine-tune.

    Raises:
        InputError: It is not a sequence classifier, a file is missing or broken, or it needs code of its own.
    """
    names = [path.name for path in folder.iterdir() if path.is_file()]
    check_names(names, reference)
    if CONTAINER_MODEL in names:
        if not any_architecture:
            raise InputError(
                f"{reference!r} is the model of a training image, and only that image can classify with it.",
                "Use predict_in_container with that image.",
            )
        return ModelFacts(CONTAINER_ARCHITECTURE, _container_labels(folder, reference), 0, digest_of_model(folder))
    config = _read_json(folder / CONFIG, reference)
    architecture = _architecture(config, reference, any_architecture)
    labels = read_labels(config, reference) if architecture.endswith(CLASSIFIER) else []
    for name in (CONFIG, "tokenizer_config.json"):
        if (folder / name).is_file() and _read_json(folder / name, reference).get("auto_map"):
            raise InputError(
                f"{reference!r} needs Python code of its own ('auto_map' in {name}), and that is never run.",
                "Take a model whose architecture is part of transformers.",
            )
    return ModelFacts(architecture, labels, _count_parameters(folder, reference), digest_of_model(folder))


def labels_of_model(folder: Path) -> list[str]:
    """Returns the labels of a classifier: of a Model, or of what a training image wrote.

    Raises:
        InputError: It is neither.
    """
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if CONTAINER_MODEL in names:
        return _container_labels(folder, str(folder))
    if CONFIG not in names:
        raise InputError(
            f"There is neither {CONTAINER_MODEL} nor {CONFIG} in the model.",
            f"A training program writes {CONTAINER_MODEL} and files container-*, or a folder of save_pretrained.",
        )
    return read_labels(_read_json(folder / CONFIG, str(folder)), str(folder))


def _container_labels(folder: Path, reference: str) -> list[str]:
    labels = _read_json(folder / CONTAINER_MODEL, reference).get("labels")
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise InputError(
            f"{CONTAINER_MODEL} of {reference!r} has no list of labels.", 'Write {"labels": ["first", "second"]}.'
        )
    if len(set(labels)) != len(labels):
        raise InputError(f"{CONTAINER_MODEL} of {reference!r} names a label twice.", "Name each label once.")
    return labels


def digest_of_model(folder: Path) -> str:
    """Digests the names and the bytes of a Model's files (64 hexadecimal digits); other files do not change it."""
    return combine_digests(digests_of_files(folder))


def digests_of_files(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each of a Model's files by its name."""
    digests = {}
    for name in model_files([path.name for path in folder.iterdir() if path.is_file()]):
        with (folder / name).open("rb") as stream:
            digests[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def combine_digests(digests: dict[str, str]) -> str:
    """Returns a Model's digest from those of its files."""
    lines = [f"{name}\0{digest}\n" for name, digest in sorted(digests.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_labels(config: dict[str, Any], reference: str) -> list[str]:
    """Returns the class names of a config.json in the order of their ids.

    transformers leaves names out when they are LABEL_0, LABEL_1, ... and their number when it is 2; so does this.

    Raises:
        InputError: The ids are not 0, 1, 2, ..., or two classes have the same name.
    """
    names = config.get("id2label") or {
        str(number): f"LABEL_{number}" for number in range(config.get("num_labels") or 2)
    }
    if not isinstance(names, dict) or set(names) != {str(number) for number in range(len(names))}:
        raise InputError(
            f"The id2label of {reference!r} does not number its classes from 0.", "Correct id2label in config.json."
        )
    labels = [str(names[str(number)]) for number in range(len(names))]
    if len(set(labels)) != len(labels):
        raise InputError(f"Two classes of {reference!r} have the same name.", "Correct id2label in config.json.")
    return labels


def _architecture(config: dict[str, Any], reference: str, any_architecture: bool) -> str:
    architectures = [str(name) for name in config.get("architectures") or []]
    for name in architectures:
        if name.endswith(CLASSIFIER):
            return name
    if any_architecture:
        # A model that was converted by hand may name its type only, and transformers builds it from that.
        for named in [*architectures, config.get("model_type")]:
            if named:
                return str(named)
    listed = ", ".join(architectures) if architectures else "none"
    raise InputError(
        f"{reference!r} is not a sequence-classification model; its config.json names these architectures: {listed}.",
        "Give a model that was fine-tuned for classification, and saved from AutoModelForSequenceClassification.",
    )


def _read_json(path: Path, reference: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path.name} of {reference!r} is not JSON: {error}.", "Write the model again with save_pretrained."
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path.name} of {reference!r} is not a JSON object.", "Write it again with save_pretrained.")
    return content


def _count_parameters(folder: Path, reference: str) -> int:
    from safetensors import SafetensorError, safe_open

    shards = [WEIGHTS]
    if not (folder / WEIGHTS).is_file():
        shards = sorted(set(_read_json(folder / WEIGHTS_INDEX, reference).get("weight_map", {}).values()))
    remedy = "Copy the model again, whole."
    count = 0
    for shard in shards:
        # The index could name "../other": only names that the contract knows are opened.
        if shard not in model_files([shard]) or not (folder / shard).is_file():
            raise InputError(f"{reference!r} has no {shard}, which {WEIGHTS_INDEX} names.", remedy)
        try:
            with safe_open(folder / shard, framework="numpy") as tensors:
                count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        except SafetensorError as error:
            raise InputError(f"{shard} of {reference!r} is broken: {error}.", remedy) from error
    if not count:
        raise InputError(f"{reference!r} holds no weights.", remedy)
    return count
