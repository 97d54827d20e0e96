"""The values that steps work on and that an engine receives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Tensors:
    """A batch of prepared rows, one at least.

    Dense rows of one shape: `values` is (n, *shape), `lengths` is None.
    Sequences: `values` is packed, (sum(lengths), *features), and `lengths` is (n,) int32. Packed rows carry no padding,
    so that what travels and what is compared is only what was said; an engine pads when it assembles a batch.
    """

    values: Array
    lengths: Array | None = None

    def __len__(self) -> int:
        return len(self.values) if self.lengths is None else len(self.lengths)

    @staticmethod
    def packed(rows: Sequence[Array]) -> "Tensors":
        """Pack sequences of shapes (length_i, *features)."""
        return Tensors(np.concatenate(rows), np.fromiter(map(len, rows), np.int32, len(rows)))

    def rows(self) -> list[Array]:
        """One array a row; views, no copies."""
        if self.lengths is None:
            return list(self.values)
        return np.split(self.values, np.cumsum(self.lengths)[:-1])


def pictures(rows: Tensors, step: str) -> Array:
    """The values of rows that are pictures, (n, C, H, W). Raises ValueError for any others."""
    if rows.lengths is not None or rows.values.ndim != 4:
        kind = f"rows of shape {rows.values.shape[1:]}" if rows.lengths is None else "sequences"
        raise ValueError(f"the step {step!r} takes pictures (n, C, H, W), not {kind}")
    return rows.values


class StepConfig(BaseModel):
    """What every step's declaration shares: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
