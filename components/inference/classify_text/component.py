"""The component `classify_text`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def classify_text(
    dataset: Input[Dataset],
    model: Input[Model],
    predictions: Output[Dataset],
    shard: str = "",
    batch_size: int = 32,
    max_length: int = 0,
    include_probabilities: bool = False,
) -> None:
    """Classifies the texts of a Dataset with a sequence-classification model, on a GPU where there is one.

    Args:
        dataset: The texts.
        model: The model, as `resolve_model` gives it. It chooses one of two or more labels.
        predictions: The dataset's rows in its order, with `prediction`, `score` and, when asked, `probabilities`.
            Metadata: rows, columns, labels, shard, dataset_rows, digest, dataset_digest, model_digest, rows_per_second,
            device, precision.
        shard: The rows to classify, `start:stop` as `plan_shards` writes it; "" classifies all.
        batch_size: The most rows that go through the model at once; halved when they do not fit into memory.
        max_length: The most tokens of a text that are read; 0 reads as many as the model can.
        include_probabilities: Whether the probability of every label is kept.
    """
    from components.inference.classify_text.classify import classify

    predictions.metadata.update(
        classify(
            dataset.path,
            model.path,
            predictions.path,
            shard=shard,
            batch_size=batch_size,
            max_length=max_length,
            include_probabilities=include_probabilities,
            dataset_digest=dataset.metadata.get("digest", ""),
            model_digest=model.metadata.get("digest", ""),
        )
    )
