"""The component `tune_hyperparameters`."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def tune_hyperparameters(
    train: Input[Dataset],
    validation: Input[Dataset],
    base_model: Input[Model],
    best_hyperparameters: Output[Artifact],
    metrics: Output[Metrics],
    report: Output[HTML],
    trials: int = 20,
    space: dict = {},  # noqa: B006
    hyperparameters: dict = {},  # noqa: B006
    model_config: dict = {},  # noqa: B006
    checkpoint_uri: str = "",
    timeout_minutes: int = 0,
) -> NamedTuple("Outputs", [("best", dict)]):  # type: ignore[valid-type]
    """Searches for the hyper-parameters that train the best model, with Optuna.

    Args:
        train: The rows to learn from.
        validation: The rows that trials are compared on.
        base_model: The model that every trial starts from; the absent model builds one from `model_config`.
        best_hyperparameters: A JSON file that finetune_classifier takes as `hyperparameters_file`.
        metrics: The best value (`best_macro_f1`, ...), and how many trials were complete, pruned and failed.
        report: A page with the history of the trials, their values, and what mattered.
        trials: How many trials, pruned and failed ones included.
        space: What is searched, by name: a range `{"low": 1e-5, "high": 1e-4, "log": true}` or a list of values. It is
            laid over the default space: learning_rate, epochs, batch_size, dropout and warmup_share.
        hyperparameters: What is not searched; `metric` is what trials are compared by.
        model_config: The transformers configuration of a model that is built from nothing.
        checkpoint_uri: The folder or `gs://` prefix that keeps finished trials, so that a search that was ended goes
            on; "" for the job's own folder.
        timeout_minutes: The time after which the search ends with the trials that it has; 0 for no end.

    Returns:
        The best hyper-parameters, also those that were fixed.
    """
    import posixpath

    from components.storage import job_folder
    from components.training.tune_hyperparameters.tune import tune

    # A browser and Cloud Storage tell a page by its name; without the ending they show its source.
    report.path += ".html"
    result = tune(
        train.path,
        validation.path,
        base_model.path,
        best_path=best_hyperparameters.path,
        metrics_path=metrics.path,
        report_path=report.path,
        trials=int(trials),
        space=space,
        hyperparameters=hyperparameters,
        model_config=model_config,
        checkpoint_uri=checkpoint_uri
        or posixpath.join(job_folder(best_hyperparameters.uri, best_hyperparameters.path), "checkpoints"),
        timeout_minutes=int(timeout_minutes),
    )
    metrics.metadata.update(result.metrics)
    best_hyperparameters.metadata.update(result.best)
    return (result.best,)
