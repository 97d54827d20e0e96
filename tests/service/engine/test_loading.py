"""Versions come and go while requests run: in order, one load at a time."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import torch
from prometheus_client import CollectorRegistry

from models.manifest import BrokenCheckpoint
from service.domain import BatchPolicy, Execution, Precision, Ref
from service.engine.core import CANARY_SECONDS
from service.engine.failures import DeviceLost
from service.engine.loading import LoadFailed
from service.errors import DeadlineExceeded, NotReady
from service.watch.blackbox import Doing, Running
from tests.fakes import FakeRunner
from tests.patience import PATIENCE
from tests.service.engine.bench import OTHER, REF, Bench, Numbered, wanted


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
async def bench(request: pytest.FixtureRequest, registry: CollectorRegistry) -> AsyncIterator[Bench]:
    bench = Bench(registry, threads=request.param)
    bench.start()
    yield bench
    await bench.stop()


# Loading beside batches


async def test_batches_go_on_while_a_version_is_loaded(bench: Bench) -> None:
    await bench.loader.load(wanted())
    bench.load_gate.clear()
    loading = asyncio.create_task(bench.loader.load(wanted(OTHER)))
    await bench.until(lambda: f"load {OTHER} 0" in bench.events)
    assert bench.loader.loading == [OTHER]
    assert await bench.answered_by(bench.ask(1)) == {0}
    bench.load_gate.set()
    await loading
    assert bench.loader.loading == []
    assert bench.engine.loaded == [REF, OTHER]


async def test_a_load_is_shown_where_it_is_built_and_where_it_is_warmed_up(bench: Bench) -> None:
    bench.load_gate.clear()
    loading = asyncio.create_task(bench.loader.load(wanted()))
    await bench.until(lambda: bool(bench.events))
    at_it = Running(Doing.LOAD, REF, bench.clock())
    assert (bench.shown_loading, bench.shown) == ([at_it], [])
    bench.load_gate.set()
    await loading
    assert (bench.shown_loading, bench.shown) == ([at_it, None], [(0, at_it), (0, None)])


async def test_one_version_is_loaded_at_a_time(bench: Bench) -> None:
    await asyncio.gather(*(bench.loader.load(wanted(ref)) for ref in (REF, OTHER)))
    assert bench.events == [f"load {REF} 0", f"loaded {REF} 0", f"load {OTHER} 0", f"loaded {OTHER} 0"]


async def test_the_next_load_begins_once_the_one_before_is_warm(bench: Bench) -> None:
    await bench.loader.load(wanted())
    held = await bench.busy()
    loading = [asyncio.create_task(bench.loader.load(wanted(OTHER, generation))) for generation in (1, 2)]
    loading.append(asyncio.create_task(bench.loader.load(wanted(REF, 3))))
    await bench.until(lambda: f"loaded {OTHER} 1" in bench.events)
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert bench.events[2:] == [f"load {OTHER} 1", f"loaded {OTHER} 1"]
    bench.run_gate.set()
    await asyncio.gather(held, *loading)


async def test_a_version_that_is_told_to_load_twice_is_loaded_once(bench: Bench) -> None:
    first, second = await asyncio.gather(*(bench.loader.load(wanted()) for _ in range(2)))
    assert bench.events == [f"load {REF} 0", f"loaded {REF} 0"]
    assert (first.num_bytes, second.seconds) == (FakeRunner.num_bytes, 0)


async def test_a_load_is_measured(bench: Bench) -> None:
    bench.load_gate.clear()
    loading = asyncio.create_task(bench.loader.load(wanted()))
    await bench.until(lambda: bool(bench.events))
    bench.clock.advance(2.0)
    bench.load_gate.set()
    assert (await loading).seconds == 2.0
    assert bench.gauge("load_seconds_sum") == 2.0
    assert bench.gauge("loads_total", outcome="ok") == 1
    assert bench.gauge("resident_bytes", device="cpu") == FakeRunner.num_bytes


# Failures


@pytest.mark.parametrize("where", ["fails", "fails_warm"])
async def test_a_load_that_fails_says_why_and_keeps_nothing(bench: Bench, where: str) -> None:
    getattr(bench, where)[0] = BrokenCheckpoint("no weights")
    with pytest.raises(LoadFailed, match="no weights") as raised:
        await bench.loader.load(wanted())
    assert not raised.value.still_answers
    assert bench.engine.loaded == []
    assert bench.alive_when_freed == [[]]
    assert bench.shown_loading[-1] is None
    assert bench.shown[-1:] in ([], [(0, None)])
    assert bench.gauge("loads_total", outcome="failed") == 1


@pytest.mark.parametrize("where", ["fails", "fails_warm"])
async def test_where_memory_does_not_suffice_that_is_the_reason(
    bench: Bench, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    getattr(bench, where)[0] = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(LoadFailed, match="the device's memory does not suffice for it"):
        await bench.loader.load(wanted())


@pytest.mark.parametrize("where", ["fails", "fails_warm"])
async def test_a_load_that_leaves_the_device_lost_ends_the_engine(bench: Bench, where: str) -> None:
    lost = torch.AcceleratorError("CUDA error: device-side assert triggered") if where == "fails" else DeviceLost()
    getattr(bench, where)[0] = lost
    with pytest.raises(DeviceLost):
        await bench.loader.load(wanted())
    assert bench._task is not None
    with pytest.raises(DeviceLost):
        await asyncio.wait_for(bench._task, PATIENCE)
    at_it = Running(Doing.LOAD, REF, bench.clock())  # what it was lost of
    assert (bench.shown_loading, bench.shown) == (([at_it], []) if where == "fails" else ([at_it, None], [(0, at_it)]))


async def test_a_lost_device_runs_no_batch_that_would_be_taken_for_the_cause(bench: Bench) -> None:
    await bench.loader.load(wanted(OTHER))
    held = asyncio.create_task(bench.loader.load(wanted()))
    bench.fails_warm[0] = DeviceLost()
    asked = bench.ask(1, ref=OTHER)
    with pytest.raises(DeviceLost):
        await held
    shown = [running.ref for _, running in bench.shown if running is not None and running.doing is Doing.BATCH]
    assert shown in ([], [OTHER])
    bench.shown.clear()
    bench.ask(2, ref=OTHER)
    assert bench._task is not None
    with pytest.raises(DeviceLost):
        await asyncio.wait_for(bench._task, PATIENCE)
    assert bench.shown == []
    assert asked.done() or shown == []


# Reloading


async def test_a_reload_changes_places_between_two_batches_and_keeps_what_waits(bench: Bench) -> None:
    await bench.loader.load(wanted())
    held = await bench.busy()
    waiting = bench.ask(*range(40))
    reloading = asyncio.create_task(bench.loader.load(wanted(generation=1)))
    await bench.until(lambda: f"loaded {REF} 1" in bench.events)
    assert not reloading.done()
    bench.run_gate.set()
    await reloading
    assert await bench.answered_by(held) == {0}
    assert 1 in await bench.answered_by(waiting)
    assert await bench.answered_by(bench.ask(4)) == {1}
    assert bench.gauge("loads_total", outcome="reloaded") == 1


async def test_what_a_reload_took_the_place_of_is_freed(bench: Bench) -> None:
    await bench.loader.load(wanted())
    await bench.answered_by(bench.ask(1))
    await bench.loader.load(wanted(generation=1))
    assert bench.alive_when_freed == [[1]]


async def test_a_reload_that_fails_leaves_what_was_loaded(bench: Bench) -> None:
    await bench.loader.load(wanted())
    bench.fails[1] = BrokenCheckpoint("its sha256 differs")
    with pytest.raises(LoadFailed) as raised:
        await bench.loader.load(wanted(generation=1))
    assert raised.value.still_answers
    assert await bench.answered_by(bench.ask(1)) == {0}


async def test_a_reload_does_not_count_as_being_asked(bench: Bench) -> None:
    await bench.loader.load(wanted())
    bench.clock.advance(5)
    assert bench.engine.since_asked() == {}
    await bench.answered_by(bench.ask(1))
    bench.clock.advance(3)
    await bench.loader.load(wanted(generation=1))
    assert bench.engine.since_asked() == {REF: 3}
    assert bench.engine.since_forward() == {REF: 0}


async def test_a_canary_does_not_count_as_being_asked(bench: Bench) -> None:
    await bench.loader.load(wanted())
    bench.clock.advance(CANARY_SECONDS)
    bench.engine.tick()
    await bench.until(lambda: bench.engine.since_forward() == {REF: 0})
    assert bench.engine.since_asked() == {}


@pytest.mark.parametrize(
    ("precision", "kept"), [(Precision.FLOAT32, True), (Precision.BFLOAT16, False)], ids=["the same", "another"]
)
async def test_the_learned_cost_is_kept_unless_the_precision_changes(
    bench: Bench, precision: Precision, kept: bool
) -> None:
    await bench.loader.load(wanted())
    held = await bench.busy()
    bench.clock.advance(0.5)
    bench.run_gate.set()
    await held
    await bench.loader.load(wanted(generation=1, precision=precision))
    late = bench.ask(1, seconds=0.1)
    if kept:
        assert isinstance(late.result(), DeadlineExceeded)
    else:
        assert await bench.answered_by(late) == {1}


async def test_the_learned_cost_is_not_kept_where_another_back_end_computes(bench: Bench) -> None:
    bench.executions[1] = Execution("other", Precision.FLOAT32, 1, "it is faster")
    await bench.loader.load(wanted())
    held = await bench.busy()
    bench.clock.advance(0.5)
    bench.run_gate.set()
    await held
    loaded = await bench.loader.load(wanted(generation=1))
    assert loaded.execution == bench.executions[1]
    assert await bench.answered_by(bench.ask(1, seconds=0.1)) == {1}


async def test_what_was_loaded_before_others_were_tried_is_loaded_anew_once(bench: Bench) -> None:
    for order in (wanted(), replace(wanted(), optimized=True), replace(wanted(), optimized=True), wanted()):
        await bench.loader.load(order)
    assert bench.events.count("loaded m/1 0") == 2


async def test_the_learned_cost_outlives_an_unload(bench: Bench) -> None:
    await bench.loader.load(wanted())
    held = await bench.busy()
    bench.clock.advance(0.5)
    bench.run_gate.set()
    await held
    await bench.loader.unload(REF)
    await bench.loader.load(wanted())
    assert isinstance(bench.ask(1, seconds=0.1).result(), DeadlineExceeded)


async def test_a_batch_that_ends_after_the_change_teaches_nothing_of_the_new_one(bench: Bench) -> None:
    await bench.loader.load(wanted())
    held = await bench.busy()
    bench.engine.install(wanted(generation=1, precision=Precision.BFLOAT16), warm(Numbered(1, lambda: None)))
    bench.clock.advance(0.5)
    bench.run_gate.set()
    assert await bench.answered_by(held) == {0}
    assert await bench.answered_by(bench.ask(1, seconds=0.1)) == {1}


def warm(runner: Numbered) -> Numbered:
    runner.warm_up()
    return runner


# Unloading


async def test_an_unload_answers_what_waits_refuses_what_comes_and_frees_it(bench: Bench) -> None:
    await bench.loader.load(wanted())
    held = await bench.busy()
    waiting = bench.ask(*range(9))
    began: list[list[Ref]] = []
    unloading = asyncio.create_task(bench.loader.unload(REF, lambda: began.append(bench.engine.loaded)))
    await bench.until(lambda: bool(began))
    assert (began, bench.engine.retiring, bench.engine.since_forward()) == ([[]], [REF], {})
    refused = bench.ask(7).result()
    assert isinstance(refused, NotReady)
    assert refused.reason == "it is being unloaded"
    bench.run_gate.set()
    assert await unloading == FakeRunner.num_bytes
    assert await bench.answered_by(held) == await bench.answered_by(waiting) == {0}
    assert bench.alive_when_freed == [[]]
    gone = bench.ask(7).result()
    assert isinstance(gone, NotReady)
    assert gone.reason == "it is not loaded on this engine"
    for name in ("replicas", "queue_rows", "queue_age_seconds"):
        assert bench.gauge(name) == 0
    assert bench.gauge("resident_bytes", device="cpu") == 0
    assert bench.gauge("unloads_total") == 1


async def test_what_waits_for_a_version_that_is_unloaded_keeps_its_deadline(bench: Bench) -> None:
    await bench.loader.load(wanted())
    held = await bench.busy()
    late = bench.ask(1, seconds=1)
    unloading = asyncio.create_task(bench.loader.unload(REF))
    bench.clock.advance(2)
    bench.run_gate.set()
    assert isinstance(await asyncio.wait_for(late, PATIENCE), DeadlineExceeded)
    await unloading
    await held


async def test_an_unload_does_not_wait_for_rows_that_nobody_wants_any_more(bench: Bench) -> None:
    await bench.loader.load(wanted())
    await bench.busy()
    request = bench.submit(lambda _: None, 1)
    unloading = asyncio.create_task(bench.loader.unload(REF))
    await asyncio.sleep(0)
    bench.engine.cancel(request)
    bench.run_gate.set()
    assert await asyncio.wait_for(unloading, PATIENCE) == FakeRunner.num_bytes


async def test_an_unload_ends_once_nobody_waits_while_another_version_runs(bench: Bench) -> None:
    for ref in (REF, OTHER):
        await bench.loader.load(wanted(ref))
    bench.run_gate.clear()
    held = bench.ask(0, ref=OTHER)
    await bench.until(lambda: bench.num_running > 0)
    request = bench.submit(lambda _: None, 1)
    unloading = asyncio.create_task(bench.loader.unload(REF))
    await asyncio.sleep(0)
    bench.engine.cancel(request)
    bench.run_gate.set()
    assert await asyncio.wait_for(unloading, PATIENCE) == FakeRunner.num_bytes
    await held


async def test_an_unload_waits_for_no_delay_that_rows_are_held_back_for(registry: CollectorRegistry) -> None:
    bench = Bench(registry, BatchPolicy(max_delay=1000.0))
    bench.start()
    await bench.loader.load(wanted())
    asked = bench.ask(1, seconds=1e6)
    await bench.until(lambda: not bench.engine._news.is_set())  # it waits for more
    await asyncio.wait_for(bench.loader.unload(REF), PATIENCE)
    assert await bench.answered_by(asked) == {0}
    await bench.stop()


async def test_a_version_that_is_unloaded_runs_no_canary(bench: Bench) -> None:
    await bench.loader.load(wanted())
    held = await bench.busy()
    bench.clock.advance(CANARY_SECONDS)
    bench.engine.tick()
    unloading = asyncio.create_task(bench.loader.unload(REF))
    await asyncio.sleep(0)
    bench.engine.tick()
    bench.run_gate.set()
    await unloading
    bench.engine.tick()
    await held
    assert bench.num_running == 1
    assert bench.gauge("dropped_rows_total", reason="cancelled") == 0


async def test_what_is_not_loaded_frees_nothing(bench: Bench) -> None:
    assert await bench.loader.unload(REF) == 0
    assert bench.alive_when_freed == []


async def test_an_unload_of_what_is_being_loaded_comes_after_it(bench: Bench) -> None:
    bench.load_gate.clear()
    loading = asyncio.create_task(bench.loader.load(wanted()))
    await bench.until(lambda: bool(bench.events))
    unloading = asyncio.create_task(bench.loader.unload(REF))
    bench.load_gate.set()
    assert (await loading).num_bytes == await unloading == FakeRunner.num_bytes
    assert bench.engine.loaded == []


async def test_a_load_of_what_is_being_unloaded_comes_after_it(bench: Bench) -> None:
    await bench.loader.load(wanted())
    held = await bench.busy()
    unloading = asyncio.create_task(bench.loader.unload(REF))
    loading = asyncio.create_task(bench.loader.load(wanted(generation=1)))
    await bench.until(lambda: bench.engine.retiring == [REF] and bench.loader.loading == [REF])
    assert f"load {REF} 1" not in bench.events
    bench.run_gate.set()
    await unloading
    await loading
    await held
    assert await bench.answered_by(bench.ask(1)) == {1}


async def test_a_version_that_is_being_unloaded_keeps_no_other_from_being_loaded(bench: Bench) -> None:
    await bench.loader.load(wanted())
    held = await bench.busy()
    unloading = asyncio.create_task(bench.loader.unload(REF))
    loading = asyncio.create_task(bench.loader.load(wanted(OTHER)))
    await bench.until(lambda: f"loaded {OTHER} 0" in bench.events)
    assert not unloading.done()
    bench.run_gate.set()
    await asyncio.gather(held, unloading, loading)
    assert bench.engine.loaded == [OTHER]
