"""The component `fingerprint_source`."""

from kfp import dsl

from components.image import COMPONENT_IMAGE


@dsl.component(base_image=COMPONENT_IMAGE, install_kfp_package=False)
def fingerprint_source(source_uri: str, allow_none: bool = False) -> str:
    """Digests what is behind a URI now, so that a cached step after it runs again when the content has changed.

    Use it with `set_caching_options(False)`: a cached fingerprint says nothing.

    Args:
        source_uri: A file, a folder or a glob; a local path or a `gs://` URI.
        allow_none: Whether `source_uri` may be '', for an optional file; the digest is then '' too.

    Returns:
        A digest of the files' names, sizes and versions (64 hexadecimal digits).
    """
    from components.data.fingerprint_source.fingerprint import fingerprint

    return fingerprint(source_uri, allow_none)
