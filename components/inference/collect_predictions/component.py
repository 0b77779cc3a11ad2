"""The component `collect_predictions`."""

from typing import List

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def collect_predictions(shards: Input[List[Dataset]], predictions: Output[Dataset]) -> None:
    """Puts the predictions of all shards together, in the order of the dataset.

    Args:
        shards: What `classify_text` wrote, one Dataset per shard.
        predictions: All rows. Metadata: rows, columns, labels, shard, dataset_rows, digest, dataset_digest,
            model_digest, shards, device, precision.
    """
    from components.inference.collect_predictions.collect import collect

    predictions.metadata.update(collect([(shard.path, shard.metadata) for shard in shards], predictions.path))
