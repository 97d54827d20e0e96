"""The few sizes to which a batch is padded for back ends that pay for each new one.

Shapes: B rows, T steps.
"""

from bisect import bisect_left

import numpy as np

from models.preprocess import Tensors
from models.preprocess.tensors import Array

# Up to a batch's usual bound; a third more work for a few rows at worst, a seventh for many.
ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 32)
_STEP_OF_ROWS = 16
# A sixteenth of the length, and no less than this.
_LEAST_STEP = 8


def pad_rows(num_rows: int) -> int:
    """The next of few numbers of rows."""
    if num_rows <= ROWS[-1]:
        return ROWS[bisect_left(ROWS, num_rows)]
    return -(-num_rows // _STEP_OF_ROWS) * _STEP_OF_ROWS


def pad_steps(longest: int) -> int:
    """The next of few lengths."""
    step = max(_LEAST_STEP, 1 << (longest - 1).bit_length() >> 4)
    return -(-longest // step) * step


def padded_batch(sample: Tensors, num_rows: int) -> tuple[Array, Array | None]:
    """x and lengths of `num_rows` times the sample's first row; of sequences the last is a step shorter."""
    row = sample.rows()[0]
    x = np.stack([row] * num_rows)
    if sample.lengths is None:
        return x, None
    lengths = np.full(num_rows, len(row), np.int64)
    lengths[-1] = max(1, len(row) - 1)
    x[-1, lengths[-1] :] = 0
    return x, lengths
