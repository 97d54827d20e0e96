"""What waits, and what leaves together. Pure decisions: no clock, no threads, no device.

Rows are counted, not requests: a request larger than a batch leaves in several, and its rows may share batches with
those of others.
"""

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass

from service.domain import LOWEST_PRIORITY, BatchPolicy, Ref
from service.engine.cost import CostModel
from service.engine.requests import Request, Row, Waiting
from service.errors import DeadlineExceeded, Overloaded, QueueFull

# Padding of a few elements is never worth a batch of its own.
_SLACK_ELEMENTS = 8
# What a batch of its own is taken to cost, in elements. At least the engine's part, on a device that takes none.
# At most what leaves less than a tenth of a batch of texts as padding: a busy machine makes it seem more than it is.
_LEAST_OVERHEAD, _MOST_OVERHEAD = 64, 256
# Of the time that is left, a batch is given so much: predictions err, and the answer has a way to go.
_DEADLINE_SHARE = 0.8
# What is held back leaves a little earlier than that, so that all of it still fits.
_HELD_SHARE = 0.7
# So few that are of no use any more are not worth a look.
_FEW_ENTRIES = 16


# The (rows, steps) in which a batch of so many rows, the longest of so many steps, is run.
Sizes = Callable[[int, int], tuple[int, int]]


