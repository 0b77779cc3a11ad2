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
    batch_size: int = 0,
    max_length: int = 0,
    include_probabilities: bool = False,
    backend: str = "auto",
    precision: str = "auto",
    tolerance: float = 0.02,
    checkpoint_uri: str = "",
) -> None:
    """Classifies the texts of a Dataset with a sequence-classification model, on all GPUs where there are some.

    Args:
        dataset: The texts.
        model: The model, as `resolve_model` gives it. It chooses one of two or more labels.
        predictions: The dataset's rows in its order, with `prediction`, `score` and, when asked, `probabilities`.
            Metadata: rows, columns, labels, shard, dataset_rows, digest, dataset_digest, model_digest, rows_per_second,
            resumed_rows, device, devices, backend, precision, tokens, tokens_per_second, padding_share, repeated_rows,
            time_shares, peak_memory_mib.
        shard: The rows to classify, `start:stop` as `plan_shards` writes it; "" classifies all.
        batch_size: The most rows that go through the model at once; 0 leaves it to the device.
        max_length: The most tokens of a text that are read; 0 reads as many as the model can.
        include_probabilities: Whether the probability of every label is kept.
        backend: `torch`, `openvino` (on CPUs), or `auto`: OpenVINO on a CPU where it is installed, else PyTorch.
        precision: `fp32`, `bf16`, `fp16` (on GPUs), `int8` (on CPUs), or `auto`: fp32 on a CPU; on a GPU bf16 where the
            card computes in it, else fp16.
        tolerance: With int8, the largest share of checked rows whose label may differ from fp32's; beyond it the step
            is refused.
        checkpoint_uri: A folder or `gs://` prefix where the answers so far are kept, so that a run that is ended goes
            on where it was; any run with the same data, model and settings finds them there. "" keeps them in the job's
            own folder, for retries of this step. They are removed in the end.
    """
    import posixpath

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
            backend=backend,
            precision=precision,
            tolerance=tolerance,
            checkpoint_uri=checkpoint_uri,
            # <job>/<step>/predictions: only the job's folder is sure to be the same for each attempt of the step.
            job_folder=posixpath.dirname(posixpath.dirname(predictions.uri)),
            dataset_digest=dataset.metadata.get("digest", ""),
            model_digest=model.metadata.get("digest", ""),
        )
    )
