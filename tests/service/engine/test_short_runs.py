"""Lone rows that run sooner than a thread wakes up for them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import BatchPolicy, Deadline, Ref
from service.engine.core import Engine
from service.engine.failures import DeviceLost
from service.engine.requests import Request
from service.engine.runner import Fill
from service.errors import ServoloopError
from service.telemetry.instruments import EngineTelemetry
from service.watch.blackbox import Running
from service.wire.inference import Outputs
from tests.fakes import FakeRunner, ManualClock, install, sample
from tests.patience import PATIENCE

REF, OTHER = Ref("m", 1), Ref("n", 1)
LABELS = {"model": "m", "version": "1"}
SHORT, LONG = 0.0005, 0.0015
Result = Outputs | ServoloopError


class Timed(FakeRunner):
    """Takes so many seconds for a batch, and notes which were run in the event loop's thread."""

    has_own_threads = True

    def __init__(self, clock: ManualClock, seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds
        self.ran_here: list[bool] = []
        self.gate = threading.Event()
        self.gate.set()
        self.fails: Exception | None = None

    def run(self, rows: Sequence[Array], *, ragged: bool) -> tuple[Array, Fill]:
        self.ran_here.append(threading.current_thread() is threading.main_thread())
        assert self.gate.wait(PATIENCE)
        self.clock.advance(self.seconds)
        if self.fails is not None:
            raise self.fails
        return super().run(rows, ragged=ragged)


class Short:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.clock = ManualClock()
        self.shown: list[tuple[int, Running | None]] = []
        telemetry = EngineTelemetry(registry)
        self.engine = Engine(
            BatchPolicy(), telemetry, self.clock, lambda running, lane: self.shown.append((lane, running)), threads=2
        )
        self.running = asyncio.create_task(self.engine.run())

    async def load(self, seconds: float, ref: Ref = REF) -> Timed:
        """A version whose lone rows are known to take so long."""
        runner = Timed(self.clock, seconds)
        await install(self.engine, ref, runner)
        await self.answer(ref=ref)
        assert runner.ran_here == [False], "what a row takes is not known before one ran"
        runner.ran_here.clear()
        self.shown.clear()
        return runner

    def ask(self, *values: float, ref: Ref = REF, digest: bytes = b"") -> asyncio.Future[Result]:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        rows = Tensors(np.array([[value] for value in values or (5,)], np.float32))
        self.engine.submit(Request(ref, rows, Deadline(1e9), self.clock(), future.set_result, 7, digest=digest))
        return future

    async def answer(self, *values: float, ref: Ref = REF, digest: bytes = b"") -> Outputs:
        result = await asyncio.wait_for(self.ask(*values, ref=ref, digest=digest), PATIENCE)
        assert isinstance(result, Outputs), result
        return result


@pytest.fixture
async def short(registry: CollectorRegistry) -> AsyncIterator[Short]:
    short = Short(registry)
    yield short
    short.running.cancel()
    with pytest.raises((asyncio.CancelledError, DeviceLost)):
        await short.running


async def test_a_lone_row_of_a_short_network_runs_where_it_arrived(short: Short, registry: CollectorRegistry) -> None:
    runner = await short.load(SHORT)
    answer = await short.answer(5)
    assert runner.ran_here == [True]
    assert (answer.values.tolist(), answer.failures) == ([[5, 1]], {})
    assert answer.compute_seconds == pytest.approx(SHORT)
    ((first, running), (last, nothing)) = short.shown
    assert (first, last, nothing) == (0, 0, None)
    assert running is not None
    assert (running.ref, running.rows) == (REF, ((7, 0),))
    assert sample(registry, "servoloop_batch_rows_sum", LABELS) == 2


async def test_what_fails_where_it_arrived_fails_alone(short: Short, caplog: pytest.LogCaptureFixture) -> None:
    runner = await short.load(SHORT)
    answer = await short.answer(Timed.POISON)
    assert set(answer.failures) == {0}
    assert (await short.answer(5)).failures == {}
    assert runner.ran_here == [True, True]
    assert "failed on a row" in caplog.text


async def test_a_device_that_is_lost_there_ends_the_engine(short: Short, caplog: pytest.LogCaptureFixture) -> None:
    runner = await short.load(SHORT)
    runner.fails = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    short.ask()
    with pytest.raises(DeviceLost):
        await asyncio.wait_for(asyncio.shield(short.running), PATIENCE)
    assert runner.ran_here == [True]
    assert short.shown[-1][1] is not None, "what was shown stays"


async def beside_another(short: Short, runner: Timed) -> None:
    other = await short.load(SHORT, OTHER)
    other.gate.clear()
    held = short.ask(1, 2, ref=OTHER)
    async with asyncio.timeout(PATIENCE):
        while not other.ran_here:
            await asyncio.sleep(0)
    await short.answer()
    other.gate.set()
    await held


async def two_rows(short: Short, runner: Timed) -> None:
    await short.answer(1, 2)


async def of_a_long_network(short: Short, runner: Timed) -> None:
    runner.seconds = LONG
    await short.answer()
    assert runner.ran_here == [True], "nobody can know that it became slower"
    for _ in range(50):
        await short.answer()
    runner.ran_here.clear()
    await short.answer()


async def a_suspect(short: Short, runner: Timed) -> None:
    await short.answer(digest=b"d" * 16)


async def without_threads_of_its_own(short: Short, runner: Timed) -> None:
    runner.has_own_threads = False
    await short.answer()


async def while_others_wait(short: Short, runner: Timed) -> None:
    other = await short.load(LONG, OTHER)
    asked = [short.ask(), short.ask(ref=OTHER)]
    await asyncio.wait(asked)
    assert other.ran_here == [False]


@pytest.mark.parametrize(
    "run",
    [
        beside_another,
        two_rows,
        of_a_long_network,
        a_suspect,
        without_threads_of_its_own,
        while_others_wait,
    ],
)
async def test_all_else_runs_in_a_lane(short: Short, run: Callable[[Short, Timed], Awaitable[None]]) -> None:
    runner = await short.load(SHORT)
    await run(short, runner)
    assert runner.ran_here == [False]
