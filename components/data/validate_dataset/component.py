"""The component `validate_dataset`."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def validate_dataset(
    dataset: Input[Dataset],
    statistics: Input[Artifact],
    schema: Input[Artifact],
    anomalies: Output[Artifact],
    metrics: Output[Metrics],
    report: Output[HTML],
    fail_on_anomalies: bool = True,
    title: str = "",
) -> None:
    """Validates a Dataset against a schema, and fails or only reports, as asked.

    Args:
        dataset: The rows.
        statistics: What `profile_dataset` says of them.
        schema: What they must satisfy, as `infer_schema` gives it.
        anomalies: What they do against it as JSON, version 1, each with its severity, its share of rows and examples.
        metrics: The number of errors and warnings.
        report: A page with every anomaly and examples; it needs no network.
        fail_on_anomalies: Whether errors end the run; the outputs are written before. Warnings never do.
        title: The report's heading; '' for "Validation of a dataset".
    """
    from components.data.validate_dataset.validate import validate

    # A browser and Cloud Storage tell a file by its name.
    anomalies.path += ".json"
    report.path += ".html"
    result = validate(
        dataset.path,
        statistics.path,
        schema.path,
        anomalies_path=anomalies.path,
        metrics_path=metrics.path,
        report_path=report.path,
        report_uri=report.uri,
        fail_on_anomalies=fail_on_anomalies,
        metadata=dataset.metadata,
        title=title,
    )
    anomalies.metadata.update(result.metrics)
    metrics.metadata.update(result.metrics)
