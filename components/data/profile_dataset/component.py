"""The component `profile_dataset`."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def profile_dataset(
    dataset: Input[Dataset],
    statistics: Output[Artifact],
    metrics: Output[Metrics],
    report: Output[HTML],
    reference: Input[Artifact] = None,
    model: Input[Model] = None,
    title: str = "",
) -> None:
    """Describes a Dataset: lengths, labels, duplicates, blank texts, scripts, vocabulary, and every column.

    Args:
        dataset: The rows.
        statistics: All numbers as JSON, version 1; `infer_schema` and `validate_dataset` read it.
        metrics: The few numbers that matter most.
        report: A page with plots and examples; it needs no network.
        reference: The statistics of another Dataset, whose vocabulary is compared with that of this one.
        model: A model whose tokenizer counts the tokens; without it, or when it is absent, words are counted.
        title: The report's heading; '' for "Profile of a dataset".
    """
    from components.data.profile_dataset.profile import profile

    # A browser and Cloud Storage tell a file by its name.
    statistics.path += ".json"
    report.path += ".html"
    metrics.metadata.update(
        profile(
            dataset.path,
            statistics_path=statistics.path,
            metrics_path=metrics.path,
            report_path=report.path,
            reference_path=reference.path if reference else "",
            model_path=model.path if model else "",
            metadata=dataset.metadata,
            title=title,
        )
    )
