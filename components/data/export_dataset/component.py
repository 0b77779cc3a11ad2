"""The component `export_dataset`."""

from kfp import dsl
from kfp.dsl import Dataset, Input

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def export_dataset(dataset: Input[Dataset], output_uri: str, format: str = "parquet") -> str:
    """Writes a Dataset, or Predictions, to a folder that a person named.

    Args:
        dataset: What to export.
        output_uri: The folder; a local path or a `gs://` URI. An earlier export there is replaced.
        format: `parquet`, `csv` or `jsonl`.

    Returns:
        The folder's absolute path or `gs://` URI.
    """
    from components.data.export_dataset.export import export

    return export(dataset.path, output_uri, format)
