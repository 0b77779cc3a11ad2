"""The component `evaluate_classifier`."""

from kfp import dsl
from kfp.dsl import HTML, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def evaluate_classifier(
    dataset: Input[Dataset],
    model: Input[Model],
    predictions: Output[Dataset],
    metrics: Output[Metrics],
    classification_metrics: Output[ClassificationMetrics],
    report: Output[HTML],
    slice_columns: list = [],  # noqa: B006
    batch_size: int = 0,
    max_length: int = 0,
    title: str = "",
) -> None:
    """Classifies the rows of a Dataset with a model, and compares its predictions with the labels.

    Args:
        dataset: The rows; those without a label are counted and left out of every comparison.
        model: The model, as `resolve_model` or `finetune_classifier` gives it. The absent model gives predictions
            without rows and a report that says so.
        predictions: The dataset's rows in its order, with `prediction`, `score` and `probabilities`. Metadata as
            classify_text gives it; for the absent model also `absent`.
        metrics: Accuracy, F1, ROC AUC, log loss, calibration error, latency and throughput; the file also has the
            numbers per class and per slice.
        classification_metrics: Confusion matrix and ROC curve, cut to what Vertex AI accepts.
        report: A page with every number, plots, slices and the most confident errors; it needs no network.
        slice_columns: Columns of the dataset whose values are evaluated one by one: the 20 largest, and the others
            together. Slices by the length of the text are always there.
        batch_size: The most rows that go through the model at once; 0 leaves it to the device.
        max_length: The most tokens of a text that are read; 0 reads as many as the model can.
        title: The report's heading; "" for "Evaluation of a classifier".
    """
    from components.evaluation.evaluate_classifier.evaluate import evaluate

    # A browser and Cloud Storage tell a page by its name; without the ending they show its source.
    report.path += ".html"
    result = evaluate(
        dataset.path,
        model.path,
        predictions_path=predictions.path,
        metrics_path=metrics.path,
        classification_path=classification_metrics.path,
        report_path=report.path,
        slice_columns=slice_columns,
        batch_size=int(batch_size),
        max_length=int(max_length),
        title=title,
        dataset_digest=dataset.metadata.get("digest", ""),
        model_digest=model.metadata.get("digest", ""),
    )
    predictions.metadata.update(result.predictions)
    metrics.metadata.update(result.metrics)
    classification_metrics.metadata.update(result.classification)
