import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Protocol

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.preprocess import Tensors
from service.domain import BatchPolicy, Deadline, Ref
from service.engine.core import Engine
from service.engine.requests import Reply, Request
from service.errors import DeadlineExceeded, NotReady, QueueFull, ServoloopError
from service.telemetry.instruments import EngineTelemetry
from service.wire.inference import Outputs
from tests.fakes import FakeRunner, ManualClock, install, sample
from tests.patience import PATIENCE

REF = Ref("fashion", 1)
LABELS = {"model": "fashion", "version": "1"}
Result = Outputs | ServoloopError


def dense(*values: float) -> Tensors:
    return Tensors(np.array([[value] for value in values], np.float32))


def ragged(*lengths: int) -> Tensors:
    return Tensors.packed([np.ones(length, np.float32) for length in lengths])


class Harness:
    """An engine with a fake network, and what became of each request."""

    def __init__(self, engine: Engine, clock: ManualClock, runner: FakeRunner, registry: CollectorRegistry) -> None:
        self.engine, self.clock, self.runner, self.registry = engine, clock, runner, registry
        self.gate = threading.Event()
        self.gate.set()
        self.num_begun = 0

    def begin(self) -> None:
        """A batch waits for the gate."""
        self.num_begun += 1
        self.gate.wait(PATIENCE)

    def ask(self, tensors: Tensors, *, seconds: float = PATIENCE, ref: Ref = REF) -> asyncio.Future[Result]:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.submit(tensors, future.set_result, seconds=seconds, ref=ref)
        return future

    def submit(self, tensors: Tensors, reply: Reply, *, seconds: float = PATIENCE, ref: Ref = REF) -> Request:
        now = self.clock()
        request = Request(ref, tensors, Deadline.after(seconds, now=now), now, reply)
        self.engine.submit(request)
        return request

    async def answer(self, asked: asyncio.Future[Result]) -> Outputs:
        result = await asyncio.wait_for(asked, PATIENCE)
        assert isinstance(result, Outputs), result
        return result

    async def until_begun(self) -> None:
        """Until the first batch waits for the gate."""
        async with asyncio.timeout(PATIENCE):
            while not self.num_begun:
                await asyncio.sleep(0)

    async def until_rows_wait(self, num_rows: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while sample(self.registry, "servoloop_queue_rows", LABELS) != num_rows:
                await asyncio.sleep(0)

    def dropped(self, reason: str) -> float:
        return sample(self.registry, "servoloop_dropped_rows_total", {**LABELS, "reason": reason})


class Start(Protocol):
    def __call__(self, **bounds: float) -> Awaitable[Harness]: ...


@pytest.fixture
async def start(registry: CollectorRegistry) -> AsyncIterator[Start]:
    running: list[asyncio.Task[None]] = []
    harnesses: list[Harness] = []

    async def start(**bounds: float) -> Harness:
        clock = ManualClock()
        runner = FakeRunner(before=lambda: harness.begin())
        engine = Engine(BatchPolicy(**bounds), EngineTelemetry(registry), clock)  # type: ignore[arg-type]
        harness = Harness(engine, clock, runner, registry)
        harnesses.append(harness)
        await install(engine, REF, runner)
        running.append(asyncio.create_task(engine.run()))
        return harness

    yield start
    for harness in harnesses:
        harness.gate.set()
    for task in running:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def busy(harness: Harness) -> asyncio.Future[Result]:
    """Keep the device busy with a batch of one row until the gate opens."""
    harness.gate.clear()
    held = harness.ask(dense(0))
    await harness.until_begun()
    return held


async def test_a_lone_row_gets_its_answer(start: Start) -> None:
    harness = await start()
    answer = await harness.answer(harness.ask(dense(5)))
    assert answer.values.tolist() == [[5, 1]]
    assert answer.values.dtype == np.float32
    assert answer.failures == {}


async def test_what_arrives_while_the_device_is_busy_leaves_as_one_batch(start: Start) -> None:
    harness = await start()
    held = await busy(harness)
    asked = [harness.ask(dense(value)) for value in range(1, 21)]
    harness.gate.set()
    answers = [await harness.answer(each) for each in (held, *asked)]
    assert [answer.values[0, 0] for answer in answers] == list(range(21))
    assert [len(batch) for batch in harness.runner.batches] == [1, 20]


async def test_a_request_larger_than_a_batch_is_joined_again_in_order(start: Start) -> None:
    harness = await start(max_rows=4)
    held = await busy(harness)
    large, small = harness.ask(dense(*range(10))), harness.ask(dense(77))
    harness.gate.set()
    assert (await harness.answer(large)).values[:, 0].tolist() == list(range(10))
    assert (await harness.answer(small)).values[:, 0].tolist() == [77]
    await harness.answer(held)
    assert [len(batch) for batch in harness.runner.batches] == [1, 4, 4, 3]


async def test_sequences_that_leave_out_of_order_are_joined_in_order(start: Start) -> None:
    harness = await start()
    answer = await harness.answer(harness.ask(ragged(100, 1, 90, 2)))
    assert answer.values[:, 1].tolist() == [100, 1, 90, 2]
    assert [len(batch) for batch in harness.runner.batches] == [2, 2]


class ByFours(FakeRunner):
    """A network that is run with a multiple of four rows."""

    def padded(self, num_rows: int, longest: int) -> tuple[int, int]:
        return -(-num_rows // 4) * 4, longest


async def test_batches_of_sequences_are_of_the_sizes_of_what_runs_them(start: Start) -> None:
    harness = await start()
    await install(harness.engine, REF, by_fours := ByFours())
    await harness.answer(harness.ask(ragged(*[200] * 9)))
    assert [len(batch) for batch in by_fours.batches] == [8, 1]


async def test_a_late_request_is_refused_and_never_runs(start: Start) -> None:
    harness = await start()
    held = await busy(harness)
    late, patient = harness.ask(dense(1, 2), seconds=1.0), harness.ask(dense(3), seconds=9.0)
    harness.clock.advance(1.0)
    harness.gate.set()
    result = await asyncio.wait_for(late, PATIENCE)
    assert isinstance(result, DeadlineExceeded)
    assert (result.ref, result.where) == (REF, "the queue")
    await harness.answer(patient)
    await harness.answer(held)
    assert [[float(row[0]) for row in batch] for batch in harness.runner.batches] == [[0], [3]]
    assert harness.dropped("deadline") == 2


async def test_a_request_whose_first_rows_ran_is_answered_once_when_the_others_are_late(start: Start) -> None:
    harness = await start(max_rows=2)
    harness.gate.clear()
    split = harness.ask(dense(1, 2, 3, 4, 5), seconds=1.0)
    await harness.until_rows_wait(3)
    harness.clock.advance(1.0)
    harness.gate.set()
    assert isinstance(await asyncio.wait_for(split, PATIENCE), DeadlineExceeded)
    await harness.answer(harness.ask(dense(9)))
    assert [[float(row[0]) for row in batch] for batch in harness.runner.batches] == [[1, 2], [9]]
    assert harness.dropped("deadline") == 3


async def test_a_cancelled_request_never_runs_and_is_never_answered(start: Start) -> None:
    harness = await start()
    held = await busy(harness)
    answers: list[Result] = []
    request = harness.submit(dense(1, 2), answers.append)
    stays = harness.ask(dense(3))
    harness.engine.cancel(request)
    harness.gate.set()
    await harness.answer(stays)
    await harness.answer(held)
    assert [len(batch) for batch in harness.runner.batches] == [1, 1]
    assert answers == []
    assert harness.dropped("cancelled") == 2


async def test_a_request_cancelled_while_it_runs_is_never_answered(start: Start) -> None:
    harness = await start()
    harness.gate.clear()
    answers: list[Result] = []
    request = harness.submit(dense(1), answers.append)
    await harness.until_begun()
    harness.engine.cancel(request)
    harness.gate.set()
    await harness.answer(harness.ask(dense(2)))
    assert answers == []
    assert harness.dropped("cancelled") == 0


async def test_a_full_queue_says_so_at_once(start: Start) -> None:
    harness = await start(max_queued_rows=3)
    await busy(harness)
    fits = harness.ask(dense(1, 2))
    refused = harness.ask(dense(3, 4))
    assert refused.done()
    result = refused.result()
    assert isinstance(result, QueueFull)
    assert (result.queued, result.limit) == (2, 3)
    assert harness.dropped("queue_full") == 2
    harness.gate.set()
    await harness.answer(fits)


async def test_a_version_that_is_not_loaded_says_so_at_once(start: Start) -> None:
    harness = await start()
    refused = harness.ask(dense(1), ref=Ref("fashion", 2))
    assert isinstance(refused.result(), NotReady)


async def test_a_row_that_fails_takes_no_other_with_it(start: Start) -> None:
    harness = await start()
    held = await busy(harness)
    neighbour, partly, wholly = (
        harness.ask(dense(1)),
        harness.ask(dense(2, FakeRunner.POISON, np.nan, 3)),
        harness.ask(dense(FakeRunner.POISON, FakeRunner.POISON)),
    )
    harness.gate.set()
    assert (await harness.answer(neighbour)).failures == {}
    answer = await harness.answer(partly)
    assert answer.values.shape == (4, 2)
    assert answer.values[[0, 3], 0].tolist() == [2, 3]
    assert set(answer.failures) == {1, 2}
    nothing = await harness.answer(wholly)
    assert len(nothing.values) == 2
    assert set(nothing.failures) == {0, 1}
    await harness.answer(held)


async def test_times_are_told_with_the_answer(start: Start) -> None:
    harness = await start()
    held = await busy(harness)
    asked = harness.ask(dense(1))
    harness.clock.advance(0.25)
    harness.gate.set()
    assert (await harness.answer(held)).compute_seconds == 0.25
    answer = await harness.answer(asked)
    assert (answer.queue_seconds, answer.compute_seconds) == (0.25, 0.0)


async def test_a_delay_is_waited_for_and_ends_by_itself(registry: CollectorRegistry) -> None:
    runner = FakeRunner()
    engine = Engine(BatchPolicy(max_delay=0.05), EngineTelemetry(registry))
    await install(engine, REF, runner)
    running = asyncio.create_task(engine.run())
    futures: list[asyncio.Future[Result]] = [asyncio.get_running_loop().create_future() for _ in range(2)]
    for future in futures:
        engine.submit(Request(REF, dense(1), Deadline(1e9), time.monotonic(), future.set_result))
        await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*futures), PATIENCE)
    running.cancel()
    assert [len(batch) for batch in runner.batches] == [2]


async def test_batches_and_padding_are_measured(start: Start) -> None:
    harness = await start()
    await harness.answer(harness.ask(ragged(4, 3, 4)))
    await harness.answer(harness.ask(ragged(5)))
    values = {
        name: sample(harness.registry, f"servoloop_{name}", LABELS)
        for name in ("batch_rows_sum", "batch_rows_count", "batch_duration_seconds_count")
    }
    assert values == {"batch_rows_sum": 4, "batch_rows_count": 2, "batch_duration_seconds_count": 2}
    assert sample(harness.registry, "servoloop_batch_elements_total", LABELS) == 17
    assert sample(harness.registry, "servoloop_padding_elements_total", LABELS) == 1


async def test_the_queues_depth_is_shown(start: Start) -> None:
    harness = await start()
    held = await busy(harness)
    asked = harness.ask(dense(1, 2, 3))
    await harness.until_rows_wait(3)
    harness.gate.set()
    await harness.answer(asked)
    await harness.answer(held)
    await harness.until_rows_wait(0)


async def test_a_loaded_version_is_counted(start: Start) -> None:
    harness = await start()
    assert harness.engine.loaded == [REF]
    assert sample(harness.registry, "servoloop_replicas", LABELS) == 1
