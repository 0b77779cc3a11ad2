"""Classifies the texts of a file, a folder or a bucket with a transformer model."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model

from components import (
    classify_text,
    collect_predictions,
    evaluate_predictions,
    export_dataset,
    fingerprint_source,
    pin_model,
    plan_shards,
    publish_outcome,
    read_dataset,
    resolve_model,
)
from pipelines.machines import apply

DEFAULT_MACHINE = "l4-1"


# The loop stands in a pipeline of its own because kfp.local replaces outer parameters inside a loop by the loop's item,
# and because a loop directly in an exit handler is unproved on Vertex AI.
@dsl.pipeline(name="classify-in-shards", description="Classifies a Dataset in parallel shards.")
def classify_in_shards(
    dataset: Input[Dataset],
    model: Input[Model],
    num_shards: int,
    batch_size: int,
    max_length: int,
    include_probabilities: bool,
    precision: str,
    checkpoint_uri: str,
) -> Dataset:
    """Classifies a Dataset in parallel shards, each on a GPU of its own, and puts the predictions back in order."""
    plan = plan_shards(dataset=dataset, num_shards=num_shards, max_length=max_length)
    with dsl.ParallelFor(plan.output, name="shards") as shard:
        classify = classify_text(
            dataset=dataset,
            model=model,
            shard=shard,
            batch_size=batch_size,
            max_length=max_length,
            include_probabilities=include_probabilities,
            precision=precision,
            checkpoint_uri=checkpoint_uri,
        )
        apply(classify, DEFAULT_MACHINE)
    return collect_predictions(shards=dsl.Collected(classify.outputs["predictions"])).outputs["predictions"]


@dsl.pipeline(name="batch-classification", description="Classifies the texts of a source with a transformer model.")
def batch_classification(
    input_uri: str,
    model: str,
    output_uri: str,
    text_column: str = "text",
    id_column: str = "",
    label_column: str = "",
    num_shards: int = 1,
    batch_size: int = 0,
    max_length: int = 0,
    include_probabilities: bool = True,
    precision: str = "auto",
    checkpoint_uri: str = "",
    output_format: str = "parquet",
    outcome_topic: str = "",
    run_key: str = "",
) -> None:
    """Reads texts, classifies them, evaluates the predictions when labels are known, and exports them.

    Args:
        input_uri: CSV, TSV, JSONL or Parquet: one file, a folder or a glob, local or `gs://`.
        model: A model reference: a hub id `org/name[@revision]`, a local or `gs://` folder, or
            `<store folder>/<name>@<alias or version>` in a model store, such as `gs://bucket/models/tickets@champion`.
        output_uri: The folder or `gs://` prefix that the predictions are written to.
        text_column: The column with the text.
        id_column: The column with a unique id; "" makes ids from file name and row number.
        label_column: The column with the true label; "" when labels are not known, and nothing is evaluated.
        num_shards: How many parts are classified in parallel, each on a machine of its own.
        batch_size: The most rows that go through the model at once; 0 leaves it to the device.
        max_length: The most tokens of a text that are read; 0 reads as many as the model can.
        include_probabilities: Whether the probability of every label is kept; the ROC curve needs them.
        precision: `auto`, `fp32`, `bf16`, `fp16` or `int8`, as `classify_text` has them.
        checkpoint_uri: A folder or `gs://` prefix for the answers so far, which another run with the same data and
            model goes on from; "" keeps them in the job's own folder, for retries of a step.
        output_format: `parquet`, `csv` or `jsonl`.
        outcome_topic: The Pub/Sub topic, `projects/P/topics/T`, that hears of the run's end; "" for none.
        run_key: The key of the request that started the run; the trigger fills it in.
    """
    announce = publish_outcome(
        pipeline="batch_classification", topic=outcome_topic, run_key=run_key, output_uri=output_uri
    ).set_caching_options(False)
    with dsl.ExitHandler(announce, name="classification"):
        fingerprint = fingerprint_source(source_uri=input_uri).set_caching_options(False)
        data = read_dataset(
            source_uri=input_uri,
            text_column=text_column,
            id_column=id_column,
            label_column=label_column,
            fingerprint=fingerprint.output,
        )
        pinned = pin_model(model_reference=model).set_caching_options(False)
        resolved = resolve_model(model_reference=pinned.output)
        classified = classify_in_shards(
            dataset=data.outputs["dataset"],
            model=resolved.outputs["model"],
            num_shards=num_shards,
            batch_size=batch_size,
            max_length=max_length,
            include_probabilities=include_probabilities,
            precision=precision,
            checkpoint_uri=checkpoint_uri,
        )
        with dsl.If(label_column != "", name="labels-are-known"):
            evaluate_predictions(predictions=classified.output)
        export_dataset(dataset=classified.output, output_uri=output_uri, format=output_format).set_caching_options(
            False
        )
