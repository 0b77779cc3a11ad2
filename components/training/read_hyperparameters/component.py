"""The component `read_hyperparameters`."""

from kfp import dsl

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def read_hyperparameters(source_uri: str = "", values: dict = {}) -> dict:  # noqa: B006
    """Reads and checks the hyper-parameters of a training run, before a GPU is paid for.

    Args:
        source_uri: A JSON or YAML file with names and values, local or on Cloud Storage; "" reads none.
        values: Names and values that win over those of the file.

    Returns:
        The values that were given, checked; what neither names is left out, and has its default where it is used.
    """
    from components.training.read_hyperparameters.read import read

    return read(source_uri, values)
