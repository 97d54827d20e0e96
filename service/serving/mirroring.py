"""What a challenger in the shadow computes: requests that were answered, once more and for the log alone."""

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from uuid_utils import uuid7

from models.preprocess import RawRows, Tensors
from service.domain import LOWEST_PRIORITY, Caller, Deadline, PredictParameters, Ref
from service.errors import ServoloopError
from service.process.tasks import stop_tasks
from service.serving.answer import Computed
from service.serving.computing import Engines, Log, preprocess
from service.serving.offloading import Offloader
from service.serving.postprocess import interpret
from service.serving.recording import records_of
from service.serving.router import Target
from service.telemetry.instruments import HttpTelemetry

log = logging.getLogger(__name__)


class Answered(NamedTuple):
    """A request that was answered: its rows as they came, how it was asked, and the ids of what was returned."""

    rows: RawRows | Tensors
    parameters: PredictParameters
    caller: Caller
    prediction_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class MirrorPolicy:
    """Bounds of what one process mirrors at once; `timeout` in seconds, from the answer on."""

    max_requests: int = 64
    max_bytes: int = 64 << 20
    timeout: float = 5.0


class Mirror:
    """Use as an async context manager, inside that of the log: at its end, what is under way is given up.

    Nobody waits for what it does, and nobody is told of what goes wrong: that is counted.
    """

    def __init__(
        self,
        engines: Engines,
        log: Log,
        telemetry: HttpTelemetry,
        threads: Executor,
        policy: MirrorPolicy | None = None,
        is_draining: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engines = engines
        self._log = log
        self._telemetry = telemetry
        self._policy = policy or MirrorPolicy()
        self._is_draining = is_draining
        self._clock = clock
        self._offloader = Offloader(threads, self._policy.max_requests, clock)
        # One thread at most, however many there are: the others are for those who wait.
        self._preprocessing = asyncio.Lock()
        self._under_way: set[asyncio.Task[None]] = set()
        self._num_bytes = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop_tasks(*self._under_way)

    def offer(self, ref: Ref, challenger: Target, answered: Answered, propensity: float) -> None:
        """Have it computed from the next turn of the event loop on, if there is room. Never fails."""
        num_bytes = _bytes_of(answered.rows)
        is_full = len(self._under_way) >= self._policy.max_requests
        if is_full or self._num_bytes + num_bytes > self._policy.max_bytes or self._is_draining():
            self._count(ref, "left_out")
            return
        self._num_bytes += num_bytes
        task = asyncio.create_task(self._mirror(challenger, answered, propensity))
        self._under_way.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._under_way.discard(task)
            self._num_bytes -= num_bytes

        task.add_done_callback(done)

    async def _mirror(self, challenger: Target, answered: Answered, propensity: float) -> None:
        began = self._clock()
        try:
            computed = await self._compute(challenger, answered, Deadline.after(self._policy.timeout, now=began))
        except ServoloopError as error:
            self._count(challenger.ref, error.kind)
            return
        except Exception:  # it is a trial: what goes wrong here must not be anybody else's concern
            log.exception("a mirrored request crashed", extra={"ref": str(challenger.ref)})
            self._count(challenger.ref, "unexpected_error")
            return
        seconds = self._clock() - began
        _, parameters, caller, returned = answered
        self._log.record(
            records_of(computed, challenger, parameters, caller, seconds, propensity=propensity, beside=returned), ()
        )
        self._count(challenger.ref, "ok")

    async def _compute(self, challenger: Target, answered: Answered, deadline: Deadline) -> Computed:
        """Raises UnprocessableInput, and what offloading and the engines raise."""
        rows = answered.rows
        if isinstance(rows, Tensors):
            tensors = rows
        else:
            work = functools.partial(preprocess, rows, challenger)
            async with self._preprocessing:
                tensors = await self._offloader.run(lambda _: work(), challenger.ref, "preprocessing", deadline)
        outputs = await self._engines.infer(challenger.ref, tensors, deadline, LOWEST_PRIORITY)
        predictions, probabilities = interpret(outputs, challenger.manifest, answered.parameters)
        return Computed(outputs, predictions, probabilities, [str(uuid7()) for _ in predictions])

    def _count(self, ref: Ref, outcome: str) -> None:
        self._telemetry.mirrored.labels(ref.model, ref.version, outcome).inc()


def _bytes_of(rows: RawRows | Tensors) -> int:
    """About what rows keep in memory."""
    if isinstance(rows, Tensors):
        return rows.values.nbytes
    if isinstance(rows, np.ndarray):
        return rows.nbytes
    return sum(len(row) if isinstance(row, str) else row.nbytes for row in rows)
