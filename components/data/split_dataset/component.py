"""The component `split_dataset`."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Metrics, Output

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def split_dataset(
    dataset: Input[Dataset],
    train: Output[Dataset],
    validation: Output[Dataset],
    test: Output[Dataset],
    report: Output[HTML],
    metrics: Output[Metrics],
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_by: str = "text",
    seed: int = 0,
    require_labels: bool = False,
) -> None:
    """Splits a Dataset into train, validation and test, so that a row stays on its side for ever.

    Args:
        dataset: The Dataset to split.
        train: The rows to train on.
        validation: The rows to choose a checkpoint and hyper-parameters on; perhaps none.
        test: The rows to judge the model on; perhaps none.
        report: A page with sizes, labels per split, and texts that are on two sides.
        metrics: Rows per split, how far the splits' labels differ, and rows whose text is on two sides.
        validation_fraction: Share of the rows for validation, 0 or more.
        test_fraction: Share of the rows for test, 0 or more; train has the rest, which must be more than 0.
        split_by: What decides on the side: `text` keeps equal texts together, `id` goes by the id, and the name of any
            column keeps the rows of each of its values together.
        seed: Another number draws another split.
        require_labels: Whether rows without a label are left out of all three.
    """
    from components.data.split_dataset.split import split

    # A browser and Cloud Storage tell a page by its name; without the ending they show its source.
    report.path += ".html"
    result = split(
        dataset.path,
        train=train.path,
        validation=validation.path,
        test=test.path,
        report_path=report.path,
        metrics_path=metrics.path,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        split_by=split_by,
        seed=seed,
        require_labels=require_labels,
        source=dataset.metadata,
    )
    train.metadata.update(result.metadata["train"])
    validation.metadata.update(result.metadata["validation"])
    test.metadata.update(result.metadata["test"])
    metrics.metadata.update(result.metrics)
