"""The component `concat`."""

from kfp import dsl

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def concat(first: str, second: str) -> str:
    """Joins two texts.

    Args:
        first: The text that comes first.
        second: The text that follows it.

    Returns:
        Both texts, without anything between them.
    """
    from components.text.concat.concat import concat

    return concat(first, second)
