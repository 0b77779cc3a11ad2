"""Fine-tunes a text classifier, and puts it in use only if it is better than the one in use."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model

from components import (
    evaluate_classifier,
    finetune_classifier,
    pin_model,
    publish_outcome,
    read_hyperparameters,
    resolve_model,
    tune_hyperparameters,
)
from pipelines.machines import apply
from pipelines.training_steps import find_champion, promote_if_better, read_and_split

DEFAULT_MACHINE = "l4-1"


# A pipeline of its own, because OneOf gives one value of two branches only as the output of a pipeline.
@dsl.pipeline(name="choose-hyperparameters", description="Searches for hyper-parameters, or takes those given.")
def choose_hyperparameters(
    train: Input[Dataset],
    validation: Input[Dataset],
    base_model: Input[Model],
    model_config: dict,
    hyperparameters: dict,
    trials: int,
    checkpoint_uri: str,
) -> dict:
    """Returns the best hyper-parameters of a search when trials are asked for, and those given otherwise."""
    with dsl.If(trials > 0, name="tuning-is-asked"):
        tuned = tune_hyperparameters(
            train=train,
            validation=validation,
            base_model=base_model,
            model_config=model_config,
            hyperparameters=hyperparameters,
            trials=trials,
            checkpoint_uri=checkpoint_uri,
        )
        apply(tuned, DEFAULT_MACHINE)
    with dsl.Else(name="no-tuning"):
        given = read_hyperparameters(values=hyperparameters).set_caching_options(False)
    return dsl.OneOf(tuned.outputs["best"], given.output)


@dsl.pipeline(name="train-classifier", description="Trains a text classifier, and puts it in use if it is better.")
def train_classifier(
    input_uri: str,
    store_uri: str,
    model_name: str,
    base_model: str = "",
    text_column: str = "text",
    id_column: str = "",
    label_column: str = "label",
    schema_uri: str = "",
    fail_on_anomalies: bool = True,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_by: str = "text",
    hyperparameters: dict = {},  # noqa: B006 - kfp's way of a default, compiled and never changed
    hyperparameters_uri: str = "",
    model_config: dict = {},  # noqa: B006
    tune_trials: int = 0,
    metric: str = "macro_f1",
    minimum: float = 0.0,
    minimum_gain: float = 0.0,
    confidence: float = 0.95,
    slice_columns: list = [],  # noqa: B006
    checkpoint_uri: str = "",
    output_uri: str = "",
    outcome_topic: str = "",
    run_key: str = "",
) -> None:
    """Reads labelled rows, checks and splits them, fine-tunes a model, and promotes it if it beats the champion.

    Args:
        input_uri: CSV, TSV, JSONL or Parquet with labels: one file, a folder or a glob, local or `gs://`.
        store_uri: The folder or `gs://` prefix that keeps the versions of models.
        model_name: The model's name in the store; `<store_uri>/<model_name>@champion` is the one in use.
        base_model: What is fine-tuned: a hub id `org/name[@revision]`, a folder, or a reference into a model store;
            "" builds a model from `model_config`, with a tokenizer trained on the rows.
        text_column: The column with the text.
        id_column: The column with a unique id; "" makes ids from file name and row number.
        label_column: The column with the true label.
        schema_uri: A reviewed schema that the rows must satisfy; "" infers one from the rows.
        fail_on_anomalies: Whether rows that do not satisfy the schema end the run; false only reports them.
        validation_fraction: Share of the rows that the best checkpoint is chosen on.
        test_fraction: Share of the rows that candidate and champion are compared on.
        split_by: `text` puts equal texts on the same side, `id` equal ids, a column's name equal values of it.
        hyperparameters: Such as `{"epochs": 3, "learning_rate": 2e-5}`.
        hyperparameters_uri: A JSON or YAML file of hyper-parameters; those in `hyperparameters` win.
        model_config: The transformers configuration of a model that is built from nothing.
        tune_trials: How many trials search for better hyper-parameters first; 0 for no search.
        metric: What candidate and champion are compared by.
        minimum: The least that the candidate must reach.
        minimum_gain: What the candidate must be better by.
        confidence: How sure the gain must be; 0 takes any gain.
        slice_columns: Columns whose values are evaluated one by one.
        checkpoint_uri: Where interrupted training is kept; "" for the run's own folder.
        output_uri: The folder or `gs://` prefix that the decision is written to; "" for none.
        outcome_topic: The Pub/Sub topic, `projects/P/topics/T`, that hears of the run's end; "" for none.
        run_key: The key of the request that started the run; the trigger fills it in.
    """
    announce = publish_outcome(
        pipeline="train_classifier", topic=outcome_topic, run_key=run_key, output_uri=output_uri
    ).set_caching_options(False)
    with dsl.ExitHandler(announce, name="training"):
        pinned_base = pin_model(model_reference=base_model, allow_none=True).set_caching_options(False)
        base = resolve_model(model_reference=pinned_base.output, allow_none=True, any_architecture=True)
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
            base_model=base.outputs["model"],
        )
        given = read_hyperparameters(source_uri=hyperparameters_uri, values=hyperparameters).set_caching_options(False)
        chosen = choose_hyperparameters(
            train=split.outputs["train"],
            validation=split.outputs["validation"],
            base_model=base.outputs["model"],
            model_config=model_config,
            hyperparameters=given.output,
            trials=tune_trials,
            checkpoint_uri=checkpoint_uri,
        )
        trained = finetune_classifier(
            train=split.outputs["train"],
            validation=split.outputs["validation"],
            base_model=base.outputs["model"],
            model_config=model_config,
            hyperparameters=chosen.output,
            checkpoint_uri=checkpoint_uri,
        )
        apply(trained, DEFAULT_MACHINE)

        champion = find_champion(store_uri, model_name, trained)
        judged = {
            who: evaluate_classifier(
                dataset=split.outputs["test"], model=model, slice_columns=slice_columns, title=f"The {who}"
            ).set_display_name(f"evaluate-{who}")
            for who, model in (("candidate", trained.outputs["model"]), ("champion", champion.model))
        }
        for evaluation in judged.values():
            apply(evaluation, DEFAULT_MACHINE)
        promote_if_better(
            trained,
            champion,
            judged["candidate"].outputs["predictions"],
            judged["champion"].outputs["predictions"],
            judged["candidate"].outputs["metrics"],
            store_uri=store_uri,
            model_name=model_name,
            metric=metric,
            minimum=minimum,
            minimum_gain=minimum_gain,
            confidence=confidence,
            output_uri=output_uri,
        )
