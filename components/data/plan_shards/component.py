"""The component `plan_shards`."""

from kfp import dsl
from kfp.dsl import Dataset, Input

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def plan_shards(dataset: Input[Dataset], num_shards: int = 1, max_length: int = 0) -> list[str]:
    """Divides a Dataset's rows into ranges of about as many tokens each, for steps that run in parallel.

    Args:
        dataset: The Dataset to divide.
        num_shards: The number of shards wanted; a small Dataset gives fewer, one row each.
        max_length: The most tokens of a text that the steps read; 0 means 512. What is beyond is no work.

    Returns:
        `"start:stop"` for each shard: the first row and the row to stop before.
    """
    from components.data.plan_shards.plan import plan

    return plan(dataset.path, num_shards, max_length)
