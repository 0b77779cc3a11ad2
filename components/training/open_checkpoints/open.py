"""Names the folder where a training program keeps the state to resume from."""

import hashlib
import json
import posixpath
from pathlib import Path
from typing import Any


def choose_folder(own: str, checkpoint_uri: str = "", **facts: Any) -> str:
    """Returns the folder for the state of a training, and makes it where it is on this machine.

    Args:
        own: The folder that the run offers.
        checkpoint_uri: A folder or `gs://` prefix of the user's; "" takes `own`.
        **facts: What tells this training from every other, JSON values.

    Returns:
        Its path or `gs://` URI; below a user's folder it is named by a digest of the facts.
    """
    folder = own
    if checkpoint_uri:
        text = json.dumps(facts, sort_keys=True)
        folder = posixpath.join(checkpoint_uri, hashlib.sha256(text.encode()).hexdigest()[:32])
    if "://" not in folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    print(f"open_checkpoints: {folder}", flush=True)
    return folder
