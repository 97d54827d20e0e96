"""What an engine does beside answering: canaries, showing what it runs, smaller batches, and going down in time."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import BatchPolicy, Deadline, Ref
from service.engine.core import CANARY_SECONDS, Engine
from service.engine.failures import DeviceLost
from service.engine.isolation import run_isolating
from service.engine.requests import Reply, Request
from service.engine.runner import Fill
from service.errors import ServoloopError
from service.telemetry.instruments import EngineTelemetry
from service.watch.blackbox import Doing, Running
from service.wire.inference import Outputs
from tests.fakes import FakeRunner, ManualClock, install, sample
from tests.patience import PATIENCE

REF = Ref("m", 1)
LABELS = {"model": "m", "version": "1"}


class Upkeep:
    """An engine whose loop runs only while it is asked to."""

    def __init__(self, runner: FakeRunner, registry: CollectorRegistry) -> None:
        self.clock = ManualClock()
        self.shown: list[Running | None] = []
        self.runner = runner
        policy = BatchPolicy(max_rows=8)
        self.engine = Engine(
            policy, EngineTelemetry(registry), self.clock, lambda running, _: self.shown.append(running)
        )

    def submit(
        self, reply: Reply, *values: float, seconds: float = 1e9, request_id: int = 7, digest: bytes = b""
    ) -> None:
        tensors, now = Tensors(np.array([[value] for value in values], np.float32)), self.clock()
        deadline = Deadline.after(seconds, now=now)
        self.engine.submit(Request(REF, tensors, deadline, now, reply, request_id, digest=digest))

    async def answer(self, *values: float, request_id: int = 7, digest: bytes = b"") -> Outputs:
        future: asyncio.Future[Outputs | ServoloopError] = asyncio.get_running_loop().create_future()
        self.submit(future.set_result, *values, request_id=request_id, digest=digest)
        await self.run_until(future)
        answer = future.result()
        assert isinstance(answer, Outputs)
        return answer

    async def run_until(self, done: asyncio.Future[Outputs | ServoloopError]) -> None:
        running = asyncio.create_task(self.engine.run())
        try:
            await asyncio.wait([running, done], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
        finally:
            running.cancel()

    async def run_canaries(self) -> int:
        """Tick, run what is due; how many rows ran."""
        before = len(self.runner.batches)
        self.engine.tick()
        running = asyncio.create_task(self.engine.run())
        async with asyncio.timeout(PATIENCE):
            while sample_of_queue(self) or self.engine._canaries:
                await asyncio.sleep(0.001)
        running.cancel()
        return len(self.runner.batches) - before


def sample_of_queue(upkeep: Upkeep) -> int:
    return upkeep.engine._scheduler.waiting(REF)


class Memory(FakeRunner):
    """Memory for so many rows."""

    enough_for = 3

    def run(self, rows: Sequence[Array], *, ragged: bool) -> tuple[Array, Fill]:
        if len(rows) > self.enough_for:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().run(rows, ragged=ragged)


class Broken(FakeRunner):
    """A device that was left in an error."""

    def run(self, rows: Sequence[Array], *, ragged: bool) -> tuple[Array, Fill]:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")


async def upkeep_of(runner: FakeRunner, registry: CollectorRegistry) -> Upkeep:
    upkeep = Upkeep(runner, registry)
    await install(upkeep.engine, REF, runner)
    return upkeep


@pytest.fixture
async def upkeep(registry: CollectorRegistry) -> Upkeep:
    return await upkeep_of(FakeRunner(), registry)


async def test_a_version_that_nobody_asks_runs_its_canary(upkeep: Upkeep, registry: CollectorRegistry) -> None:
    assert upkeep.engine.since_forward() == {REF: 0}
    upkeep.clock.advance(CANARY_SECONDS - 1)
    assert await upkeep.run_canaries() == 0
    upkeep.clock.advance(1)
    assert upkeep.engine.since_forward() == {REF: CANARY_SECONDS}
    assert await upkeep.run_canaries() == 1
    assert upkeep.engine.since_forward() == {REF: 0}
    assert sample(registry, "servoloop_batch_rows_count", LABELS) == 0


async def test_a_version_that_is_asked_needs_none(upkeep: Upkeep) -> None:
    upkeep.clock.advance(CANARY_SECONDS - 1)
    await upkeep.answer(1.0)
    upkeep.clock.advance(CANARY_SECONDS - 1)
    assert await upkeep.run_canaries() == 0


async def test_a_version_whose_canary_fails_has_answered_nothing(upkeep: Upkeep) -> None:
    upkeep.runner.canary = Tensors(np.full((1, 1), np.nan, np.float32))
    for _ in range(3):
        upkeep.clock.advance(CANARY_SECONDS)
        assert await upkeep.run_canaries() == 1
    assert upkeep.engine.since_forward() == {REF: 3 * CANARY_SECONDS}


async def test_only_one_canary_waits_at_a_time(upkeep: Upkeep) -> None:
    upkeep.clock.advance(CANARY_SECONDS)
    for _ in range(3):
        upkeep.engine.tick()
    assert sample_of_queue(upkeep) == 1


async def test_what_runs_is_shown_before_it_runs(upkeep: Upkeep) -> None:
    assert upkeep.shown == [Running(Doing.LOAD, REF, 100.0), None]
    upkeep.shown.clear()
    await upkeep.answer(1.0, 2.0)
    await upkeep.answer(3.0, request_id=9, digest=b"d" * 16)
    batch, nothing, alone, _ = upkeep.shown
    assert batch == Running(Doing.BATCH, REF, 100.0, 0.0, ((7, 0), (7, 1)))
    assert nothing is None
    assert alone is not None
    assert (alone.rows, alone.digest) == (((9, 0),), b"d" * 16)


async def test_of_a_batch_that_is_halved_each_part_is_shown(upkeep: Upkeep) -> None:
    upkeep.shown.clear()
    await upkeep.answer(1.0, FakeRunner.POISON)
    assert [shown.rows if shown is not None else None for shown in upkeep.shown] == [
        ((7, 0), (7, 1)),
        ((7, 0),),
        ((7, 1),),
        None,
    ]


async def test_where_memory_does_not_suffice_all_rows_are_answered_and_later_batches_are_smaller(
    registry: CollectorRegistry,
) -> None:
    runner = Memory()
    upkeep = await upkeep_of(runner, registry)
    for _ in range(2):
        answer = await upkeep.answer(*range(8))
        assert answer.values[:, 0].tolist() == list(range(8))
        assert answer.failures == {}
    assert {len(batch) for batch in runner.batches} == {2}
    assert sample(registry, "servoloop_batch_cap_reductions_total", LABELS) == 1
    runner.enough_for = 8
    upkeep.clock.advance(61)
    await upkeep.answer(*range(8))
    assert len(runner.batches[-1]) == 8


async def test_a_row_that_memory_does_not_suffice_for_says_so(registry: CollectorRegistry) -> None:
    runner = Memory()
    runner.enough_for = 0
    answer = await (await upkeep_of(runner, registry)).answer(1.0)
    assert answer.failures == {0: "the device's memory does not suffice for this row"}


async def test_a_lost_device_ends_the_engine_and_leaves_what_it_ran_to_be_seen(registry: CollectorRegistry) -> None:
    upkeep = await upkeep_of(Broken(), registry)
    with pytest.raises(DeviceLost):
        await upkeep.answer(1.0)
    last = upkeep.shown[-1]
    assert last is not None
    assert last.rows == ((7, 0),)


def test_a_lost_device_is_not_asked_again() -> None:
    runs: list[int] = []

    def run(rows: Sequence[int]) -> tuple[Array, Fill]:
        runs.append(len(rows))
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(DeviceLost):
        run_isolating(run, range(8))
    assert runs == [8]


async def test_answers_that_come_too_late_are_counted(upkeep: Upkeep, registry: CollectorRegistry) -> None:
    upkeep.runner._before = lambda: upkeep.clock.advance(5)
    future: asyncio.Future[Outputs | ServoloopError] = asyncio.get_running_loop().create_future()
    upkeep.submit(future.set_result, 0.0, 0.0, seconds=1.0)
    await upkeep.run_until(future)
    assert sample(registry, "servoloop_deadline_misses_total", {**LABELS, "when": "after"}) == 1
    # And from what was learned, the next one with as little time is refused at once.
    refused: list[Outputs | ServoloopError] = []
    upkeep.submit(refused.append, 0.0, 0.0, seconds=1.0)
    assert len(refused) == 1
    assert sample(registry, "servoloop_deadline_misses_total", {**LABELS, "when": "before"}) == 1


async def test_the_age_of_the_oldest_row_is_shown(upkeep: Upkeep, registry: CollectorRegistry) -> None:
    upkeep.submit(lambda _: None, 0.0)
    upkeep.clock.advance(3)
    upkeep.engine.tick()
    assert sample(registry, "servoloop_queue_age_seconds", LABELS) == 3
