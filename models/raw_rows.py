"""Raw rows, which are one array or a list of texts or sequences: some of them, and several parts together."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.preprocess import RawRows

Array = np.ndarray[Any, np.dtype[Any]]


def take(rows: RawRows, indices: Array) -> RawRows:
    """Return the rows at `indices`."""
    if isinstance(rows, np.ndarray):
        return rows[indices]
    return [rows[i] for i in indices]


def joined(parts: Sequence[RawRows]) -> RawRows:
    """Return the rows of all parts, one part after another."""
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts):
        return np.concatenate(arrays)
    rows: list[Any] = [row for part in parts for row in part]
    return rows
