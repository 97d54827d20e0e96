"""Which version's batch a device runs next. Pure, like the queues that it picks from."""

import math
from dataclasses import dataclass

from service.domain import BatchPolicy, Ref
from service.engine.batching import Batch, BatchQueue, Sizes, as_they_are
from service.engine.cost import CostModel
from service.engine.requests import Request
from service.errors import NotReady

# Who asked so lately is taken to want the device still: its next row must not find it busy for long. Callers that ask
# every few seconds have no less of a claim than those that ask all the time.
_LATELY_SECONDS = 60.0
# Rows wait so long for a batch of their version to end, rather than leave beside it: what comes meanwhile joins them,
# and a batch of many costs less than two of few (of a CNN asked by 64 at once a tenth of the engine's CPU time).
_SOON_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Work:
    """A batch of one version, to be run now on `width` threads, and the seconds that this is expected to take."""

    ref: Ref
    batch: Batch
    predicted: float
    width: int
    until: float
    """When it is expected to have ended."""


class Scheduler:
    """Shares the time of a device's threads among the queues that have work: who has used the least goes first.

    Start-time fair queueing (Goyal, Vin, Cheng 1996), with measured seconds as the cost: a queue that was idle starts
    from where the busy ones are, so that it neither saves up time nor has to pay for time it didn't ask for.
    """

    def __init__(self, policy: BatchPolicy, threads: int = 1) -> None:
        self._policy = policy
        self._threads = threads
        self._widths: dict[Ref, int] = {}
        self._queues: dict[Ref, BatchQueue] = {}
        self._costs: dict[Ref, CostModel] = {}
        self._used: dict[Ref, float] = {}
        self._asked: dict[Ref, float] = {}
        self._virtual_now = 0.0
        self._running: list[Work] = []

    def add(self, ref: Ref) -> None:
        """Give a version its queue; what its batches cost is known already where it had one before."""
        self._queues[ref] = BatchQueue(ref, self._policy, self._costs.setdefault(ref, CostModel()))
        self._used[ref] = self._virtual_now

    def use_sizes(self, ref: Ref, sizes: Sizes) -> None:
        """Fit a version's batches to the sizes in which they are run."""
        self._queues[ref].sizes = sizes

    def close(self, ref: Ref) -> None:
        """Take nothing more for a version, and hold nothing of it back."""
        self._queues[ref].close()

    def discard(self, ref: Ref) -> None:
        """Take away a version's queue, in which nothing may wait; what its batches cost is kept."""
        queue = self._queues.pop(ref)
        assert not len(queue), f"{len(queue)} rows of {ref} wait"
        queue.sizes = as_they_are  # whoever keeps an error that the queue raised would keep the replica too
        del self._used[ref]
        self._widths.pop(ref, None)
        self._asked.pop(ref, None)

    def forget_cost(self, ref: Ref) -> None:
        """A version's batches will take other times than they did."""
        cost = self._costs[ref] = CostModel()
        if (queue := self._queues.get(ref)) is not None:
            queue.cost = cost

    def set_width(self, ref: Ref, threads: int) -> None:
        """Say how many threads a version's batches take from now on; 0 are all of the device's."""
        width = min(threads, self._threads) or self._threads
        self._widths[ref] = width
        self._queues[ref].at_once = self._threads // width

    @property
    def has_waiting(self) -> bool:
        """Whether any row waits."""
        return any(map(len, self._queues.values()))

    def waiting(self, ref: Ref) -> int:
        """Rows that wait for a version."""
        return len(self._queues[ref])

    def age(self, ref: Ref, now: float) -> float:
        """Seconds that a version's oldest row has waited."""
        return self._queues[ref].age(now)

    def put(self, request: Request) -> None:
        """Enqueue. Raises QueueFull, Overloaded, DeadlineExceeded, or NotReady for a version that has no queue here."""
        ref = request.ref
        queue = self._queues.get(ref)
        if queue is None:
            raise NotReady(ref, "it is not loaded on this engine")
        if queue.is_closed:
            raise NotReady(ref, "it is being unloaded")
        if not len(queue):
            self._used[ref] = max(self._used[ref], self._virtual_now)
        if not request.alone:  # a canary's wish is no caller's, and it has no hurry
            self._asked[ref] = request.arrived
        queue.put(request, busy=self._busy(self._width(queue, alone=request.alone), request.arrived))

    def remove(self, request: Request) -> int:
        """Take back the request's waiting rows; how many there were."""
        return self._queues[request.ref].remove(request)

    def drop_late(self, now: float) -> list[tuple[Request, int]]:
        """Take back every request that can't be answered in time, and how many of its rows were waiting."""
        return [late for queue in self._queues.values() for late in queue.drop_late(now)]

    def take(self, now: float, room: int) -> Work | float | None:
        """The next batch; or the seconds until there is one; or None until something comes, or a batch has ended.

        `room` is how many threads are free. Whoever is next waits for as many as it needs, and all others for it.
        """
        shortest: float | None = None
        for ref in sorted((ref for ref, queue in self._queues.items() if len(queue)), key=self._used.__getitem__):
            queue = self._queues[ref]
            if (wait := queue.held(now, self._joined_at(queue, now))) > 0:
                shortest = wait if shortest is None else min(shortest, wait)
                continue
            width = self._width(queue, alone=queue.is_next_alone)
            if width > room:
                return shortest
            batch = queue.take(now, self._policy.max_batch_seconds if self._is_wanted_by_others(ref, now) else math.inf)
            assert isinstance(batch, Batch), "what is not held back leaves"
            self._virtual_now = max(self._virtual_now, self._used[ref])
            predicted = queue.cost.seconds(batch.longest, len(batch))
            work = Work(ref, batch, predicted, width, now + predicted)
            self._running.append(work)
            return work
        return shortest

    def charge(self, work: Work, seconds: float) -> None:
        """Account for what a batch took that has ended now."""
        if work.ref in self._used:
            self._used[work.ref] += seconds * work.width / self._threads
        self._running = [other for other in self._running if other is not work]

    def learn(self, work: Work, seconds: float, now: float) -> None:
        """Learn from a batch that ran in one piece what the next ones will take."""
        self._queues[work.ref].cost.learn(work.batch.longest, len(work.batch), seconds, now)

    def limit_elements(self, ref: Ref, max_elements: int, until: float) -> None:
        """Keep a version's batches to so many rows, or padded elements, for a while."""
        self._queues[ref].limit_elements(max_elements, until)

    def _joined_at(self, queue: BatchQueue, now: float) -> float:
        """When a batch of the same version ends that is worth waiting for; in the past where there is none."""
        ends = min((work.until for work in self._running if work.ref == queue.ref), default=-math.inf)
        # Of its time in the queue a row spends no more on this, however many batches end one after another.
        return ends if ends <= now - queue.age(now) + _SOON_SECONDS else -math.inf

    def _width(self, queue: BatchQueue, *, alone: bool) -> int:
        """The threads that a version's next batch takes: what runs alone has the device for itself."""
        return self._threads if alone else self._widths.get(queue.ref, self._threads)

    def _busy(self, width: int, now: float) -> float:
        """Seconds until so many threads are free, as far as can be told."""
        free = self._threads - sum(work.width for work in self._running)
        for work in sorted(self._running, key=lambda work: work.until):
            if free >= width:
                break
            free += work.width
            if free >= width:
                return max(0.0, work.until - now)
        return 0.0

    def _is_wanted_by_others(self, ref: Ref, now: float) -> bool:
        return any(
            other != ref and (len(self._queues[other]) or now - asked < _LATELY_SECONDS)
            for other, asked in self._asked.items()
        )
