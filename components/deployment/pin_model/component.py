"""The component `pin_model`."""

from kfp import dsl

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def pin_model(model_reference: str, allow_none: bool = False) -> str:
    """Says which model a reference stands for now, so that the cached steps after it run again when it is another.

    Use it with `set_caching_options(False)`: a cached answer says nothing.

    Args:
        model_reference: A hub id `org/name[@revision]`, a local or `gs://` folder, or
            `<store>/<name>@<alias or version>` in a model store.
        allow_none: Whether there may be no model yet: "", or an alias that a store does not have.

    Returns:
        A reference for `resolve_model` that stands for the same model for ever: `org/name@<commit>`,
        `<folder>#<digest>` or `<store>/<name>@<version>`; "" for none.
    """
    from components.deployment.pin_model.pin import pin

    return pin(model_reference, allow_none)
