"""Trains a text classifier with an image of your own, and puts it in use only if it is better than the one in use."""

from kfp import dsl

from components import (
    evaluate_predictions,
    open_checkpoints,
    predict_in_container,
    publish_outcome,
    read_predictions,
    train_in_container,
)
from pipelines.machines import apply
from pipelines.training_steps import find_champion, promote_if_better, read_and_split

DEFAULT_MACHINE = "l4-1"


@dsl.pipeline(
    name="train-classifier-in-container",
    description="Trains a text classifier with an image of your own, and puts it in use if it is better.",
)
def train_classifier_in_container(
    training_image: str,
    input_uri: str,
    store_uri: str,
    model_name: str,
    text_column: str = "text",
    id_column: str = "",
    label_column: str = "label",
    schema_uri: str = "",
    fail_on_anomalies: bool = True,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_by: str = "text",
    hyperparameters: dict = {},  # noqa: B006 - kfp's way of a default, compiled and never changed
    metric: str = "macro_f1",
    minimum: float = 0.0,
    minimum_gain: float = 0.0,
    confidence: float = 0.95,
    checkpoint_uri: str = "",
    output_uri: str = "",
    outcome_topic: str = "",
    run_key: str = "",
) -> None:
    """Reads labelled rows, checks and splits them, trains in a container, and promotes what beats the champion.

    Args:
        training_image: The image with the programs `train` and `predict`, best by digest. It is put into the compiled
            pipeline when a run is submitted, and must be one that the operator allows.
        input_uri: CSV, TSV, JSONL or Parquet with labels: one file, a folder or a glob, local or `gs://`.
        store_uri: The folder or `gs://` prefix that keeps the versions of models.
        model_name: The model's name in the store; every version under it must be one that the image can read.
        text_column: The column with the text.
        id_column: The column with a unique id; "" makes ids from file name and row number.
        label_column: The column with the true label.
        schema_uri: A reviewed schema that the rows must satisfy; "" infers one from the rows.
        fail_on_anomalies: Whether rows that do not satisfy the schema end the run; false only reports them.
        validation_fraction: Share of the rows that the program may choose its best model on.
        test_fraction: Share of the rows that candidate and champion are compared on.
        split_by: `text` puts equal texts on the same side, `id` equal ids, a column's name equal values of it.
        hyperparameters: Whatever the program understands, as JSON.
        metric: What candidate and champion are compared by.
        minimum: The least that the candidate must reach.
        minimum_gain: What the candidate must be better by.
        confidence: How sure the gain must be; 0 takes any gain.
        checkpoint_uri: Where interrupted training is kept; "" for the run's own folder.
        output_uri: The folder or `gs://` prefix that the decision is written to; "" for none.
        outcome_topic: The Pub/Sub topic, `projects/P/topics/T`, that hears of the run's end; "" for none.
        run_key: The key of the request that started the run; the trigger fills it in.
    """
    announce = publish_outcome(
        pipeline="train_classifier_in_container", topic=outcome_topic, run_key=run_key, output_uri=output_uri
    ).set_caching_options(False)
    with dsl.ExitHandler(announce, name="training"):
        split = read_and_split(
            input_uri=input_uri,
            text_column=text_column,
            id_column=id_column,
            label_column=label_column,
            schema_uri=schema_uri,
            fail_on_anomalies=fail_on_anomalies,
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            split_by=split_by,
        )
        rows = {"train": split.outputs["train"], "validation": split.outputs["validation"]}
        # Cached on purpose: the same data, settings and image are given the same folder, and others another one.
        checkpoints = open_checkpoints(
            **rows, hyperparameters=hyperparameters, training_image=training_image, checkpoint_uri=checkpoint_uri
        )
        trained = train_in_container(
            **rows, checkpoints=checkpoints.outputs["checkpoints"], hyperparameters=hyperparameters
        )
        apply(trained, DEFAULT_MACHINE)
        champion = find_champion(store_uri, model_name, trained, any_architecture=True)
        judged = {}
        for who, model in (("candidate", trained.outputs["model"]), ("champion", champion.model)):
            answered = predict_in_container(dataset=split.outputs["test"], model=model)
            apply(answered.set_display_name(f"predict-{who}"), DEFAULT_MACHINE)
            judged[who] = read_predictions(
                dataset=split.outputs["test"], model=model, answers=answered.outputs["answers"]
            ).set_display_name(f"read-{who}")
        evaluated = evaluate_predictions(predictions=judged["candidate"].outputs["predictions"], title="The candidate")
        promote_if_better(
            trained,
            champion,
            judged["candidate"].outputs["predictions"],
            judged["champion"].outputs["predictions"],
            evaluated.outputs["metrics"],
            store_uri=store_uri,
            model_name=model_name,
            metric=metric,
            minimum=minimum,
            minimum_gain=minimum_gain,
            confidence=confidence,
            output_uri=output_uri,
            lineage={"training_image": training_image},
        )
