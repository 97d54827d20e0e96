"""One bad row must not fail its neighbours: bisect on an exception, and look at every row's numbers."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from models.preprocess.tensors import Array
from service.engine.device_memory import free_memory
from service.engine.failures import DeviceLost, Failure, failure_of
from service.engine.requests import RowFailure
from service.engine.runner import Fill

log = logging.getLogger(__name__)

T = TypeVar("T")
Run = Callable[[Sequence[T]], tuple[Array, Fill]]


@dataclass(frozen=True, slots=True)
class Results:
    """One result a row, what was executed for them, and whether that was in one piece.

    `too_many` is the smallest number of rows, 2 or more, that memory did not suffice for.
    """

    rows: list[Array | RowFailure]
    fill: Fill
    in_one_piece: bool = True
    too_many: int | None = None


def run_isolating(run: Run[T], rows: Sequence[T]) -> Results:
    """Run all rows; where that raises, halve until each row that raises stands alone and the others have answers.

    Raises DeviceLost where no further run can have an answer.
    """
    try:
        outputs, fill = run(rows)
    except Exception as error:
        failure = failure_of(error)
        if failure is Failure.DEVICE:
            log.exception("the device is lost")
            raise DeviceLost from error
        if len(rows) == 1:
            log.exception("the network failed on a row")
            return Results([_FAILED[failure]], Fill(0, 0), in_one_piece=False)
    else:
        finite = np.all(np.isfinite(outputs.reshape(len(rows), -1)), axis=1).tolist()
        return Results([output if ok else _NOT_FINITE for output, ok in zip(outputs, finite, strict=True)], fill)
    # Outside of the handler: while an exception is handled it holds the failed run's tensors.
    if failure is Failure.MEMORY:
        free_memory()
    middle = len(rows) // 2
    halves = run_isolating(run, rows[:middle]), run_isolating(run, rows[middle:])
    return Results(
        [row for half in halves for row in half.rows],
        halves[0].fill + halves[1].fill,
        in_one_piece=False,
        too_many=min(
            [half.too_many for half in halves if half.too_many is not None],
            default=len(rows) if failure is Failure.MEMORY else None,
        ),
    )


_NOT_FINITE = RowFailure("the network's answer for this row is not finite")
_FAILED = {
    Failure.ROWS: RowFailure("the network failed on this row"),
    Failure.MEMORY: RowFailure("the device's memory does not suffice for this row"),
}
