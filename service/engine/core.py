"""The engine's middle: requests go in, batches run on the device one after another, answers come out."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import BatchPolicy, Deadline, Ref
from service.engine.requests import Request
from service.engine.isolation import RowFailure, run_isolating
from service.engine.replica import Fill
from service.engine.scheduler import Scheduler, Work
from service.errors import DeadlineExceeded, QueueFull, ServoloopError
from service.telemetry import EngineTelemetry

Clock = Callable[[], float]


class Runner(Protocol):
    """What the engine asks of a loaded version."""

    def run(self, rows: Sequence[Array], *, ragged: bool) -> tuple[Array, Fill]: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """Outputs (rows, k) float32 and, by row, why it failed; times in seconds, of the request's last batch."""

    outputs: Array
    failures: dict[int, str]
    queue_seconds: float
    compute_seconds: float


Reply = Callable[[Answer | ServoloopError], None]


@dataclass(slots=True, eq=False)
class Job:
    """A request's way through the engine: its rows, the answers so far, and where to send them."""

    rows: list[Array]
    ragged: bool
    reply: Reply
    outputs: Array | None = None
    failures: dict[int, str] = field(default_factory=dict)
    answered_rows: int = 0
    closed: bool = False

    def close(self, result: Answer | ServoloopError) -> None:
        """Answer, once: what comes after a timeout or a cancel is dropped."""
        if not self.closed:
            self.closed = True
            self.reply(result)


class Engine:
    """Owns the queues and the replicas. All methods run in the event loop; the device has a thread of its own."""

    def __init__(
        self,
        load: Callable[[Path], Runner],
        policy: BatchPolicy,
        telemetry: EngineTelemetry,
        clock: Clock = time.monotonic,
    ) -> None:
        self._load = load
        self._scheduler = Scheduler(policy)
        self._telemetry = telemetry
        self._clock = clock
        self._replicas: dict[Ref, Runner] = {}
        self._arrived = asyncio.Event()
        self._device = ThreadPoolExecutor(1, thread_name_prefix="device")

    @property
    def loaded(self) -> list[Ref]:
        """The versions that answer."""
        return list(self._replicas)

    async def load(self, ref: Ref, folder: Path) -> None:
        """Load and warm up, in the device's thread. Raises BrokenCheckpoint."""
        if ref in self._replicas:
            return
        replica = await asyncio.get_running_loop().run_in_executor(self._device, self._load, folder)
        if ref in self._replicas:  # told twice: a second queue would lose what waits in the first
            return
        self._replicas[ref] = replica
        self._scheduler.add(ref)
        self._telemetry.replicas.labels(ref.model, ref.version).set(1)
        self._telemetry.queue_rows.labels(ref.model, ref.version).set(0)

    def submit(self, ref: Ref, tensors: Tensors, deadline: Deadline, reply: Reply) -> Request | None:
        """Enqueue a request; `reply` is called exactly once, unless it is cancelled. None where it was refused."""
        job = Job(tensors.rows(), tensors.lengths is not None, reply)
        lengths = None if tensors.lengths is None else tensors.lengths.tolist()
        request = Request(len(job.rows), deadline, self._clock(), lengths, job)
        try:
            self._scheduler.put(ref, request)
        except ServoloopError as error:
            if isinstance(error, QueueFull):
                self._count_dropped(ref, "queue_full", request.num_rows)
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

    async def run(self) -> None:
        """Run batches until cancelled."""
        while True:
            self._arrived.clear()
            now = self._clock()
            for ref, request, num_rows in self._scheduler.drop_late(now):
                self._count_dropped(ref, "deadline", num_rows)
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
        replica = self._replicas[ref]
        ragged = rows[0].request.payload.ragged
        arrays = [row.request.payload.rows[row.index] for row in rows]
        started = self._clock()
        results = await asyncio.get_running_loop().run_in_executor(
            self._device, run_isolating, lambda some: replica.run(some, ragged=ragged), arrays
        )
        seconds = self._clock() - started
        self._scheduler.charge(ref, seconds)
        self._observe(ref, len(rows), seconds, results.fill)
        for row, result in zip(rows, results.rows, strict=True):
            _deliver(row.request, row.index, result, started, seconds)

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


def _deliver(request: Request, index: int, result: Array | RowFailure, started: float, seconds: float) -> None:
    job: Job = request.payload
    match result:
        case RowFailure(reason):
            job.failures[index] = reason
        case outputs:
            if job.outputs is None:
                job.outputs = np.zeros((request.num_rows, *outputs.shape), np.float32)
            job.outputs[index] = outputs
    job.answered_rows += 1
    if job.answered_rows == request.num_rows:
        nothing = np.zeros((request.num_rows, 0), np.float32)
        outputs = nothing if job.outputs is None else job.outputs
        job.close(Answer(outputs, job.failures, started - request.arrived, seconds))
