"""Requests as a queue sees them: rows of nothing but zeros, whose answers nobody hears."""

import math
from collections.abc import Sequence

import numpy as np

from models.preprocess import Tensors
from service.domain import DEFAULT_PRIORITY, Deadline, Ref
from service.engine.requests import Request

REF = Ref("m", 1)
NOW = 100.0


def request(
    num_rows: int = 1,
    *,
    ref: Ref = REF,
    deadline: float = math.inf,
    arrived: float = NOW,
    lengths: Sequence[int] | None = None,
    row_bytes: int = 1,
    priority: int = DEFAULT_PRIORITY,
    digest: bytes = b"",
    is_canary: bool = False,
) -> Request:
    """So many dense rows of so many bytes, or a row for each of the `lengths`."""
    if lengths:
        tensors = Tensors.packed([np.zeros(length, np.uint8) for length in lengths])
    else:
        tensors = Tensors(np.zeros((num_rows, row_bytes), np.uint8))
    return Request(
        ref, tensors, Deadline(deadline), arrived, _unheard, priority=priority, digest=digest, is_canary=is_canary
    )


def _unheard(_: object) -> None:
    return
