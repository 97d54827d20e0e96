"""Identical requests that come while the first of them is computed share its forward: docs/decisions/0010."""

import asyncio
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

from models.preprocess import Tensors
from service.domain import Deadline, Ref, priority_level
from service.errors import DeadlineExceeded
from service.registry.fleet import Fleet, VersionState, View
from service.serving.computing import Engines
from service.serving.result_cache import Loaded, Question, ResultCache
from service.telemetry.instruments import HttpTelemetry
from service.wire.inference import Outputs

# To compare more than this takes longer than it is likely to save.
_MOST_BYTES = 65_536


@dataclass(slots=True, eq=False)
class _Flight:
    """A forward that is under way, and how many requests wait for it. `level` is its priority."""

    task: asyncio.Task[Outputs]
    level: int
    waiting: int = 0


class SingleFlight:
    """Engines, asked once for what several ask at the same time; with a `cache`, and for what was asked before.

    Only answers without failed rows are shared. Whoever waits for another's forward that brings none asks anew, as if
    nothing had been shared; and nobody waits past its own deadline, nor behind a forward of lower priority.
    Outputs are read-only.
    """

    def __init__(
        self,
        engines: Engines,
        fleet: Fleet,
        telemetry: HttpTelemetry,
        cache: ResultCache | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engines = engines
        self._fleet = fleet
        self._telemetry = telemetry
        self._cache = cache
        self._clock = clock
        self._flights: dict[Question, _Flight] = {}
        self._loaded: frozenset[Loaded] = frozenset()
        fleet.listen(self._use)
        self._use(fleet.view)

    async def infer(self, ref: Ref, tensors: Tensors, deadline: Deadline, priority: int) -> Outputs:
        """Raises what the engines raise, and DeadlineExceeded."""
        standing = self._fleet.view.versions.get(ref)
        if standing is None or tensors.values.nbytes > _MOST_BYTES:
            return await self._engines.infer(ref, tensors, deadline, priority)
        question = Question.of(Loaded.of(ref, standing), tensors)
        if self._cache is not None and (values := self._cache.get(question)) is not None:
            self._count(ref, "kept")
            return Outputs(values, {}, 0.0, 0.0)
        flight, level = self._flights.get(question), priority_level(priority)
        if flight is None or flight.level > level:
            task = asyncio.create_task(self._forward(ref, tensors, deadline, priority))
            flight = self._flights[question] = _Flight(task, level)
            task.add_done_callback(functools.partial(self._land, question, flight))
            await self._wait(question, flight)
            return task.result()
        if (outputs := await self._follow(question, flight, deadline)) is not None:
            return outputs
        return await self._engines.infer(ref, tensors, deadline, priority)

    async def _forward(self, ref: Ref, tensors: Tensors, deadline: Deadline, priority: int) -> Outputs:
        outputs = await self._engines.infer(ref, tensors, deadline, priority)
        values = outputs.values.view()
        values.setflags(write=False)
        return outputs._replace(values=values)

    async def _follow(self, question: Question, flight: _Flight, deadline: Deadline) -> Outputs | None:
        """The answer to another's request, or None where there is none to share. Raises DeadlineExceeded."""
        ref, since, task = question.asked.ref, self._clock(), flight.task
        await self._wait(question, flight, max(0.0, deadline.remaining(since)))
        if not task.done():
            raise DeadlineExceeded(ref, "the queue")
        if task.cancelled() or task.exception() is not None or task.result().failures:
            return None
        self._count(ref, "in_flight")
        return Outputs(task.result().values, {}, self._clock() - since, 0.0)

    async def _wait(self, question: Question, flight: _Flight, seconds: float | None = None) -> None:
        """Until the flight is over, or for so long. Whoever leaves last takes it back."""
        flight.waiting += 1
        try:
            await asyncio.wait((flight.task,), timeout=seconds)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._take_off(question, flight)
                flight.task.cancel()

    def _land(self, question: Question, flight: _Flight, task: asyncio.Task[Outputs]) -> None:
        self._take_off(question, flight)
        if task.cancelled() or task.exception() is not None or self._cache is None:
            return
        outputs = task.result()
        if not outputs.failures and question.asked in self._loaded:
            self._cache.keep(question, outputs.values)

    def _take_off(self, question: Question, flight: _Flight) -> None:
        """Have nobody else join the flight."""
        if self._flights.get(question) is flight:
            del self._flights[question]

    def _use(self, view: View) -> None:
        """Forget what was computed by anything that is not loaded now."""
        versions = view.versions.items()
        loaded = frozenset(Loaded.of(ref, each) for ref, each in versions if each.state is VersionState.LOADED)
        if loaded != self._loaded and self._cache is not None:
            self._cache.keep_only(loaded)
        self._loaded = loaded

    def _count(self, ref: Ref, how: str) -> None:
        self._telemetry.of(ref).shared(how).add()
