"""Removing the files of a deleted version: out of sight at once, then for good."""

import logging
import shutil
from pathlib import Path

from service.domain import Ref

log = logging.getLogger(__name__)


def remove_files(root: Path, ref: Ref) -> None:
    """Remove a registered version's folder, and its model's where that was the last; nothing where there is none.

    A name that begins with a dot is no version's, so what is left of a removal that was cut short is never served;
    the next removal takes it along. A link is removed, what it leads to is not. Raises OSError, and does so again
    until the version's files are really gone.
    """
    model = root / ref.model
    folder, hidden = model / str(ref.version), model / f".removed-{ref.version}"
    for half_removed in model.glob(".removed-*"):
        # What is left of others is their own removal's matter, which fails until it is gone.
        shutil.rmtree(half_removed, ignore_errors=half_removed != hidden)
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        folder.rename(hidden)
        shutil.rmtree(hidden)
    if model.is_dir() and not model.is_symlink() and not any(model.iterdir()):
        model.rmdir()
