"""The component `push_model`."""

from kfp import dsl
from kfp.dsl import Input, Metrics, Model

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def push_model(
    model: Input[Model],
    store_uri: str,
    name: str,
    compared_with: str = "",
    promote: bool = True,
    lineage: dict = {},  # noqa: B006 - kfp takes a literal, and never changes it
    job: str = "",
    evaluation: Input[Metrics] = None,
) -> str:
    """Puts a Model into a model store as an immutable version, and makes it the champion.

    Use it with `set_caching_options(False)`: a push from the cache moves nothing.

    Args:
        model: The Model to push.
        store_uri: The store: a local folder or a `gs://` prefix.
        name: The model's name in the store.
        compared_with: The pinned reference of the champion that the model was found better than; "" when there was
            none. The step fails, and the champion stays, when it is another one by now.
        promote: Whether the version becomes `champion`, and the champion of before `previous`; false stores it only.
        lineage: What the model comes from, JSON values by name, for the model card.
        job: The job's name: `dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER`.
        evaluation: The metrics that the model was evaluated at, for the model card.

    Returns:
        The version's reference, `<store>/<name>@<version>`.
    """
    from components.deployment.push_model.push import push

    return push(
        model.path,
        store_uri,
        name,
        compared_with=compared_with,
        promote=promote,
        lineage=lineage,
        metrics=evaluation.metadata if evaluation else {},
        metadata=model.metadata,
        job=job,
    )
