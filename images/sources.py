"""What an image is made of: `python -m images.sources` prints VERSION and SOURCE_DIGEST, and needs only Python."""

import hashlib
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAME = "kfp-transformers-python"
# The same as .dockerignore lets through, and what says how an image is built.
FILES = ("pyproject.toml", "constraints.txt", "images/Dockerfile", "images/install_libraries.sh")
PACKAGES = ("components", "emulator", "pipelines", "triggers")


def version() -> str:
    """Returns the project's version."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def source_digest() -> str:
    """Returns a digest of every file that goes into an image (64 hexadecimal digits)."""
    found = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    files = [ROOT / name for name in FILES] + [path for path in found if path.suffix != ".pyc"]
    digest = hashlib.sha256()
    for path in sorted(files):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


if __name__ == "__main__":
    print(f"VERSION={version()}\nSOURCE_DIGEST={source_digest()}")
