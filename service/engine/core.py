"""The engine's middle: requests go in, batches run on the device one after another, answers come out."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import BatchPolicy, Deadline, Ref
from service.engine.isolation import Results, RowFailure, run_isolating
from service.engine.jobs import Answer, Job, Order, Reply
from service.engine.replica import Fill
from service.engine.requests import Request, Row
from service.engine.scheduler import Scheduler, Work
from service.errors import DeadlineExceeded, Overloaded, QueueFull, ServoloopError
from service.telemetry import EngineTelemetry
from service.watch.blackbox import Doing, Running

log = logging.getLogger(__name__)

Clock = Callable[[], float]
Show = Callable[[Running | None], None]

# A version that nobody asks has its sample row run so often, so that what is called ready has run lately.
CANARY_SECONDS = 10.0
# How long a version's batches stay smaller after memory did not suffice for a larger one.
_SMALLER_SECONDS = 60.0
_UNHURRIED = Deadline(float("inf"))
_AS_USUAL = Order()


class Runner(Protocol):
    """What the engine asks of a loaded version; `canary` is one prepared row."""

    @property
    def canary(self) -> Tensors: ...

    def run(self, rows: Sequence[Array], *, ragged: bool) -> tuple[Array, Fill]: ...


class Engine:
    """Owns the queues and the replicas. All methods run in the event loop; the device has a thread of its own.

    `show` is called in the device's thread with what it runs from then on.
    """

    def __init__(
        self,
        load: Callable[[Path], Runner],
        policy: BatchPolicy,
        telemetry: EngineTelemetry,
        clock: Clock = time.monotonic,
        show: Show = lambda _: None,
    ) -> None:
        self._load = load
        self._scheduler = Scheduler(policy)
        self._telemetry = telemetry
        self._clock = clock
        self._show = show
        self._replicas: dict[Ref, Runner] = {}
        self._last_forward: dict[Ref, float] = {}
        self._canaries: set[Ref] = set()
        self._arrived = asyncio.Event()
        self._device = ThreadPoolExecutor(1, thread_name_prefix="device")

    @property
    def loaded(self) -> list[Ref]:
        """The versions that answer."""
        return list(self._replicas)

    def since_forward(self) -> dict[Ref, float]:
        """Seconds since each version last answered a row, a caller's or its canary."""
        now = self._clock()
        return {ref: now - last for ref, last in self._last_forward.items()}

    async def load(self, ref: Ref, folder: Path) -> None:
        """Load and warm up, in the device's thread. Raises BrokenCheckpoint."""
        if ref in self._replicas:
            return

        def load() -> Runner:
            self._show(Running(Doing.LOAD, ref, self._clock()))
            try:
                return self._load(folder)
            finally:
                self._show(None)

        replica = await asyncio.get_running_loop().run_in_executor(self._device, load)
        if ref in self._replicas:  # told twice: a second queue would lose what waits in the first
            return
        self._replicas[ref] = replica
        self._last_forward[ref] = self._clock()  # its warm-up
        self._scheduler.add(ref)
        self._telemetry.replicas.labels(ref.model, ref.version).set(1)
        self._telemetry.queue_rows.labels(ref.model, ref.version).set(0)

    def submit(
        self, ref: Ref, tensors: Tensors, deadline: Deadline, reply: Reply, order: Order = _AS_USUAL
    ) -> Request | None:
        """Enqueue a request; `reply` is called exactly once, unless it is cancelled. None where it was refused."""
        job = Job(tensors.rows(), tensors.lengths is not None, order, reply)
        request = Request(
            len(job.rows),
            deadline,
            self._clock(),
            None if tensors.lengths is None else tensors.lengths.tolist(),
            job,
            order.priority,
            order.alone,
            tensors.values.nbytes,
        )
        try:
            self._scheduler.put(ref, request)
        except ServoloopError as error:
            if (reason := _shed_reason(error)) is not None:
                self._count_dropped(ref, reason, request.num_rows)
            if isinstance(error, DeadlineExceeded):
                self._telemetry.deadline_misses.labels(ref.model, ref.version, "before").inc()
            job.close(error)
            return None
        self._show_depth(ref)
        self._arrived.set()
        return request

    def cancel(self, ref: Ref, request: Request) -> None:
        """Forget a request: nobody waits for its answer any more."""
        request.payload.closed = True
        self._count_dropped(ref, "cancelled", self._scheduler.remove(ref, request))
        self._show_depth(ref)

    def tick(self) -> None:
        """Send canaries where they are due, and measure how long rows have waited. To be called every second or so."""
        now = self._clock()
        for ref, replica in self._replicas.items():
            age = self._scheduler.age(ref, now)
            self._telemetry.queue_age.labels(ref.model, ref.version).set(age)
            if now - self._last_forward[ref] >= CANARY_SECONDS and ref not in self._canaries:
                self._send_canary(ref, replica.canary)

    async def run(self) -> None:
        """Run batches until cancelled. Raises DeviceLost."""
        while True:
            self._arrived.clear()
            now = self._clock()
            for ref, request, num_rows in self._scheduler.drop_late(now):
                self._count_dropped(ref, "deadline", num_rows)
                self._telemetry.deadline_misses.labels(ref.model, ref.version, "before").inc()
                self._show_depth(ref)
                request.payload.close(DeadlineExceeded(ref, "the queue"))
            match self._scheduler.take(now):
                case Work() as work:
                    await self._execute(work)
                case wait:
                    await self._until_arrival(wait)

    async def _until_arrival(self, seconds: float | None) -> None:
        try:
            await asyncio.wait_for(self._arrived.wait(), seconds)
        except TimeoutError:
            return

    async def _execute(self, work: Work) -> None:
        ref, rows = work.ref, work.batch.rows
        self._show_depth(ref)
        started = self._clock()
        results = await asyncio.get_running_loop().run_in_executor(self._device, self._run, work)
        now = self._clock()
        seconds = now - started
        self._scheduler.charge(ref, seconds)
        if results.in_one_piece:
            self._scheduler.learn(work, seconds, now)
        if results.too_many is not None:
            self._make_smaller(work, results.too_many, now)
        if not rows[0].request.payload.order.is_canary:
            self._observe(ref, len(rows), seconds, results.fill)
        if not all(isinstance(result, RowFailure) for result in results.rows):
            self._last_forward[ref] = now
        for row, result in zip(rows, results.rows, strict=True):
            is_last = row.request.payload.deliver(row.request, row.index, result, started, seconds)
            if is_last and row.request.deadline.expired(now):
                self._telemetry.deadline_misses.labels(ref.model, ref.version, "after").inc()

    def _run(self, work: Work) -> Results:
        """Run a batch, in the device's thread."""
        replica = self._replicas[work.ref]
        first: Job = work.batch.rows[0].request.payload

        def run(rows: Sequence[Row]) -> tuple[Array, Fill]:
            ids = tuple([(row.request.payload.order.request_id, row.index) for row in rows])
            digest = first.order.digest
            self._show(Running(Doing.BATCH, work.ref, self._clock(), work.predicted, ids, digest))
            arrays = [row.request.payload.rows[row.index] for row in rows]
            return replica.run(arrays, ragged=first.ragged)

        results = run_isolating(run, work.batch.rows)
        # Not where it raised: what a lost device was running last is what there is to know about it.
        self._show(None)
        return results

    def _send_canary(self, ref: Ref, tensors: Tensors) -> None:
        self._canaries.add(ref)

        def done(_: Answer | ServoloopError) -> None:
            self._canaries.discard(ref)

        self.submit(ref, tensors, _UNHURRIED, done, Order(is_canary=True))

    def _make_smaller(self, work: Work, too_many: int, now: float) -> None:
        ref = work.ref
        max_elements = too_many * work.batch.longest // 2
        log.warning("memory did not suffice", extra={"ref": str(ref), "rows": too_many, "max_elements": max_elements})
        self._scheduler.limit_elements(ref, max_elements, until=now + _SMALLER_SECONDS)
        self._telemetry.cap_reductions.labels(ref.model, ref.version).inc()

    def _observe(self, ref: Ref, num_rows: int, seconds: float, fill: Fill) -> None:
        labels = (ref.model, str(ref.version))
        self._telemetry.batch_rows.labels(*labels).observe(num_rows)
        self._telemetry.batch_duration.labels(*labels).observe(seconds)
        self._telemetry.elements.labels(*labels).inc(fill.elements)
        self._telemetry.padding.labels(*labels).inc(fill.padding)

    def _show_depth(self, ref: Ref) -> None:
        self._telemetry.queue_rows.labels(ref.model, ref.version).set(self._scheduler.waiting(ref))

    def _count_dropped(self, ref: Ref, reason: str, num_rows: int) -> None:
        self._telemetry.dropped.labels(ref.model, ref.version, reason).inc(num_rows)


def _shed_reason(error: ServoloopError) -> str | None:
    match error:
        case QueueFull(unit="bytes"):
            return "queue_bytes"
        case QueueFull():
            return "queue_full"
        case Overloaded():
            return "overloaded"
        case DeadlineExceeded():
            return "deadline"
        case _:
            return None
