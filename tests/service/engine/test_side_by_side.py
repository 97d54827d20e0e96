"""An engine with several threads: batches beside one another, and what each of their lanes shows."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
import torch
from prometheus_client import CollectorRegistry

from service.domain import Ref
from service.engine.failures import DeviceLost
from service.watch.blackbox import Doing, Running
from tests.patience import PATIENCE
from tests.service.engine.bench import OTHER, REF, Bench, Result, wanted


class Held(Bench):
    """Three threads; a batch begins, and goes on until its row is let go."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry, threads=3)
        self.gates: list[tuple[threading.Event, list[Exception]]] = []

    def _before_batch(self) -> None:
        gate, fails = threading.Event(), list[Exception]()
        self.gates.append((gate, fails))
        gate.wait(PATIENCE)
        for error in fails:
            raise error

    async def begin(self, ref: Ref = REF) -> asyncio.Future[Result]:
        """Ask for a row, and wait until its batch has begun."""
        before = len(self.gates)
        asked = self.ask(0, ref=ref)
        await self.until(lambda: len(self.gates) > before)
        return asked

    def end(self, number: int, *fails: Exception) -> None:
        """Let a batch end, in the order in which they began."""
        gate, errors = self.gates[number]
        errors.extend(fails)
        gate.set()

    @property
    def now(self) -> dict[int, Running | None]:
        """What each lane shows last."""
        return dict(self.shown)

    async def let_go(self) -> None:
        for gate, _ in self.gates:
            gate.set()
        await self.stop()


@pytest.fixture
async def bench(registry: CollectorRegistry) -> AsyncIterator[Held]:
    bench = Held(registry)
    bench.start()
    for ref in (REF, OTHER):
        await bench.loader.load(wanted(ref))
    bench.clock.advance(1)  # batches began at another time than loads
    yield bench
    await bench.let_go()


def versions(shown: dict[int, Running | None]) -> list[Ref | None]:
    return [running and running.ref for _, running in sorted(shown.items())]


async def test_each_batch_is_shown_in_a_lane_of_its_own(bench: Held) -> None:
    asked = [await bench.begin(ref) for ref in (REF, OTHER, REF)]
    assert versions(bench.now) == [REF, OTHER, REF]
    bench.end(1)
    assert await bench.answered_by(asked[1]) == {0}
    assert versions(bench.now) == [REF, None, REF]


async def test_an_unload_waits_for_all_batches_of_its_version(bench: Held) -> None:
    first, second = await bench.begin(), await bench.begin()
    unloading = asyncio.create_task(bench.loader.unload(REF))
    bench.end(0)
    assert await bench.answered_by(first) == {0}
    other = await bench.begin(OTHER)
    assert (bench.engine.retiring, unloading.done()) == ([REF], False)
    bench.end(2)
    bench.end(1)
    assert await bench.answered_by(second) == await bench.answered_by(other) == {0}
    await asyncio.wait_for(unloading, PATIENCE)
    assert bench.alive_when_freed[-1] == [0]


async def test_others_are_answered_while_a_long_batch_is_waited_for(bench: Held) -> None:
    long = await bench.begin()
    unloading = asyncio.create_task(bench.loader.unload(OTHER))
    await bench.until(lambda: OTHER not in bench.engine.residents)
    short = await bench.begin()
    bench.end(1)
    assert await bench.answered_by(short) == {0}
    assert not unloading.done()
    bench.end(0)
    assert await bench.answered_by(long) == {0}
    await asyncio.wait_for(unloading, PATIENCE)


async def test_a_device_lost_in_one_lane_ends_the_engine_and_both_lanes_tell_what_ran(bench: Held) -> None:
    await bench.begin()
    await bench.begin(OTHER)
    bench.end(0, torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    assert bench._task is not None
    with pytest.raises(DeviceLost):
        await asyncio.wait_for(bench._task, PATIENCE)
    assert versions(bench.now) == [REF, OTHER]


async def test_what_waits_to_be_warmed_up_does_not_run_on_a_device_that_was_lost(bench: Held) -> None:
    await bench.begin()
    loading = asyncio.create_task(bench.loader.load(wanted(OTHER, generation=1)))
    await bench.until(lambda: f"loaded {OTHER} 1" in bench.events)
    await bench.until(lambda: bench.engine._lanes.room == 0)
    bench.end(0, torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(DeviceLost):
        await asyncio.wait_for(loading, PATIENCE)
    doing = [(running.doing, running.ref) for running in bench.now.values() if running is not None]
    assert doing == [(Doing.BATCH, REF)]


async def test_an_engine_that_ends_answers_nothing_any_more(bench: Held) -> None:
    asked = await bench.begin()
    await bench.stop()
    bench.end(0)
    await bench.until(lambda: bench.now[0] is None)
    await bench.until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    assert not asked.done()
