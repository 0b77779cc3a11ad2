"""The component `resolve_model`."""

from kfp import dsl
from kfp.dsl import Model, Output

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def resolve_model(
    model_reference: str, model: Output[Model], allow_none: bool = False, any_architecture: bool = False
) -> None:
    """Turns a model reference into a Model.

    What a reference stands for changes without the reference changing: give it the output of `pin_model`, or call it
    with `set_caching_options(False)`.

    Args:
        model_reference: A hub id `org/name` or `name`, with `@revision` for a branch, tag or commit; a folder, local or
            `gs://`, as `save_pretrained` writes it; `<store>/<name>@<alias or version>` in a model store; or what
            `pin_model` made of one of these.
        model: The model's configuration, safetensors weights and tokenizer, and nothing else that lay beside them.
            Metadata: reference, revision (the commit of a hub's model, the version in a store), architecture, labels,
            parameters, digest, libraries. The absent Model's: absent, reference.
        allow_none: Whether "", and an alias that a store does not have yet, give the absent Model, which stands for
            "there is none yet".
        any_architecture: Whether a model without a classification head will do, as one to fine-tune; it has no labels.
    """
    from components.deployment.resolve_model.resolve import resolve

    model.metadata.update(resolve(model_reference, model.path, allow_none, any_architecture))
