"""Requests that are sure to be refused, refused before any work is spent on them."""

from collections import Counter

from service.domain import Ref
from service.errors import QueueFull


class Admission:
    """Counts the requests of each version that are being parsed, prepared or computed.

    That costs several times what a refusal does. Without a bound here all of a burst is parsed before the first of it
    hears from the engine that there is no room.
    """

    def __init__(self, max_requests: int) -> None:
        self._max_requests = max_requests
        self._under_way: Counter[Ref] = Counter()

    def check(self, ref: Ref) -> None:
        """Raises QueueFull where there is no room for one more."""
        under_way = self._under_way[ref]
        if under_way >= self._max_requests:
            raise QueueFull(ref, queued=under_way, limit=self._max_requests, unit="requests")

    def of(self, ref: Ref) -> "_Place":
        """Around the work on one request. Raises QueueFull as `check` does."""
        return _Place(self, ref)

    def enter(self, ref: Ref) -> None:
        """Raises QueueFull as `check` does."""
        self.check(ref)
        self._under_way[ref] += 1

    def leave(self, ref: Ref) -> None:
        """One that entered is done."""
        self._under_way[ref] -= 1


class _Place:
    __slots__ = ("_admission", "_ref")

    def __init__(self, admission: Admission, ref: Ref) -> None:
        self._admission, self._ref = admission, ref

    def __enter__(self) -> None:
        self._admission.enter(self._ref)

    def __exit__(self, *_: object) -> None:
        self._admission.leave(self._ref)
