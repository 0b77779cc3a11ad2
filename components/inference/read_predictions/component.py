"""The component `read_predictions`."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def read_predictions(
    dataset: Input[Dataset],
    model: Input[Model],
    answers: Input[Artifact],
    predictions: Output[Dataset],
) -> None:
    """Checks the answers of a program against the rows that it was given, and makes Predictions of them.

    Args:
        dataset: The rows that were classified.
        model: The model that answered; the absent one gives Predictions without rows.
        answers: A folder with `predictions.csv` or `predictions.parquet`, as `predict_in_container` gives it.
        predictions: The dataset's rows in its order, with `prediction`, `score` and, where the program gave them,
            `probabilities`. Metadata: rows, columns, digest, labels, dataset_rows, dataset_digest, model_digest; for
            the absent model also absent.
    """
    from components.inference.read_predictions.read import read

    predictions.metadata.update(
        read(
            dataset.path,
            model.path,
            answers.path,
            predictions.path,
            dataset_digest=dataset.metadata.get("digest", ""),
            reference=model.metadata.get("reference", ""),
        )
    )
