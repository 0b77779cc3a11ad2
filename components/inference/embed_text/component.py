"""The component `embed_text`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def embed_text(
    dataset: Input[Dataset],
    model: Input[Model],
    embeddings: Output[Dataset],
    shard: str = "",
    pooling: str = "mean",
    normalize: bool = True,
    dtype: str = "float32",
    batch_size: int = 0,
    max_length: int = 0,
    backend: str = "auto",
    precision: str = "auto",
    checkpoint_uri: str = "",
) -> None:
    """Turns the texts of a Dataset into vectors with an encoder, on all GPUs where there are some.

    Args:
        dataset: The texts.
        model: The encoder, as `resolve_model(any_architecture=True)` gives it; a head in it is left out.
        embeddings: The dataset's rows in its order, with `embedding`, a list of `dimension` numbers. Metadata: rows,
            columns, dimension, pooling, normalized, dtype, shard, dataset_rows, digest, dataset_digest, model_digest,
            rows_per_second, resumed_rows, device, devices, backend, precision, tokens, tokens_per_second,
            padding_share, repeated_rows, time_shares, peak_memory_mib.
        shard: The rows to embed, `start:stop` as `plan_shards` writes it; "" embeds all.
        pooling: `mean` of the vectors of all tokens, or `cls`, the first token's: as the model was trained.
        normalize: Whether vectors get the length 1, so that their product is their cosine.
        dtype: `float32`, or `float16` for half of the space and three digits.
        batch_size: The most rows that go through the model at once; 0 leaves it to the device.
        max_length: The most tokens of a text that are read; 0 reads as many as the model can.
        backend: `torch`, `openvino` (on CPUs), or `auto`: OpenVINO on a CPU where it is installed, else PyTorch.
        precision: `fp32`, `bf16`, `fp16` (on GPUs), or `auto`: fp32 on a CPU; on a GPU bf16 where the card computes in
            it, else fp16.
        checkpoint_uri: A folder or `gs://` prefix where the vectors so far are kept, so that a run that is ended goes
            on where it was; any run with the same data, model and settings finds them there. "" keeps them in the job's
            own folder, for retries of this step. They are removed in the end.
    """
    import posixpath

    from components.inference.embed_text.embed import embed

    embeddings.metadata.update(
        embed(
            dataset.path,
            model.path,
            embeddings.path,
            shard=shard,
            pooling=pooling,
            normalize=normalize,
            dtype=dtype,
            batch_size=batch_size,
            max_length=max_length,
            backend=backend,
            precision=precision,
            checkpoint_uri=checkpoint_uri,
            # <job>/<step>/embeddings: only the job's folder is sure to be the same for each attempt of the step.
            job_folder=posixpath.dirname(posixpath.dirname(embeddings.uri)),
            dataset_digest=dataset.metadata.get("digest", ""),
            model_digest=model.metadata.get("digest", ""),
        )
    )