def as_they_are(num_rows: int, longest: int) -> tuple[int, int]:
    """The sizes of what runs every batch as it is."""
    return num_rows, longest


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are computed together, first come first unless they are sequences."""

    rows: list[Row]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def longest(self) -> int:
        """Elements of the longest row, 1 for dense rows."""
        return 1 if self.rows[0].request.lengths is None else max(row.length for row in self.rows)


class BatchQueue:
    """The rows that wait for one version, and what its batches take. Not thread-safe.

    The row whose turn it is is in every batch, so no length can starve another.
    """

    def __init__(
        self, ref: Ref, policy: BatchPolicy, cost: CostModel | None = None, sizes: Sizes = as_they_are
    ) -> None:
        self.ref = ref
        self.policy = policy
        self.fit(cost or CostModel(), sizes)
        self._waiting = Waiting()
        self._by_length: list[tuple[int, int]] = []  # (length, number), sequences only
        # A heap of (instant, first row, rows): numbers alone, so that it keeps no answered request's data alive.
        self._deadlines: list[tuple[float, int, int]] = []
        self._left: dict[int, int] = {}  # rows that wait, by the first row of their request
        self._next = 0
        self._bytes = 0.0
        self._seconds = [0.0] * (LOWEST_PRIORITY + 1)  # of the rows that wait, by level
        self._max_elements = policy.max_elements
        self._limited_until = -math.inf
        self.is_closed = False

    def __len__(self) -> int:
        """Rows waiting."""
        return len(self._waiting)

    @property
    def backlog(self) -> float:
        """Seconds that what waits will take, as far as is known."""
        return sum(self._seconds) / self._at_once

    @property
    def is_next_alone(self) -> bool:
        """Whether the row whose turn it is, which there must be, runs alone."""
        return self._waiting.first()[1].request.alone

    def fit(self, cost: CostModel, sizes: Sizes = as_they_are, at_once: int = 1) -> None:
        """From now on batches take what is known to `cost`, are run in such sizes, and as many beside one another."""
        self.cost = cost
        self._sizes = sizes
        self._at_once = at_once

    def age(self, now: float) -> float:
        """Seconds that the oldest row has waited; 0 where none does."""
        oldest = self._waiting.oldest()
        return 0.0 if oldest is None else now - oldest

    def put(self, request: Request, *, busy: float = 0.0) -> None:
        """Enqueue all of the request's rows, or none.

        Raises QueueFull, Overloaded where it would be too late after what waits already, or DeadlineExceeded where it
        would be even by itself. `busy` are the seconds until the device is free.
        """
        self._check_bounds(request, busy)
        longest = request.longest
        own = self._least_seconds(request, request.num_rows, longest, request.arrived)
        time_left = request.deadline.remaining(request.arrived)
        if time_left < own:
            raise DeadlineExceeded(self.ref, "the queue")
        ahead = busy + sum(self._seconds[: request.level + 1]) / self._at_once
        if time_left < own + self.cost.trust(longest, request.arrived) * ahead:
            raise Overloaded(self.ref, wait=busy + self.backlog)
        request.first_row = self._next
        request.row_seconds = self.cost.row_seconds(longest, 1 if request.alone else self.policy.max_rows)
        self._count(request, request.num_rows)
        for index in range(request.num_rows):
            row = Row(request, index)
            self._waiting.add(self._next, row)
            if request.lengths is not None and not request.alone:
                insort(self._by_length, (row.length, self._next))
            self._next += 1
        self._left[request.first_row] = request.num_rows
        self._forget_answered()
        heapq.heappush(self._deadlines, (request.deadline.at - own, request.first_row, request.num_rows))

    def remove(self, request: Request) -> int:
        """Take back the request's rows that still wait; how many there were."""
        numbers = range(request.first_row, request.first_row + request.num_rows)
        return sum(self._pop(number) is not None for number in numbers)

    def drop_late(self, now: float) -> list[tuple[Request, int]]:
        """Take back the requests that can't be answered in time any more, and how many rows of theirs waited.

        Those are the ones whose deadline comes before all their rows could have run, and, where many wait, those next
        in turn that would have to leave in a batch both short and less than half the size: serving what is almost too
        late in ever smaller batches would make everything late.
        """
        late = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, first, num_rows = heapq.heappop(self._deadlines)
            if first not in self._left:
                continue
            rows = [row for n in range(first, first + num_rows) if (row := self._waiting.get(n)) is not None]
            request = rows[0].request
            own = self._least_seconds(request, len(rows), max(row.length for row in rows), now)
            if request.deadline.at - own > now:  # some of its rows have run, or runs are faster than they were
                heapq.heappush(self._deadlines, (request.deadline.at - own, first, num_rows))
            else:
                late.append((request, self.remove(request)))
        while len(self) > 1:
            _, row = self._waiting.first()
            if now + self._decent_seconds(row, now) < row.request.deadline.at:
                break
            late.append((row.request, self.remove(row.request)))
        return late

    def held(self, now: float, until: float = -math.inf) -> float:
        """Seconds for which what waits is held back; 0 where it may leave, or nothing waits.

        That is as long as `max_delay` asks for it, or `until`, never once a batch is full or the queue is closed, and
        no longer than the deadlines of what waits allow.
        """
        if not len(self):
            return 0.0
        _, first = self._waiting.first()
        if self.is_closed or first.request.alone or self._is_full(first, now):
            return 0.0
        until = max(until, first.request.arrived + self.policy.max_delay)
        return max(0.0, self._in_time(first, until) - now) if until > now else 0.0

    def take(self, now: float, max_seconds: float = math.inf) -> Batch:
        """The next batch. Something must wait; whether it may leave yet is for `held` to say.

        A batch of several rows is kept to an expected `max_seconds`, and to what its first row has left.
        """
        number, first = self._waiting.first()
        max_seconds = min(max_seconds, _DEADLINE_SHARE * max(0.0, first.request.deadline.remaining(now)))
        if first.request.alone:
            numbers = [number]
        elif first.request.lengths is None:
            numbers = self._first_come(now, max_seconds)
        else:
            numbers = self._of_similar_length(number, first, now, max_seconds)
        return Batch([row for number in numbers if (row := self._pop(number)) is not None])

    def close(self) -> None:
        """Hold nothing back any more: nothing further will come."""
        self.is_closed = True

    def limit_elements(self, max_elements: int, until: float) -> None:
        """Keep batches to so many rows, or padded elements, for a while."""
        self._max_elements = max(1, max_elements)
        self._limited_until = until

    def _check_bounds(self, request: Request, busy: float) -> None:
        if len(self) + request.num_rows > self.policy.max_queued_rows:
            raise QueueFull(self.ref, len(self), self.policy.max_queued_rows, wait=busy + self.backlog)
        # What waits for nothing before it is let in: otherwise a request larger than the bound would never be.
        if len(self) and self._bytes + request.num_bytes > self.policy.max_queued_bytes:
            queued, limit = int(self._bytes), self.policy.max_queued_bytes
            raise QueueFull(self.ref, queued, limit, unit="bytes", wait=busy + self.backlog)

    def _least_seconds(self, request: Request, num_rows: int, longest: int, now: float) -> float:
        """The least that running these rows may take, even if nothing else wanted the device."""
        if request.lengths is not None:
            return self._trusted(longest, 1, now)
        batch = 1 if request.alone else self.policy.max_rows
        full, rest = divmod(num_rows, batch)
        seconds = full * self.cost.seconds(1, batch) + (self.cost.seconds(1, rest) if rest else 0.0)
        return seconds * self.cost.trust(1, now)

    def _decent_seconds(self, row: Row, now: float) -> float:
        """What a batch takes that this row may leave in: half of what waits, or one that is long enough by itself."""
        half = 1 if row.request.alone else max(1, min(len(self), self.policy.max_rows) // 2)
        long_enough = max(self.policy.max_batch_seconds, self._trusted(row.length, 1, now))
        return min(self._trusted(row.length, half, now), long_enough)

    def _is_full(self, first: Row, now: float) -> bool:
        """Whether waiting would add nothing to the next batch."""
        return len(self) >= self.policy.max_rows or len(self) * first.length >= self._element_limit(now)

    def _in_time(self, first: Row, until: float) -> float:
        """`until`, or earlier so that all of what waits comes in time."""
        while self._deadlines[0][1] not in self._left:
            heapq.heappop(self._deadlines)
        _, start, num_rows = self._deadlines[0]
        hurried = next(row for n in range(start, start + num_rows) if (row := self._waiting.get(n)) is not None)
        longest = max(first.length, hurried.length)
        needed = self.cost.seconds(longest, len(self)) / _HELD_SHARE
        for request in (first.request, hurried.request):
            least = request.arrived + _HELD_SHARE * request.deadline.remaining(request.arrived)
            until = min(until, least, request.deadline.at - needed)
        return until

    def _forget_answered(self) -> None:
        """Shrink the heap of deadlines once most of it is of requests that don't wait any more."""
        if len(self._deadlines) > 2 * len(self._left) + _FEW_ENTRIES:
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self._left]
            heapq.heapify(self._deadlines)

    def _trusted(self, longest: int, num_rows: int, now: float) -> float:
        return self.cost.seconds(longest, num_rows) * self.cost.trust(longest, now)

    def _pop(self, number: int) -> Row | None:
        row = self._waiting.pop(number)
        if row is not None:
            if row.request.lengths is not None and not row.request.alone:
                del self._by_length[bisect_left(self._by_length, (row.length, number))]
            self._left[row.request.first_row] -= 1
            if not self._left[row.request.first_row]:
                del self._left[row.request.first_row]
            self._count(row.request, -1)
        return row

    def _count(self, request: Request, num_rows: int) -> None:
        self._bytes += num_rows * request.num_bytes / request.num_rows
        self._seconds[request.level] += num_rows * request.row_seconds
        if not len(self) and num_rows < 0:  # sums of fractions drift
            self._bytes = 0.0
            self._seconds = [0.0] * (LOWEST_PRIORITY + 1)

    def _element_limit(self, now: float) -> int:
        return self._max_elements if now < self._limited_until else self.policy.max_elements

    def _first_come(self, now: float, max_seconds: float) -> list[int]:
        count = min(self.policy.max_rows, self._element_limit(now))
        within = self.cost.rows_within(max_seconds)
        return self._waiting.first_together(count if within is None else min(count, within))

    def _of_similar_length(self, number: int, first: Row, now: float, max_seconds: float) -> list[int]:
        """The first row and those nearest to it in length: so many that an element of theirs costs least.

        Rows from further off share what a batch costs however small it is, and bring padding, by their lengths and by
        the sizes that the device runs.
        """
        anchor, max_elements = first.length, self._element_limit(now)
        overhead = min(max(_LEAST_OVERHEAD, self.cost.overhead(anchor)), _MOST_OVERHEAD)

        def may_share(shortest: int, longest: int, num_rows: int) -> bool:
            fills = shortest >= self.policy.min_fill * longest - _SLACK_ELEMENTS
            fits = num_rows * longest <= max_elements
            return fills and fits and self.cost.seconds(longest, num_rows) <= max_seconds

        def price(low: int, high: int, elements: int) -> float:
            return (overhead + math.prod(self._sizes(high - low, self._by_length[high - 1][0]))) / elements

        low = bisect_left(self._by_length, (anchor, number))
        high, elements = low + 1, anchor
        best = (price(low, high, elements), low, high)
        while high - low < self.policy.max_rows:
            shortest, longest = self._by_length[low][0], self._by_length[high - 1][0]
            below = self._by_length[low - 1][0] if low else None
            above = self._by_length[high][0] if high < len(self._by_length) else None
            grown = high - low + 1
            can_fall = below is not None and may_share(below, longest, grown)
            can_rise = above is not None and may_share(shortest, above, grown)
            if can_rise and above is not None and (not can_fall or below is None or above - anchor <= anchor - below):
                high, elements = high + 1, elements + above
            elif can_fall and below is not None:
                low, elements = low - 1, elements + below
            else:
                break
            if (grown_price := price(low, high, elements)) <= best[0]:
                best = (grown_price, low, high)
        _, low, high = best
        return [number for _, number in self._by_length[low:high]]
