"""The component `predict_in_container`."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.image import TRAINING_IMAGE


@dsl.container_component
def predict_in_container(
    dataset: Input[Dataset],
    model: Input[Model],
    answers: Output[Artifact],
    failure: Output[Artifact],
) -> dsl.ContainerSpec:
    """Classifies with the program `predict` of an image of your own; `read_predictions` reads its answers.

    Args:
        dataset: The rows to classify.
        model: What the image's program `train` wrote, now or in an earlier run. The absent Model asks for no answers.
        answers: A folder with `predictions.csv` or `predictions.parquet`.
        failure: Why the program failed, where it wrote that.
    """
    return dsl.ContainerSpec(
        image=TRAINING_IMAGE,
        command=["predict"],
        args=[
            "--dataset",
            dataset.path,
            "--model",
            model.path,
            "--predictions",
            answers.path,
            "--failure",
            failure.path,
        ],
    )
