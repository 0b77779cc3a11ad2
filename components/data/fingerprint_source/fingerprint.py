"""Digests what is behind a URI now."""

from components.storage import digest_of, list_files


def fingerprint(source_uri: str, allow_none: bool = False) -> str:
    """Digests the names, sizes and versions of the files behind a URI, without reading them.

    Args:
        source_uri: A file, a folder or a glob; a local path or a `gs://` URI.
        allow_none: Whether it may be '', for an optional file; the digest is then '' too.

    Returns:
        64 hexadecimal digits, which change when a file is added, removed or written again. The version of a file is its
        generation on Cloud Storage, and its modification time and size on a local disk.

    Raises:
        InputError: Nothing is there.
    """
    if allow_none and not source_uri:
        print("There is no source to look at.", flush=True)
        return ""
    files = list_files(source_uri)
    digest = digest_of(files)
    size = sum(file.size for file in files)
    print(f"{len(files):,} file{'s' * (len(files) > 1)}, {size:,} bytes at {source_uri}: {digest[:12]}", flush=True)
    return digest
