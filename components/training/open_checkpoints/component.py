"""The component `open_checkpoints`."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def open_checkpoints(
    train: Input[Dataset],
    validation: Input[Dataset],
    checkpoints: Output[Artifact],
    hyperparameters: dict = {},  # noqa: B006 - kfp's way of a default, compiled and never changed
    training_image: str = "",
    checkpoint_uri: str = "",
) -> None:
    """Names a folder where a training program keeps the state to resume from.

    The cache gives the same folder to every run with the same data, hyper-parameters and image, and another one to any
    other run; so a program may resume from whatever it finds there.

    Args:
        train: The rows to learn from.
        validation: The rows to choose the best model on.
        checkpoints: The folder. Metadata: writable.
        hyperparameters: Those of the training.
        training_image: The image that trains.
        checkpoint_uri: A folder or `gs://` prefix to make it in; "" for the run's own folder.
    """
    from components.training.open_checkpoints.open import choose_folder

    checkpoints.uri = choose_folder(
        checkpoints.uri,
        checkpoint_uri,
        train=train.metadata.get("digest") or train.uri,
        validation=validation.metadata.get("digest") or validation.uri,
        hyperparameters=hyperparameters,
        image=training_image,
    )
    checkpoints.metadata["writable"] = True
