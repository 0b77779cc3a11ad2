"""What training pipelines share: from a source to three sets of rows, from two sets of predictions to a champion."""

from dataclasses import dataclass
from typing import Any

from kfp import dsl

from components import (
    compare_models,
    fingerprint_source,
    infer_schema,
    pin_model,
    profile_dataset,
    push_model,
    read_dataset,
    resolve_model,
    split_dataset,
    validate_dataset,
)


def read_and_split(
    input_uri: str,
    text_column: str,
    id_column: str,
    label_column: str,
    schema_uri: str,
    fail_on_anomalies: bool,
    validation_fraction: float,
    test_fraction: float,
    split_by: str,
    base_model: Any = None,
) -> Any:
    """Adds the steps that read labelled rows, check them against a schema, and split them.

    Args are those of `train_classifier`, but for the base model: it is a Model, whose tokens the profile counts; it
    counts words without one.

    Returns:
        The task with the outputs `train`, `validation` and `test`.
    """
    fingerprint = fingerprint_source(source_uri=input_uri).set_caching_options(False)
    data = read_dataset(
        source_uri=input_uri,
        text_column=text_column,
        id_column=id_column,
        label_column=label_column,
        fingerprint=fingerprint.output,
    )
    counted = {} if base_model is None else {"model": base_model}
    profile = profile_dataset(dataset=data.outputs["dataset"], **counted)
    schema_fingerprint = fingerprint_source(source_uri=schema_uri, allow_none=True).set_caching_options(False)
    schema = infer_schema(
        statistics=profile.outputs["statistics"], schema_uri=schema_uri, fingerprint=schema_fingerprint.output
    )
    validated = validate_dataset(
        dataset=data.outputs["dataset"],
        statistics=profile.outputs["statistics"],
        schema=schema.outputs["schema"],
        fail_on_anomalies=fail_on_anomalies,
    )
    return split_dataset(
        dataset=data.outputs["dataset"],
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        split_by=split_by,
        require_labels=True,
    ).after(validated)


@dataclass(frozen=True)
class Champion:
    """The model in use, or none yet.

    Attributes:
        reference: What names it for ever; "" for none.
        model: The Model; the absent one for none.
    """

    reference: Any
    model: Any


def find_champion(store_uri: str, model_name: str, trained: Any, any_architecture: bool = False) -> Champion:
    """Adds the steps that look up the model in use.

    Args:
        store_uri: The store.
        model_name: The model's name there.
        trained: The task that trains the candidate. The champion is looked at only when the candidate is there:
            training takes long, and the champion may change meanwhile.
        any_architecture: Whether it may be what a training image wrote.
    """
    pinned = (
        pin_model(model_reference=f"{store_uri}/{model_name}@champion", allow_none=True)
        .after(trained)
        .set_caching_options(False)
    )
    options = {"any_architecture": True} if any_architecture else {}
    champion = resolve_model(model_reference=pinned.output, allow_none=True, **options)
    return Champion(pinned.output, champion.outputs["model"])


def promote_if_better(
    trained: Any,
    champion: Champion,
    candidate_predictions: Any,
    champion_predictions: Any,
    candidate_metrics: Any,
    store_uri: str,
    model_name: str,
    metric: str,
    minimum: float,
    minimum_gain: float,
    confidence: float,
    output_uri: str,
    lineage: dict[str, Any] | None = None,
) -> None:
    """Adds the steps that compare two models' predictions of the same rows, and put the better one in use.

    Args:
        trained: The task that trained the candidate, with the output `model`.
        champion: The model in use.
        candidate_predictions: The candidate's predictions.
        champion_predictions: The champion's predictions; without rows where there is none.
        candidate_metrics: What the candidate was evaluated at, for the model card.
        store_uri: The store.
        model_name: The model's name there.
        metric: What the two are compared by.
        minimum: The least that the candidate must reach.
        minimum_gain: What the candidate must be better by.
        confidence: How sure the gain must be.
        output_uri: Where the decision is written to; "" for none.
        lineage: What the model comes from, for the model card, where its metadata do not say it.
    """
    decision = compare_models(
        candidate=candidate_predictions,
        champion=champion_predictions,
        metric=metric,
        minimum=minimum,
        minimum_gain=minimum_gain,
        confidence=confidence,
        output_uri=output_uri,
    ).set_caching_options(False)
    with dsl.If(decision.outputs["blessed"] == True, name="blessed"):  # noqa: E712 - kfp's way of a condition
        push_model(
            model=trained.outputs["model"],
            store_uri=store_uri,
            name=model_name,
            compared_with=champion.reference,
            evaluation=candidate_metrics,
            job=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER,
            **({"lineage": lineage} if lineage else {}),
        ).set_caching_options(False)
