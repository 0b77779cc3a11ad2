"""The component `classify_in_container`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from components.image import COMPONENT_IMAGE


@dsl.container_component
def classify_in_container(
    dataset: Input[Dataset],
    model: Input[Model],
    predictions: Output[Dataset],
    shard: str = "",
    batch_size: int = 0,
    max_length: int = 0,
    include_probabilities: bool = False,
    backend: str = "auto",
    precision: str = "auto",
    tolerance: float = 0.02,
    checkpoint_uri: str = "",
) -> dsl.ContainerSpec:
    """Classifies the texts of a Dataset as classify_text does, by the image's own command: no source code in the spec.

    Args:
        dataset: The texts.
        model: The model, as `resolve_model` gives it. It chooses one of two or more labels.
        predictions: The dataset's rows in its order, with `prediction`, `score` and, when asked, `probabilities`.
            Metadata as of classify_text.
        shard: The rows to classify, `start:stop` as `plan_shards` writes it; "" classifies all.
        batch_size: The most rows that go through the model at once; 0 leaves it to the device.
        max_length: The most tokens of a text that are read; 0 reads as many as the model can.
        include_probabilities: Whether the probability of every label is kept.
        backend: `auto`, `torch` or `openvino`.
        precision: `auto`, `fp32`, `bf16`, `fp16` or `int8`.
        tolerance: With int8, the largest share of checked rows whose label may differ from fp32's.
        checkpoint_uri: A folder or `gs://` prefix where the answers so far are kept; "" keeps them in the job's own
            folder, for retries of this step.
    """
    return dsl.ContainerSpec(
        image=COMPONENT_IMAGE,
        command=["python", "-m", "components.inference.classify_text"],
        args=[
            "--dataset",
            dataset.path,
            "--model",
            model.path,
            "--output",
            predictions.path,
            "--shard",
            shard,
            "--batch-size",
            batch_size,
            "--max-length",
            max_length,
            "--include-probabilities",
            include_probabilities,
            "--backend",
            backend,
            "--precision",
            precision,
            "--tolerance",
            tolerance,
            "--checkpoint-uri",
            checkpoint_uri,
            # All that kfp knows of the step: with it the predictions carry their metadata, such as the labels.
            "--executor-input",
            "{{$}}",
        ],
    )
