"""Stand-ins with a behaviour of their own, where a test needs to see or steer what a real part does."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Deadline, Execution, Precision, Ref
from service.engine.core import Engine
from service.engine.runner import Fill, Runner
from service.registry.fleet import EngineInfo, Standing, View
from service.store.base import Input, Record
from service.wire.inference import Outputs
from service.wire.report import Wanted


class ManualClock:
    """Time moves when a test says so."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class FakeRunner:
    """A network whose answer for a row is the row's sum and its length; it fails on rows that hold POISON.

    Rows that hold NaN are answered with NaN, as a real network would.
    """

    POISON = -13.0
    canary = Tensors(np.zeros((1, 1), np.float32))
    num_bytes = 64
    has_own_threads = False
    execution = Execution("fake", Precision.FLOAT32, 1, "it is a fake")

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.batches: list[list[Array]] = []
        self.is_warm = False
        self._before = before

    def warm_up(self) -> None:
        self.is_warm = True

    def padded(self, num_rows: int, longest: int) -> tuple[int, int]:
        return num_rows, longest

    def run(self, rows: Sequence[Array], *, ragged: bool) -> tuple[Array, Fill]:
        self._before()
        self.batches.append(list(rows))
        if any((row == self.POISON).any() for row in rows):
            raise RuntimeError("poisoned")
        used, longest = sum(map(len, rows)), max(map(len, rows))
        fill = Fill(longest * len(rows), longest * len(rows) - used) if ragged else Fill(len(rows), 0)
        return np.array([[row.sum(), row.size] for row in rows], np.float32), fill


async def install(engine: Engine, ref: Ref, runner: Runner) -> None:
    """Have an engine answer with a runner, warmed up as a loader does it."""
    await engine.warm_up(ref, runner)
    engine.install(Wanted(ref, Path(str(ref))), runner)


Infer = Callable[[Ref, Tensors], Outputs]


@dataclass
class FakeEngines:
    """Answers from a function, at once, and remembers what it was asked."""

    answer: Infer
    calls: list[tuple[Ref, Tensors, Deadline]] = field(default_factory=list)
    priorities: list[int] = field(default_factory=list)

    async def infer(self, ref: Ref, tensors: Tensors, deadline: Deadline, priority: int = 0) -> Outputs:
        self.calls.append((ref, tensors, deadline))
        self.priorities.append(priority)
        await asyncio.sleep(0)
        return self.answer(ref, tensors)


class FakeFleet:
    """A view that changes when a test says so."""

    def __init__(self, view: View | None = None) -> None:
        self.view = view or View(engines=(EngineInfo("engine-0", "/run/engine-0.sock", "cpu"),))
        self.wanted: list[Ref] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._listeners: list[Callable[[View], None]] = []

    def listen(self, use: Callable[[View], None]) -> None:
        self._listeners.append(use)

    def want(self, ref: Ref) -> None:
        self.wanted.append(ref)

    async def changed(self) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def show(self, ref: Ref, standing: Standing | None) -> None:
        """Let a version stand so from now on; None takes it out."""
        versions = {**self.view.versions, ref: standing}
        known = {ref: standing for ref, standing in versions.items() if standing is not None}
        self.publish(replace(self.view, versions=known))

    def publish(self, view: View) -> None:
        """Let this be the view from now on."""
        self.view = view
        for use in self._listeners:
            use(view)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)


@dataclass
class FakeLog:
    """Remembers what was recorded."""

    records: list[Record] = field(default_factory=list)
    inputs: list[Input] = field(default_factory=list)

    def record(self, records: Iterable[Record], inputs: Iterable[Input]) -> None:
        self.records += records
        self.inputs += inputs


def sample(registry: CollectorRegistry, name: str, labels: Mapping[str, str] | None = None) -> float:
    """A metric's value; 0 where nothing was measured yet."""
    return registry.get_sample_value(name, dict(labels or {})) or 0.0
