"""Which version's batch a device runs next. Pure, like the queues that it picks from."""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from operator import attrgetter

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


@dataclass(slots=True, eq=False)
class _Version:
    """What waits for a version, and its share of the device."""

    queue: BatchQueue
    used: float
    """Seconds of the device's threads, on the clock of all versions."""
    width: int = 1
    """Threads that a batch takes."""
    asked: float | None = None
    """When a caller last asked it."""

    def wants_device(self, now: float) -> bool:
        """Whether its callers wait, or are likely to ask soon."""
        return self.asked is not None and (len(self.queue) > 0 or now - self.asked < _LATELY_SECONDS)


_BY_USE = attrgetter("used")


class Scheduler:
    """Shares the time of a device's threads among the queues that have work: who has used the least goes first.

    Start-time fair queueing (Goyal, Vin, Cheng 1996), with measured seconds as the cost: a queue that was idle starts
    from where the busy ones are, so that it neither saves up time nor has to pay for time it didn't ask for.
    """

    def __init__(self, policy: BatchPolicy, threads: int = 1) -> None:
        self._policy = policy
        self._threads = threads
        self._versions: dict[Ref, _Version] = {}
        self._costs: dict[Ref, tuple[Hashable, CostModel]] = {}
        self._virtual_now = 0.0
        self._running: list[Work] = []

    def install(self, ref: Ref, sizes: Sizes = as_they_are, threads: int = 0, how: Hashable = None) -> None:
        """Give a version its queue, or fit the one that it has to what computes from now on.

        Its batches are run in such `sizes` and on so many threads; 0 are all of the device's. What they cost is kept,
        also while it has no queue, until another `how` says that they will take other times.
        """
        width = min(threads, self._threads) or self._threads
        known = self._costs.get(ref)
        if known is None or known[0] != how:
            known = self._costs[ref] = (how, CostModel())
        version = self._versions.get(ref)
        if version is None:
            version = self._versions[ref] = _Version(BatchQueue(ref, self._policy), self._virtual_now)
        version.width = width
        version.queue.fit(known[1], sizes, self._threads // width)

    def close(self, ref: Ref) -> None:
        """Take nothing more for a version, and hold nothing of it back."""
        self._versions[ref].queue.close()

    def discard(self, ref: Ref) -> None:
        """Take away a version's queue, in which nothing may wait; what its batches cost is kept."""
        queue = self._versions.pop(ref).queue
        assert not len(queue), f"{len(queue)} rows of {ref} wait"
        queue.fit(queue.cost)  # whoever keeps an error that the queue raised would keep the replica too, by its sizes

    @property
    def has_waiting(self) -> bool:
        """Whether any row waits."""
        return any(len(version.queue) for version in self._versions.values())

    def waiting(self, ref: Ref) -> int:
        """Rows that wait for a version."""
        return len(self._versions[ref].queue)

    def age(self, ref: Ref, now: float) -> float:
        """Seconds that a version's oldest row has waited."""
        return self._versions[ref].queue.age(now)

    def put(self, request: Request) -> None:
        """Enqueue. Raises QueueFull, Overloaded, DeadlineExceeded, or NotReady for a version that has no queue here."""
        ref = request.ref
        version = self._versions.get(ref)
        if version is None:
            raise NotReady(ref, "it is not loaded on this engine")
        queue = version.queue
        if queue.is_closed:
            raise NotReady(ref, "it is being unloaded")
        if not len(queue):
            version.used = max(version.used, self._virtual_now)
        if not request.alone:  # a canary's wish is no caller's, and it has no hurry
            version.asked = request.arrived
        queue.put(request, busy=self._busy(self._width(version, alone=request.alone), request.arrived))

    def remove(self, request: Request) -> int:
        """Take back the request's waiting rows; how many there were."""
        return self._versions[request.ref].queue.remove(request)

    def drop_late(self, now: float) -> list[tuple[Request, int]]:
        """Take back every request that can't be answered in time, and how many of its rows were waiting."""
        return [late for version in self._versions.values() for late in version.queue.drop_late(now)]

    def take(self, now: float, room: int) -> Work | float | None:
        """The next batch; or the seconds until there is one; or None until something comes, or a batch has ended.

        `room` is how many threads are free. Whoever is next waits for as many as it needs, and all others for it.
        """
        shortest: float | None = None
        for version in sorted([each for each in self._versions.values() if len(each.queue)], key=_BY_USE):
            queue = version.queue
            if (wait := queue.held(now, self._joined_at(queue, now))) > 0:
                shortest = wait if shortest is None else min(shortest, wait)
                continue
            width = self._width(version, alone=queue.is_next_alone)
            if width > room:
                return shortest
            is_shared = any(other is not version and other.wants_device(now) for other in self._versions.values())
            batch = queue.take(now, self._policy.max_batch_seconds if is_shared else math.inf)
            self._virtual_now = max(self._virtual_now, version.used)
            predicted = queue.cost.seconds(batch.longest, len(batch))
            work = Work(queue.ref, batch, predicted, width, now + predicted)
            self._running.append(work)
            return work
        return shortest

    def charge(self, work: Work, seconds: float) -> None:
        """Account for what a batch took that has ended now."""
        if (version := self._versions.get(work.ref)) is not None:
            version.used += seconds * work.width
        self._running = [other for other in self._running if other is not work]

    def learn(self, work: Work, seconds: float, now: float) -> None:
        """Learn from a batch that ran in one piece what the next ones will take."""
        self._versions[work.ref].queue.cost.learn(work.batch.longest, len(work.batch), seconds, now)

    def limit_elements(self, ref: Ref, max_elements: int, until: float) -> None:
        """Keep a version's batches to so many rows, or padded elements, for a while."""
        self._versions[ref].queue.limit_elements(max_elements, until)

    def _joined_at(self, queue: BatchQueue, now: float) -> float:
        """When a batch of the same version ends that is worth waiting for; in the past where there is none."""
        ends = min((work.until for work in self._running if work.ref == queue.ref), default=-math.inf)
        # Of its time in the queue a row spends no more on this, however many batches end one after another.
        return ends if ends <= now - queue.age(now) + _SOON_SECONDS else -math.inf

    def _width(self, version: _Version, *, alone: bool) -> int:
        """The threads that a version's next batch takes: what runs alone has the device for itself."""
        return self._threads if alone else version.width

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
