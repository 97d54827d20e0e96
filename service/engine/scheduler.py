"""Which version's batch a device runs next. Pure, like the queues that it picks from."""

from dataclasses import dataclass

from service.domain import BatchPolicy, Ref
from service.engine.batching import Batch, BatchQueue, Request
from service.errors import NotReady


@dataclass(frozen=True, slots=True)
class Work:
    """A batch of one version, to be run now."""

    ref: Ref
    batch: Batch


class Scheduler:
    """Shares one device's time among the queues that have work: who has used the least goes first.

    Start-time fair queueing (Goyal, Vin, Cheng 1996), with measured seconds as the cost: a queue that was idle starts
    from where the busy ones are, so that it neither saves up time nor has to pay for time it didn't ask for.
    """

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._queues: dict[Ref, BatchQueue] = {}
        self._used: dict[Ref, float] = {}
        self._virtual_now = 0.0

    def add(self, ref: Ref) -> None:
        """Give a version its queue."""
        self._queues[ref] = BatchQueue(ref, self._policy)
        self._used[ref] = self._virtual_now

    def waiting(self, ref: Ref) -> int:
        """Rows that wait for a version."""
        return len(self._queues[ref])

    def put(self, ref: Ref, request: Request) -> None:
        """Enqueue. Raises QueueFull, or NotReady for a version that has no queue here."""
        queue = self._queues.get(ref)
        if queue is None:
            raise NotReady(ref, "it is not loaded on this engine")
        if not len(queue):
            self._used[ref] = max(self._used[ref], self._virtual_now)
        queue.put(request)

    def remove(self, ref: Ref, request: Request) -> int:
        """Take back the request's waiting rows; how many there were."""
        return self._queues[ref].remove(request)

    def drop_expired(self, now: float) -> list[tuple[Ref, Request, int]]:
        """Take back every request that is too late, and how many of its rows were waiting."""
        return [(ref, *late) for ref, queue in self._queues.items() for late in queue.drop_expired(now)]

    def take(self, now: float) -> Work | float | None:
        """The next batch; or the seconds until there is one; or None while nothing waits."""
        shortest: float | None = None
        for ref in sorted((ref for ref, queue in self._queues.items() if len(queue)), key=self._used.__getitem__):
            match self._queues[ref].take(now):
                case Batch() as batch:
                    self._virtual_now = max(self._virtual_now, self._used[ref])
                    return Work(ref, batch)
                case float(wait):
                    shortest = wait if shortest is None else min(shortest, wait)
        return shortest

    def charge(self, ref: Ref, seconds: float) -> None:
        """Account for device time that a version's batch took."""
        self._used[ref] += seconds
