"""The engine's middle: requests go in, batches run on the device, answers come out."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import BatchPolicy, Deadline, Ref
from service.engine.failures import DeviceLost
from service.engine.isolation import Results, run_isolating
from service.engine.lanes import Lanes
from service.engine.measures import ReplicaMeasures
from service.engine.requests import Request, Row, RowFailure
from service.engine.runner import Fill, Runner
from service.engine.scheduler import Scheduler, Work
from service.engine.showing import shown
from service.engine.threads import device_thread
from service.errors import DeadlineExceeded, ServoloopError
from service.telemetry.instruments import EngineTelemetry
from service.watch.blackbox import Doing, Running
from service.wire.inference import Outputs
from service.wire.report import Wanted
from service.wire.statistics import Statistics

log = logging.getLogger(__name__)

Clock = Callable[[], float]
Show = Callable[[Running | None, int], None]

# A version that nobody asks has its sample row run so often, so that what is called ready has run lately.
CANARY_SECONDS = 10.0
# How long a version's batches stay smaller after memory did not suffice for a larger one.
_SMALLER_SECONDS = 60.0
# To wake a thread and be woken by it takes a few tenths of it; for so long the event loop may be held up.
_SHORT_SECONDS = 0.001
_UNHURRIED = Deadline(float("inf"))


@dataclass(slots=True, eq=False)
class Resident:
    """A version that is loaded, and when on the engine's clock it last answered a row, and was last asked by a caller.

    One that nobody asked yet counts as asked when it was loaded.
    """

    runner: Runner
    wanted: Wanted
    measures: ReplicaMeasures
    last_forward: float
    last_asked: float | None = None


class Engine:
    """Owns the queues and the replicas. All methods run in the event loop; the device's threads are its own.

    A version's batches run beside others, its own too, as far as their threads go into the device's. `show` is called
    in the thread that computes, with what this runs from then on and the number of its lane.
    """

    def __init__(
        self,
        policy: BatchPolicy,
        telemetry: EngineTelemetry,
        clock: Clock = time.monotonic,
        show: Show = lambda _, __: None,
        threads: int = 1,
    ) -> None:
        self._scheduler = Scheduler(policy, threads)
        self._telemetry = telemetry
        self._clock = clock
        self._show = show
        self._residents: dict[Ref, Resident] = {}
        self._retiring: dict[Ref, asyncio.Event] = {}
        self._canaries: dict[Ref, Request] = {}
        self._running: Counter[Ref] = Counter()
        self._batches: set[asyncio.Task[None]] = set()
        self._depth_changed: set[Ref] = set()
        self._news = asyncio.Event()
        self._lanes = Lanes(threads, device_thread, self._news.set)
        self._lost: DeviceLost | None = None

    def now(self) -> float:
        """The instant on the clock that all of it goes by."""
        return self._clock()

    @property
    def loaded(self) -> list[Ref]:
        """The versions that take requests."""
        return [ref for ref in self._residents if ref not in self._retiring]

    @property
    def residents(self) -> Mapping[Ref, Resident]:
        """All that lies on the device, also what is being unloaded."""
        return self._residents

    @property
    def retiring(self) -> list[Ref]:
        """The versions that only answer what waits for them."""
        return list(self._retiring)

    def since_forward(self) -> dict[Ref, float]:
        """Seconds since each version that takes requests last answered a row, a caller's or its canary."""
        now = self._clock()
        return {ref: now - self._residents[ref].last_forward for ref in self.loaded}

    def since_asked(self) -> dict[Ref, float]:
        """Seconds since a caller last asked each version on the device, of those that were asked since their load."""
        now = self._clock()
        residents = self._residents.items()
        return {ref: now - resident.last_asked for ref, resident in residents if resident.last_asked is not None}

    @property
    def statistics(self) -> dict[Ref, Statistics]:
        """What was counted of each version on the device."""
        return {ref: resident.measures.statistics for ref, resident in self._residents.items()}

    async def warm_up(self, ref: Ref, runner: Runner) -> None:
        """Have a version that was just loaded run its samples, with nothing beside it.

        Raises BrokenCheckpoint, and DeviceLost, which `run` raises then too.
        """

        def run_samples(lane: int) -> None:
            self._check_device()
            with shown(lambda what: self._show(what, lane), Running(Doing.LOAD, ref, self._clock())):
                try:
                    runner.warm_up()
                except DeviceLost as error:
                    self._lost = error  # here, before its lane is free: nothing may begin any more
                    raise

        await self._lanes.run_alone(run_samples)

    def lose_device(self) -> DeviceLost:
        """Have `run` raise DeviceLost, and nothing run on the device any more; what to raise."""
        self._lost = self._lost or DeviceLost()
        self._news.set()
        return self._lost

    def install(self, wanted: Wanted, runner: Runner) -> Resident | None:
        """Have a warm replica answer from the next batch on; what it takes the place of, if anything.

        What waits is kept, and what is known of the cost too, unless what computes is another by now.
        """
        ref, now = wanted.ref, self._clock()
        replaced = self._residents.get(ref)
        if replaced is None:
            resident = Resident(runner, wanted, ReplicaMeasures(self._telemetry, ref), now)
        else:
            resident = Resident(runner, wanted, replaced.measures, now, replaced.last_asked)
        self._residents[ref] = resident
        execution = runner.execution
        how = (wanted.precision, execution.backend, execution.precision, execution.threads)
        self._scheduler.install(ref, runner.padded, execution.threads, how)
        resident.measures.installed(self._scheduler.waiting(ref))
        return replaced

    def close(self, ref: Ref) -> None:
        """Refuse what comes for a loaded version from now on; what waits is still answered."""
        self._retiring[ref] = asyncio.Event()
        self._scheduler.close(ref)
        if (canary := self._canaries.pop(ref, None)) is not None:
            canary.closed = True
            self._scheduler.remove(canary)
        self._news.set()
        self._check_answered(ref)

    async def drain(self, ref: Ref) -> Resident:
        """Let go of a version that was closed, once all that waited for it is answered."""
        await self._retiring[ref].wait()
        del self._retiring[ref]
        resident = self._residents.pop(ref)
        self._scheduler.discard(ref)
        resident.measures.gone()
        return resident

    async def let_pass(self) -> None:
        """Wait until what the device runs at this moment has ended, and holds no replica any more."""
        await self._lanes.let_pass()

    def submit(self, request: Request) -> bool:
        """Enqueue a request, unless it is refused; it is answered exactly once, unless it is cancelled."""
        ref = request.ref
        if not request.is_canary and ref in self._residents:
            self._residents[ref].last_asked = request.arrived
        try:
            self._scheduler.put(request)
        except ServoloopError as error:  # whoever keeps it keeps this frame, which therefore names no resident
            if ref in self._residents:
                self._residents[ref].measures.refused(error, request.num_rows)
            request.close(error)
            return False
        self._depth_changed.add(ref)
        self._news.set()
        return True

    def cancel(self, request: Request) -> None:
        """Forget a request: nobody waits for its answer any more."""
        ref, request.closed = request.ref, True
        self._residents[ref].measures.dropped("cancelled", self._scheduler.remove(request))
        self._depth_changed.add(ref)
        self._news.set()
        self._check_answered(ref)

    def tick(self) -> None:
        """Send canaries where they are due, and measure how long rows have waited. To be called every second or so."""
        now = self._clock()
        for ref in self.loaded:
            resident = self._residents[ref]
            resident.measures.age(self._scheduler.age(ref, now))
            if now - resident.last_forward >= CANARY_SECONDS and ref not in self._canaries:
                self._send_canary(ref, resident.runner.canary)

    async def run(self) -> None:
        """Run batches until cancelled. Raises DeviceLost."""
        try:
            while True:
                self._news.clear()
                self._check_device()
                self._check_batches()
                now = self._clock()
                self._drop_late(now)
                match self._scheduler.take(now, self._lanes.room):
                    case Work() as work:
                        self._begin(work)
                    case wait:
                        self._show_depths()
                        await self._until_news(wait)
        finally:
            for batch in self._batches:
                batch.cancel()

    def _begin(self, work: Work) -> None:
        self._running[work.ref] += 1
        self._depth_changed.add(work.ref)
        resident = self._residents[work.ref]  # whatever comes in its place meanwhile, this batch is run by one replica
        started = self._clock()
        compute = partial(self._compute, work, resident.runner)
        if self._is_short(work, resident.runner):
            self._finish(work, resident, started, self._lanes.run_here(compute))
        else:
            computing = self._lanes.run(work.width, compute)
            self._batches.add(asyncio.create_task(self._finish_when_computed(work, resident, started, computing)))

    def _compute(self, work: Work, runner: Runner, lane: int) -> Results:
        """Run a batch, in whatever thread computes it."""
        self._check_device()
        first = work.batch.rows[0].request

        def forward(rows: Sequence[Row]) -> tuple[Array, Fill]:
            ids = tuple([(row.request.request_id, row.position) for row in rows])
            self._show(Running(Doing.BATCH, work.ref, self._clock(), work.predicted, ids, first.digest), lane)
            arrays = [row.request.rows[row.position] for row in rows]
            return runner.run(arrays, ragged=first.lengths is not None)

        try:
            results = run_isolating(forward, work.batch.rows)
        except DeviceLost as error:
            # Here, before its lane is free: nothing may begin any more. And what was shown stays: it is what there is
            # to know about it.
            self._lost = error
            raise
        self._show(None, lane)
        return results

    async def _finish_when_computed(
        self, work: Work, resident: Resident, started: float, computing: Awaitable[Results]
    ) -> None:
        self._finish(work, resident, started, await computing)

    def _finish(self, work: Work, resident: Resident, started: float, results: Results) -> None:
        ref, rows = work.ref, work.batch.rows
        now = self._clock()
        seconds = now - started
        self._scheduler.charge(work, seconds)
        if results.in_one_piece and self._residents[ref] is resident:
            self._scheduler.learn(work, seconds, now)
        if results.too_many is not None:
            self._make_smaller(work, resident, results.too_many, now)
        measures = resident.measures
        stages = None if rows[0].request.is_canary else measures.batch(len(rows), seconds, results.fill)
        if not all(isinstance(result, RowFailure) for result in results.rows):
            resident.last_forward = now
        answered = []
        for row, result in zip(rows, results.rows, strict=True):
            if row.request.deliver(row.position, result, started, seconds):
                answered.append(row.request)
                if row.request.deadline.expired(now):
                    measures.missed("after")
        if stages is not None:
            measures.answered(answered, started, now, stages)
        self._running[ref] -= 1
        self._check_answered(ref)

    def _is_short(self, work: Work, runner: Runner) -> bool:
        """Whether a lone row runs sooner than a thread wakes up for it, and keeps nobody waiting for much longer."""
        return (
            len(work.batch) == 1
            and 0 < work.predicted <= _SHORT_SECONDS
            and runner.has_own_threads
            and not work.batch.rows[0].request.alone
            and self._lanes.room == self._lanes.width
            and not self._scheduler.has_waiting
        )

    def _check_device(self) -> None:
        if self._lost is not None:
            raise self._lost

    def _check_batches(self) -> None:
        """Forget those that have ended. Raises what one of them raised."""
        for ended in [batch for batch in self._batches if batch.done()]:
            self._batches.remove(ended)
            ended.result()

    def _drop_late(self, now: float) -> None:
        for request, num_rows in self._scheduler.drop_late(now):
            ref = request.ref
            self._residents[ref].measures.late(num_rows, now - request.arrived)
            self._depth_changed.add(ref)
            request.close(DeadlineExceeded(ref, "the queue"))
            self._check_answered(ref)

    async def _until_news(self, seconds: float | None) -> None:
        # Not asyncio.wait_for, which makes a task to wait with.
        timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._news.set)
        try:
            await self._news.wait()
        finally:
            if timer is not None:
                timer.cancel()

    def _send_canary(self, ref: Ref, tensors: Tensors) -> None:
        def done(_: Outputs | ServoloopError) -> None:
            self._canaries.pop(ref, None)

        request = Request(ref, tensors, _UNHURRIED, self._clock(), done, is_canary=True)
        if self.submit(request):
            self._canaries[ref] = request

    def _check_answered(self, ref: Ref) -> None:
        if ref in self._retiring and not self._running[ref] and not self._scheduler.waiting(ref):
            self._retiring[ref].set()

    def _make_smaller(self, work: Work, resident: Resident, too_many: int, now: float) -> None:
        ref = work.ref
        max_elements = too_many * work.batch.longest // 2
        log.warning("memory did not suffice", extra={"ref": str(ref), "rows": too_many, "max_elements": max_elements})
        self._scheduler.limit_elements(ref, max_elements, until=now + _SMALLER_SECONDS)
        resident.measures.made_smaller()

    def _show_depths(self) -> None:
        """Once for all that came together: a gauge is a file, and setting it takes as long as queueing a row."""
        for ref in self._depth_changed:
            if (resident := self._residents.get(ref)) is not None:
                resident.measures.depth(self._scheduler.waiting(ref))
        self._depth_changed.clear()
