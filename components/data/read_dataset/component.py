"""The component `read_dataset`."""

from kfp import dsl
from kfp.dsl import Dataset, Output

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def read_dataset(
    source_uri: str,
    dataset: Output[Dataset],
    text_column: str = "text",
    id_column: str = "",
    label_column: str = "",
    fingerprint: str = "",
    encoding: str = "utf-8",
) -> None:
    """Reads CSV, TSV, JSON Lines or Parquet into a Dataset.

    Args:
        source_uri: A file, a folder (with its sub-folders) or a glob; a local path or a `gs://` URI.
        dataset: The texts, with the columns `id`, `text` and `label` and all other columns of the source.
        text_column: The column with the texts.
        id_column: The column with unique ids; '' makes ids from file name and row number.
        label_column: The column with the labels; '' when none are known.
        fingerprint: What `fingerprint_source` says of `source_uri`, so that changed content is read again.
        encoding: The encoding of CSV, TSV and JSON Lines.
    """
    from components.data.read_dataset.read import read

    dataset.metadata.update(read(source_uri, dataset.path, text_column, id_column, label_column, encoding))
