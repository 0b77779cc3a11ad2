"""The component `finetune_classifier`."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def finetune_classifier(
    train: Input[Dataset],
    validation: Input[Dataset],
    base_model: Input[Model],
    model: Output[Model],
    metrics: Output[Metrics],
    report: Output[HTML],
    logs: Output[Artifact],
    hyperparameters: dict = {},  # noqa: B006 - kfp's way of a default, compiled and never changed
    hyperparameters_file: Input[Artifact] = None,
    model_config: dict = {},  # noqa: B006
    checkpoint_uri: str = "",
) -> None:
    """Fine-tunes a text classifier, on all GPUs of the machine where there are some, and keeps its best checkpoint.

    Args:
        train: The rows to learn from; those without a label are left out.
        validation: The rows that the best checkpoint is chosen on.
        base_model: The model to start from, as `resolve_model(any_architecture=True)` gives it: a classifier, whose
            head is replaced when its labels are others, or an encoder, which gets one. The absent Model asks for one
            that is built from `model_config`, with a tokenizer trained on the rows.
        model: The trained Model. Metadata: base_model, labels, dataset_digest, hyperparameters, versions, validation
            (its metrics), steps, epochs, seconds, rows_per_second, device, precision, digest.
        metrics: Of the best checkpoint: loss, accuracy and macro_f1 on the validation rows; train_loss, steps, epochs,
            seconds, rows_per_second.
        report: A page with the curves of losses, metrics and learning rate, and all settings; it needs no network.
        logs: The same curves as TensorBoard logs.
        hyperparameters: Such as `{"epochs": 3, "learning_rate": 2e-5}`; `components.training.hyperparameters` has all.
        hyperparameters_file: A JSON or YAML file of hyper-parameters; what it names replaces those given.
        model_config: A transformers configuration, such as `{"model_type": "distilbert", "dim": 128}`; {} for a small
            DistilBERT. Only for the absent base model.
        checkpoint_uri: A folder or `gs://` prefix where the state of the training is kept, so that a run that is ended
            goes on where it was; any run with the same data, model and settings finds it there. "" keeps it in the
            job's own folder, for retries of this step, and removes it in the end.
    """
    from components.storage import job_folder
    from components.training.finetune_classifier.finetune import finetune
    from components.training.hyperparameters import combine_hyperparameters

    # A browser and Cloud Storage tell a page by its name; without the ending they show its source.
    report.path += ".html"
    result = finetune(
        train.path,
        validation.path,
        base_model.path,
        model.path,
        combine_hyperparameters(hyperparameters, hyperparameters_file.path if hyperparameters_file else ""),
        model_config=model_config,
        checkpoint_uri=checkpoint_uri,
        job_folder=job_folder(model.uri, model.path),
        report=report.path,
        metrics_path=metrics.path,
        logs=logs.path,
        train_digest=train.metadata.get("digest", ""),
        base_model_metadata=base_model.metadata,
    )
    model.metadata.update(result.metadata)
    metrics.metadata.update(result.metrics)
