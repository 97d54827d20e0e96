"""An engine and its loader on a bench: a test holds loads and batches up, and sees which replica answered."""

import asyncio
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import BatchPolicy, Deadline, Execution, Precision, Ref
from service.engine.core import Engine
from service.engine.loading import Loader
from service.engine.requests import Reply, Request
from service.engine.runner import Fill
from service.errors import ServoloopError
from service.telemetry.instruments import EngineTelemetry
from service.watch.blackbox import Running
from service.wire.inference import Outputs
from service.wire.report import Wanted
from tests.fakes import FakeRunner, ManualClock, sample
from tests.patience import PATIENCE

REF, OTHER = Ref("m", 1), Ref("n", 1)
LABELS = {"model": "m", "version": "1"}
Result = Outputs | ServoloopError


def wanted(ref: Ref = REF, generation: int = 0, precision: Precision = Precision.FLOAT32) -> Wanted:
    return Wanted(ref, Path(str(ref)), precision=precision, generation=generation)


def rows(*values: float) -> Tensors:
    return Tensors(np.array([[value] for value in values], np.float32))


class Numbered(FakeRunner):
    """Answers each row with the row and the generation that it was loaded under."""

    def __init__(self, generation: int, before: Callable[[], None]) -> None:
        super().__init__(before)
        self.generation = generation

    def run(self, rows: Sequence[Array], *, ragged: bool) -> tuple[Array, Fill]:
        assert self.is_warm
        super().run(rows, ragged=ragged)
        return np.array([[row.sum(), self.generation] for row in rows], np.float32), Fill(len(rows), 0)


def anew(error: Exception) -> Exception:
    """An equal one: whoever keeps an exception that was raised keeps all that its frames held."""
    return type(error)(*error.args)


class Bench:
    """An engine and its loader; `load_gate` and `run_gate` hold loads and batches up while they are closed."""

    def __init__(self, registry: CollectorRegistry, policy: BatchPolicy | None = None, threads: int = 1) -> None:
        self.registry = registry
        self.clock = ManualClock()
        self.load_gate, self.run_gate = threading.Event(), threading.Event()
        self.load_gate.set()
        self.run_gate.set()
        self.events: list[str] = []
        self.shown: list[tuple[int, Running | None]] = []
        self.shown_loading: list[Running | None] = []
        self.fails: dict[int, Exception] = {}
        self.fails_warm: dict[int, Exception] = {}
        self.executions: dict[int, Execution] = {}
        self.runners: list[weakref.ref[Numbered]] = []
        self.alive_when_freed: list[list[int]] = []
        self.num_running = 0
        telemetry = EngineTelemetry(registry)
        self.engine = Engine(
            policy or BatchPolicy(max_rows=4),
            telemetry,
            self.clock,
            lambda running, lane: self.shown.append((lane, running)),
            threads,
        )
        self.loader = Loader(
            self.engine, self._load, telemetry, show=self.shown_loading.append, free=self._free, clock=self.clock
        )
        self._task: asyncio.Task[None] | None = None

    def _load(self, order: Wanted) -> Numbered:
        self.events.append(f"load {order.ref} {order.generation}")
        self.load_gate.wait(PATIENCE)
        if (error := self.fails.get(order.generation)) is not None:
            raise anew(error)
        runner = Numbered(order.generation, self._before_batch)
        runner.execution = self.executions.get(order.generation, runner.execution)
        if (error := self.fails_warm.get(order.generation)) is not None:

            def fail(error: Exception = error) -> None:
                raise anew(error)

            runner.warm_up = fail  # type: ignore[method-assign]
        self.runners.append(weakref.ref(runner))
        self.events.append(f"loaded {order.ref} {order.generation}")
        return runner

    def _before_batch(self) -> None:
        self.num_running += 1
        self.run_gate.wait(PATIENCE)

    def _free(self) -> None:
        self.alive_when_freed.append(self.alive)

    @property
    def alive(self) -> list[int]:
        """The generations of the replicas that somebody still holds."""
        return [runner.generation for each in self.runners if (runner := each()) is not None]

    def start(self) -> None:
        self._task = asyncio.create_task(self.engine.run())

    async def stop(self) -> None:
        self.load_gate.set()
        self.run_gate.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def ask(self, *values: float, seconds: float = PATIENCE, ref: Ref = REF) -> asyncio.Future[Result]:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.submit(future.set_result, *values, seconds=seconds, ref=ref)
        return future

    def submit(self, reply: Reply, *values: float, seconds: float = PATIENCE, ref: Ref = REF) -> Request:
        now = self.clock()
        request = Request(ref, rows(*values), Deadline.after(seconds, now=now), now, reply)
        self.engine.submit(request)
        return request

    async def answered_by(self, asked: asyncio.Future[Result]) -> set[int]:
        """The generations that answered a request's rows."""
        answer = await asyncio.wait_for(asked, PATIENCE)
        assert isinstance(answer, Outputs), answer
        return set(answer.values[:, 1].astype(int).tolist())

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not true():
                await asyncio.sleep(0)

    async def busy(self) -> asyncio.Future[Result]:
        """Keep the device busy with a row until the gate of batches opens."""
        self.run_gate.clear()
        before = self.num_running
        held = self.ask(0)
        await self.until(lambda: self.num_running > before)
        return held

    def gauge(self, name: str, **more: str) -> float:
        return sample(self.registry, f"servoloop_{name}", {**LABELS, **more})
