"""What waits in a queue: requests, and their rows."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from service.domain import DEFAULT_PRIORITY, Deadline

# What a step of priority is worth. Because it is a head start and not a rank, a low priority is late but never starves.
PRIORITY_SECONDS = 1.0
_MIDDLE_PRIORITY = 5


@dataclass(slots=True, eq=False)
class Request:
    """Rows that came together. `lengths` of sequences, None for dense rows; `payload` is the caller's own.

    The rows of a request that is to run `alone` share their batches with nobody, not even with one another.
    """

    num_rows: int
    deadline: Deadline
    arrived: float
    lengths: Sequence[int] | None = None
    payload: Any = None
    priority: int = DEFAULT_PRIORITY
    alone: bool = False
    num_bytes: int = 0
    first_row: int = field(default=-1, init=False)
    """The queue's number of row 0, set when it is put."""
    row_seconds: float = field(default=0.0, init=False)
    """What a row of it was expected to take when it was put."""

    def length(self, index: int) -> int:
        return 1 if self.lengths is None else self.lengths[index]

    @property
    def longest(self) -> int:
        return 1 if self.lengths is None else max(self.lengths)

    @property
    def level(self) -> int:
        """Its priority, from 1 to 9."""
        return self.priority or _MIDDLE_PRIORITY

    @property
    def turn(self) -> float:
        """When it would have come to have its place among requests of the middle priority."""
        return self.arrived + PRIORITY_SECONDS * (self.level - _MIDDLE_PRIORITY)


class Row(NamedTuple):
    """A row of a request by its position there, waiting in a queue."""

    request: Request
    position: int

    @property
    def length(self) -> int:
        return self.request.length(self.position)


class Waiting:
    """The rows of one queue, by number and in the order of their turns.

    Rows of one priority have their turns in the order of arrival, so a lane for each priority keeps all in order
    without sorting. Rows to be run alone have lanes of their own.
    """

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}
        self._lanes: dict[tuple[int, bool], dict[int, Row]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, number: int, row: Row) -> None:
        request = row.request
        self._rows[number] = row
        self._lanes.setdefault((request.level, request.alone), {})[number] = row

    def pop(self, number: int) -> Row | None:
        row = self._rows.pop(number, None)
        if row is not None:
            del self._lanes[row.request.level, row.request.alone][number]
        return row

    def get(self, number: int) -> Row | None:
        return self._rows.get(number)

    def first(self) -> tuple[int, Row]:
        """The row whose turn it is. There must be one."""
        heads = [next(iter(lane.items())) for lane in self._lanes.values() if lane]
        return heads[0] if len(heads) == 1 else min(heads, key=_turn)

    def first_together(self, count: int) -> list[int]:
        """The numbers of the rows whose turns come first, but for those that run alone."""
        lanes = [lane for (_, alone), lane in self._lanes.items() if lane and not alone]
        if len(lanes) == 1:
            return list(islice(lanes[0], count))
        merged = heapq.merge(*(lane.items() for lane in lanes), key=_turn)
        return [number for number, _ in islice(merged, count)]

    def oldest(self) -> float | None:
        """When the row that waits longest arrived."""
        return min((next(iter(lane.values())).request.arrived for lane in self._lanes.values() if lane), default=None)


def _turn(item: tuple[int, Row]) -> tuple[float, int]:
    number, row = item
    return row.request.turn, number
