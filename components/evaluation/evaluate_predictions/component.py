"""The component `evaluate_predictions`."""

from kfp import dsl
from kfp.dsl import HTML, ClassificationMetrics, Dataset, Input, Metrics, Output

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def evaluate_predictions(
    predictions: Input[Dataset],
    metrics: Output[Metrics],
    classification_metrics: Output[ClassificationMetrics],
    report: Output[HTML],
    title: str = "",
) -> None:
    """Compares predictions with the labels beside them.

    Args:
        predictions: Predictions, as classify_text or collect_predictions writes them; `metadata.labels` names the
            model's labels in the order of `probabilities`. Rows without a label are counted and left out.
        metrics: Accuracy, F1, and where there are scores or probabilities ROC AUC, log loss and calibration error.
        classification_metrics: Confusion matrix and ROC curve, cut to what Vertex AI accepts.
        report: A page with every number, plots and the most confident errors; it needs no network.
        title: The report's heading; '' for "Evaluation of predictions".
    """
    from components.evaluation.evaluate_predictions.evaluate import evaluate

    # A browser and Cloud Storage tell a page by its name; without the ending they show its source.
    report.path += ".html"
    result = evaluate(
        predictions.path,
        labels=predictions.metadata.get("labels"),
        metrics_path=metrics.path,
        classification_path=classification_metrics.path,
        report_path=report.path,
        title=title,
    )
    metrics.metadata.update(result.metrics)
    classification_metrics.metadata.update(result.classification)
