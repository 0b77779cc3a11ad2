"""Short training runs, and what they left."""

from safetensors.torch import load_file

from components.training.finetune_classifier.finetune import finetune
from components.training.hyperparameters import parse_hyperparameters

FAST = {"learning_rate": 2e-3, "epochs": 2, "dropout": 0.0}
_ARGUMENTS = {"checkpoint_uri", "job_folder", "report", "logs", "processes", "on_evaluation", "model_config"}


def train(data, output, base="base", **given):
    """Trains with FAST settings; what is no argument of finetune is a hyper-parameter."""
    arguments = {name: value for name, value in given.items() if name in _ARGUMENTS}
    settings = {name: value for name, value in given.items() if name not in _ARGUMENTS}
    settings = parse_hyperparameters({**FAST, **settings})
    return finetune(data / "train", data / "validation", data / base, output, settings, **arguments)


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def largest_difference(one, other):
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    # A bias of the keys moves all scores of a query alike: its gradient is 0 but for rounding, which Adam scales up.
    names = [name for name in first if not name.endswith("key.bias")]
    return max(float((first[name] - second[name]).abs().max()) for name in names)
