"""Files that are whole after a crash too: the old one or the new one, never a part."""

import os
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """Write a file and have the disk keep it. One that is cut short by a crash is there in part: see `replace`."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, data: bytes) -> None:
    """Put `data` in a file's place at once; until then, and after a crash before, the old one is there."""
    draft = path.with_name(f".{path.name}.draft")
    write(draft, data)
    draft.replace(path)
    # The new name is the folder's to keep, not the file's.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
