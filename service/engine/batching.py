"""What waits, and what leaves together. Pure decisions: no clock, no threads, no device.

Rows are counted, not requests: a request larger than a batch leaves in several, and its rows may share batches with
those of others.
"""

import heapq
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from service.domain import BatchPolicy, Deadline, Ref
from service.errors import QueueFull

# Padding of a few elements is never worth a batch of its own.
_SLACK_ELEMENTS = 8


@dataclass(slots=True, eq=False)
class Request:
    """Rows that came together. `lengths` of sequences, None for dense rows; `payload` is the caller's own."""

    num_rows: int
    deadline: Deadline
    arrived: float
    lengths: Sequence[int] | None = None
    payload: Any = None
    first_row: int = field(default=-1, init=False)
    """The queue's number of row 0, set when it is put."""

    def length(self, index: int) -> int:
        return 1 if self.lengths is None else self.lengths[index]


@dataclass(frozen=True, slots=True)
class Row:
    """Row `index` of a request, waiting in a queue."""

    request: Request
    index: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are computed together, the oldest first unless they are sequences."""

    rows: list[Row]

    def __len__(self) -> int:
        return len(self.rows)


class BatchQueue:
    """The rows that wait for one version, in order of arrival. Not thread-safe.

    The oldest row is in every batch, so no length can starve another.
    """

    def __init__(self, ref: Ref, policy: BatchPolicy) -> None:
        self.ref = ref
        self.policy = policy
        self._rows: dict[int, Row] = {}  # by number, ascending: dicts keep the order of arrival
        self._by_length: list[tuple[int, int]] = []  # (length, number), sequences only
        # A heap of (instant, first row, rows): numbers alone, so that it keeps no answered request's data alive.
        self._deadlines: list[tuple[float, int, int]] = []
        self._next = 0

    def __len__(self) -> int:
        """Rows waiting."""
        return len(self._rows)

    def put(self, request: Request) -> None:
        """Enqueue all of the request's rows, or none: raises QueueFull."""
        if len(self) + request.num_rows > self.policy.max_queued_rows:
            raise QueueFull(self.ref, queued=len(self), limit=self.policy.max_queued_rows)
        request.first_row = self._next
        for index in range(request.num_rows):
            self._rows[self._next] = Row(request, index)
            if request.lengths is not None:
                insort(self._by_length, (request.lengths[index], self._next))
            self._next += 1
        heapq.heappush(self._deadlines, (request.deadline.at, request.first_row, request.num_rows))

    def remove(self, request: Request) -> int:
        """Take back the request's rows that still wait; how many there were."""
        numbers = range(request.first_row, request.first_row + request.num_rows)
        return sum(self._pop(number) is not None for number in numbers)

    def drop_expired(self, now: float) -> list[tuple[Request, int]]:
        """Take back the requests whose deadline has passed while rows of theirs waited, and how many those were."""
        expired = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, first, num_rows = heapq.heappop(self._deadlines)
            late = [row for n in range(first, first + num_rows) if (row := self._pop(n)) is not None]
            if late:
                expired.append((late[0].request, len(late)))
        return expired

    def take(self, now: float) -> Batch | float | None:
        """A batch; or the seconds until there is one; or None while nothing waits.

        Rows are held back only where `max_delay` asks for it, and never once a batch is full.
        """
        if not self._rows:
            return None
        oldest = next(iter(self._rows.values()))
        wait = oldest.request.arrived + self.policy.max_delay - now
        if wait > 0 and len(self) < self.policy.max_rows:
            return wait
        numbers = self._first_come() if oldest.request.lengths is None else self._of_similar_length()
        rows = [self._rows[number] for number in numbers]
        for number in numbers:
            self._pop(number)
        return Batch(rows)

    def _pop(self, number: int) -> Row | None:
        row = self._rows.pop(number, None)
        if row is not None and row.request.lengths is not None:
            del self._by_length[bisect_left(self._by_length, (row.request.length(row.index), number))]
        return row

    def _first_come(self) -> list[int]:
        numbers = iter(self._rows)
        return [number for number, _ in zip(numbers, range(self.policy.max_rows), strict=False)]

    def _of_similar_length(self) -> list[int]:
        """The oldest row and those nearest to it in length, as many as a batch may hold."""
        number, oldest = next(iter(self._rows.items()))
        anchor = oldest.request.length(oldest.index)
        low = bisect_left(self._by_length, (anchor, number))
        high = low + 1
        while high - low < self.policy.max_rows:
            shortest, longest = self._by_length[low][0], self._by_length[high - 1][0]
            below = self._by_length[low - 1][0] if low else None
            above = self._by_length[high][0] if high < len(self._by_length) else None
            grown = high - low + 1
            can_fall = below is not None and self._may_share(below, longest, grown)
            can_rise = above is not None and self._may_share(shortest, above, grown)
            if can_rise and above is not None and (not can_fall or below is None or above - anchor <= anchor - below):
                high += 1
            elif can_fall:
                low -= 1
            else:
                break
        return [number for _, number in self._by_length[low:high]]

    def _may_share(self, shortest: int, longest: int, num_rows: int) -> bool:
        fills = shortest >= self.policy.min_fill * longest - _SLACK_ELEMENTS
        return fills and num_rows * longest <= self.policy.max_elements
