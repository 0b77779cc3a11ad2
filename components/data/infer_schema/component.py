"""The component `infer_schema`."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Output

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def infer_schema(
    statistics: Input[Artifact],
    schema: Output[Artifact],
    schema_uri: str = "",
    fingerprint: str = "",
    length_slack: float = 0.5,
    share_slack: float = 0.05,
    rows_share: float = 0.5,
) -> None:
    """Makes a schema from statistics, or takes one that a person reviewed.

    Args:
        statistics: What `profile_dataset` says of a Dataset that is right.
        schema: The schema as JSON, version 1, to be read, edited and committed.
        schema_uri: A reviewed schema, a local path or a `gs://` URI, which is checked and taken; '' infers one.
        fingerprint: What `fingerprint_source` says of `schema_uri`, so that a changed schema is read again.
        length_slack: A text may be longer than the longest, or shorter than the shortest, by this share of it.
        share_slack: What is added to the shares of missing values, blank texts, duplicates and conflicting labels.
        rows_share: The share to which the rows, and those of the rarest label, may fall.
    """
    from components.data.infer_schema.infer import infer

    # A browser and Cloud Storage tell a file by its name.
    schema.path += ".json"
    inferred = infer(
        statistics.path,
        schema.path,
        schema_uri=schema_uri,
        length_slack=length_slack,
        share_slack=share_slack,
        rows_share=rows_share,
    )
    schema.metadata.update({"reviewed": bool(schema_uri), "schema_uri": schema_uri, "columns": len(inferred.columns)})
