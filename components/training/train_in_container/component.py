"""The component `train_in_container`."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.image import TRAINING_IMAGE


@dsl.container_component
def train_in_container(
    train: Input[Dataset],
    validation: Input[Dataset],
    checkpoints: Input[Artifact],
    model: Output[Model],
    failure: Output[Artifact],
    hyperparameters: dict = {},  # noqa: B006 - kfp's way of a default, compiled and never changed
) -> dsl.ContainerSpec:
    """Trains with the program `train` of an image of your own, in any language and framework.

    Args:
        train: The rows to learn from.
        validation: The rows to choose the best model on.
        checkpoints: A folder that stays when the step is ended, as `open_checkpoints` gives it.
        model: What the program wrote: a Model, or a folder with `container.json` and files `container-*`.
        failure: Why the program failed, where it wrote that.
        hyperparameters: Handed to the program as JSON.
    """
    return dsl.ContainerSpec(
        image=TRAINING_IMAGE,
        command=["train"],
        args=[
            "--train",
            train.path,
            "--validation",
            validation.path,
            "--hyperparameters",
            hyperparameters,
            "--checkpoints",
            checkpoints.path,
            "--model",
            model.path,
            "--failure",
            failure.path,
        ],
    )
