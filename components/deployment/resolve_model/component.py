"""The component `resolve_model`."""

from kfp import dsl
from kfp.dsl import Model, Output

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def resolve_model(model_reference: str, model: Output[Model]) -> None:
    """Turns a model reference into a Model.

    What a reference stands for changes without the reference changing: call it with `set_caching_options(False)`.

    Args:
        model_reference: A hub id `org/name` or `name`, with `@revision` for a branch, tag or commit; or a folder,
            local or `gs://`, as `save_pretrained` writes it.
        model: The model's configuration, safetensors weights and tokenizer, and nothing else that lay beside them.
            Metadata: reference, revision (the commit of a hub's model), architecture, labels, parameters, digest,
            libraries.
    """
    from components.deployment.resolve_model.resolve import resolve

    model.metadata.update(resolve(model_reference, model.path))
