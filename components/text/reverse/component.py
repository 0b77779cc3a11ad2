"""The component `reverse`."""

from kfp import dsl

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def reverse(text: str) -> str:
    """Reverses a text.

    Args:
        text: The text to reverse.

    Returns:
        The text backwards; combining accents stay on their letters.
    """
    from components.text.reverse.reverse import reverse

    return reverse(text)
