"""What may become of a checkpoint on disk."""

import hashlib
import json
from pathlib import Path

from models.manifest import MANIFEST, WEIGHTS


def cut_short(folder: Path) -> None:
    """Take the end off a checkpoint's weights."""
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-10])


def poison(folder: Path) -> None:
    """Put a NaN among a checkpoint's weights, and have the manifest vouch for them."""
    weights = bytearray((folder / WEIGHTS).read_bytes())
    weights[-4:] = b"\x00\x00\xc0\x7f"  # float32 NaN
    (folder / WEIGHTS).write_bytes(weights)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][WEIGHTS]["sha256"] = hashlib.sha256(weights).hexdigest()
    (folder / MANIFEST).write_bytes(json.dumps(manifest).encode())
