"""What is refused because too much of its version is under way already."""

from collections import Counter
from dataclasses import dataclass, field

from models.preprocess import Tensors
from service.domain import Ref
from service.errors import QueueFull


class Admission:
    """Counts the requests of each version that are being parsed, prepared or computed.

    What is sure to be refused is refused before any work is spent on it, which costs several times what a refusal
    does. Without a bound here all of a burst is parsed before the first of it hears from the engine that there is no
    room.
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


@dataclass(slots=True)
class PendingBounds:
    """The rows and bytes of each version that may wait for an engine at once."""

    max_rows: int
    max_bytes: int
    num_rows: int = field(default=0, init=False)
    """Of all versions together."""
    _held: dict[Ref, tuple[int, int]] = field(default_factory=dict, init=False)

    def enter(self, ref: Ref, tensors: Tensors) -> None:
        """Raises QueueFull where there is no room for them."""
        rows, num_bytes = self._held.get(ref, (0, 0))
        more_rows, more_bytes = len(tensors), tensors.values.nbytes
        if rows + more_rows > self.max_rows:
            raise QueueFull(ref, queued=rows, limit=self.max_rows)
        if rows and num_bytes + more_bytes > self.max_bytes:
            raise QueueFull(ref, queued=num_bytes, limit=self.max_bytes, unit="bytes")
        self._held[ref] = rows + more_rows, num_bytes + more_bytes
        self.num_rows += more_rows

    def leave(self, ref: Ref, tensors: Tensors) -> None:
        """Those that entered are answered, or nobody waits for them any more."""
        rows, num_bytes = self._held[ref]
        gone = len(tensors)
        self.num_rows -= gone
        if rows == gone:
            del self._held[ref]
        else:
            self._held[ref] = rows - gone, num_bytes - tensors.values.nbytes
