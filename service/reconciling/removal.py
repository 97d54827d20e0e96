"""Removing the files of a deleted version: out of sight at once, then for good."""

import logging
import shutil
from pathlib import Path

from service.domain import Ref

log = logging.getLogger(__name__)


def remove_files(root: Path, ref: Ref) -> None:
    """Remove a registered version's folder, and its model's where that was the last; nothing where there is none.

    A name that begins with a dot is no version's, so what is left of a removal that was cut short is never served;
    the next removal takes it along. A link is removed, what it leads to is not. Raises OSError.
    """
    model = root / ref.model
    for half_removed in model.glob(".removed-*"):
        shutil.rmtree(half_removed, ignore_errors=True)
    folder = model / str(ref.version)
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        hidden = model / f".removed-{ref.version}"
        folder.rename(hidden)
        shutil.rmtree(hidden)
    if model.is_dir() and not model.is_symlink() and not any(model.iterdir()):
        model.rmdir()
