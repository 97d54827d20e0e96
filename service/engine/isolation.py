"""One bad row must not fail its neighbours: bisect on an exception, and look at every row's numbers."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.preprocess.tensors import Array
from service.engine.replica import Fill

log = logging.getLogger(__name__)

Run = Callable[[Sequence[Array]], tuple[Array, Fill]]


@dataclass(frozen=True, slots=True)
class RowFailure:
    """Why a row has no answer, in words that tell a client nothing of our insides."""

    reason: str


@dataclass(frozen=True, slots=True)
class Results:
    """One result a row, and what was executed for them."""

    rows: list[Array | RowFailure]
    fill: Fill


def run_isolating(run: Run, rows: Sequence[Array]) -> Results:
    """Run all rows; where that raises, halve until each row that raises stands alone and the others have answers."""
    try:
        outputs, fill = run(rows)
    except Exception:
        if len(rows) == 1:
            log.exception("the network failed on a row")
            return Results([RowFailure("the network failed on this row")], Fill(0, 0))
        middle = len(rows) // 2
        first, second = run_isolating(run, rows[:middle]), run_isolating(run, rows[middle:])
        fill = Fill(first.fill.elements + second.fill.elements, first.fill.padding + second.fill.padding)
        return Results([*first.rows, *second.rows], fill)
    finite = np.all(np.isfinite(outputs.reshape(len(rows), -1)), axis=1).tolist()
    not_finite = RowFailure("the network's answer for this row is not finite")
    return Results([output if ok else not_finite for output, ok in zip(outputs, finite, strict=True)], fill)
