"""Versions come and go while requests run: in order, one load at a time, and each request is answered once."""

import asyncio
import itertools
import logging
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from models.manifest import BrokenCheckpoint
from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import BatchPolicy, Deadline, Precision, Ref
from service.engine.core import CANARY_SECONDS, Engine
from service.engine.devices import loader_thread
from service.engine.failures import DeviceLost
from service.engine.jobs import Answer
from service.engine.loading import Loader, LoadFailed
from service.engine.wanted import Fill, Wanted
from service.errors import DeadlineExceeded, NotReady, ServoloopError
from service.telemetry import EngineTelemetry
from service.watch.blackbox import Doing, Running
from tests.fakes import FakeRunner, ManualClock, sample

REF, OTHER = Ref("m", 1), Ref("n", 1)
LABELS = {"model": "m", "version": "1"}
PATIENCE = 10.0
Result = Answer | ServoloopError


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

    def __init__(self, registry: CollectorRegistry, policy: BatchPolicy | None = None) -> None:
        self.registry = registry
        self.clock = ManualClock()
        self.load_gate, self.run_gate = threading.Event(), threading.Event()
        self.load_gate.set()
        self.run_gate.set()
        self.events: list[str] = []
        self.shown: list[Running | None] = []
        self.fails: dict[int, Exception] = {}
        self.fails_warm: dict[int, Exception] = {}
        self.runners: list[weakref.ref[Numbered]] = []
        self.alive_when_freed: list[list[int]] = []
        self.num_running = 0
        telemetry = EngineTelemetry(registry)
        self.engine = Engine(policy or BatchPolicy(max_rows=4), telemetry, self.clock, self.shown.append)
        self.loader = Loader(self.engine, self._load, telemetry, free=self._free, clock=self.clock)
        self._task: asyncio.Task[None] | None = None

    def _load(self, order: Wanted) -> Numbered:
        self.events.append(f"load {order.ref} {order.generation}")
        self.load_gate.wait(PATIENCE)
        if (error := self.fails.get(order.generation)) is not None:
            raise anew(error)
        runner = Numbered(order.generation, self._before_batch)
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
        self.engine.submit(ref, rows(*values), Deadline.after(seconds, now=self.clock()), future.set_result)
        return future

    async def answered_by(self, asked: asyncio.Future[Result]) -> set[int]:
        """The generations that answered a request's rows."""
        answer = await asyncio.wait_for(asked, PATIENCE)
        assert isinstance(answer, Answer), answer
        return set(answer.outputs[:, 1].astype(int).tolist())

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


@pytest.fixture
async def bench(registry: CollectorRegistry) -> AsyncIterator[Bench]:
    bench = Bench(registry)
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


async def test_only_the_warm_up_is_shown_as_what_the_device_does(bench: Bench) -> None:
    bench.load_gate.clear()
    loading = asyncio.create_task(bench.loader.load(wanted()))
    await bench.until(lambda: bool(bench.events))
    assert bench.shown == []
    bench.load_gate.set()
    await loading
    assert bench.shown == [Running(Doing.LOAD, REF, bench.clock()), None]


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


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="niceness of a thread is Linux's")
def test_the_loaders_thread_takes_one_core_and_leaves_it_to_others() -> None:
    main = torch.get_num_threads(), os.getpriority(os.PRIO_PROCESS, 0)
    with loader_thread() as loader:

        def look() -> tuple[int, int]:
            return torch.get_num_threads(), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

        assert loader.submit(look).result() == (1, 10)
    assert (torch.get_num_threads(), os.getpriority(os.PRIO_PROCESS, 0)) == main


def test_the_device_computes_with_all_threads_also_when_the_loader_came_first(registry: CollectorRegistry) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with loader_thread() as loader:
            loader.submit(int).result()
            engine = Engine(BatchPolicy(), EngineTelemetry(registry))
            assert engine._device.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)


# Failures


@pytest.mark.parametrize("where", ["fails", "fails_warm"])
async def test_a_load_that_fails_says_why_and_keeps_nothing(bench: Bench, where: str) -> None:
    getattr(bench, where)[0] = BrokenCheckpoint("no weights")
    with pytest.raises(LoadFailed, match="no weights") as raised:
        await bench.loader.load(wanted())
    assert not raised.value.still_answers
    assert bench.engine.loaded == []
    assert bench.alive_when_freed == [[]]
    assert bench.shown[-1:] in ([], [None])
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
    if where == "fails_warm":
        assert bench.shown == [Running(Doing.LOAD, REF, bench.clock())]  # what it was lost of


async def test_a_lost_device_runs_no_batch_that_would_be_taken_for_the_cause(bench: Bench) -> None:
    await bench.loader.load(wanted(OTHER))
    held = asyncio.create_task(bench.loader.load(wanted()))
    bench.fails_warm[0] = DeviceLost()
    asked = bench.ask(1, ref=OTHER)
    with pytest.raises(DeviceLost):
        await held
    shown = [running.ref for running in bench.shown if running is not None and running.doing is Doing.BATCH]
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
    assert await bench.answered_by(waiting) == {0, 1}
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
    assert bench.engine.since_asked() == {REF: 5}
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
    assert bench.engine.since_asked() == {REF: CANARY_SECONDS}


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
    request = bench.engine.submit(REF, rows(1), Deadline(1e9), lambda _: None)
    assert request is not None
    unloading = asyncio.create_task(bench.loader.unload(REF))
    await asyncio.sleep(0)
    bench.engine.cancel(REF, request)
    bench.run_gate.set()
    assert await asyncio.wait_for(unloading, PATIENCE) == FakeRunner.num_bytes


async def test_an_unload_waits_for_no_delay_that_rows_are_held_back_for(registry: CollectorRegistry) -> None:
    bench = Bench(registry, BatchPolicy(max_delay=5.0))
    bench.start()
    await bench.loader.load(wanted())
    asked = bench.ask(1)
    await bench.loader.unload(REF)
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


# Any order


step = st.one_of(
    st.tuples(st.just("load"), st.integers(0, 3)),
    st.tuples(st.just("unload"), st.just(0)),
    st.tuples(st.just("ask"), st.integers(1, 60)),
    st.tuples(st.just("cancel"), st.integers(1, 9)),
    st.tuples(st.just("turns"), st.integers(1, 30)),
    st.tuples(st.just("settle"), st.just(0)),
)


@settings(max_examples=60)
@given(st.lists(st.tuples(step, st.sampled_from([REF, OTHER])), min_size=1, max_size=40))
def test_in_any_order_each_request_is_answered_once_by_a_replica_of_its_time(
    steps: list[tuple[tuple[str, int], Ref]],
) -> None:
    asyncio.run(_carry_out(steps))


async def _carry_out(steps: Sequence[tuple[tuple[str, int], Ref]]) -> None:
    bench = Bench(CollectorRegistry())
    present: dict[Ref, list[tuple[int, float, float]]] = {REF: [], OTHER: []}
    moments = itertools.count()
    _remember_who_was_there(bench.engine, present, moments)
    bench.start()
    orders: dict[Ref, list[tuple[str, int]]] = {REF: [], OTHER: []}
    tasks: list[asyncio.Task[object]] = []
    open_requests: list[tuple[Ref, int, int, list[tuple[int, Result]]]] = []
    cancelled: list[list[tuple[int, Result]]] = []
    for (what, number), ref in steps:
        match what:
            case "load":
                tasks.append(asyncio.create_task(bench.loader.load(wanted(ref, number))))
                orders[ref].append((what, number))
            case "unload":
                tasks.append(asyncio.create_task(bench.loader.unload(ref)))
                orders[ref].append((what, number))
            case "ask" | "cancel":
                answers: list[tuple[int, Result]] = []

                def reply(result: Result, answers: list[tuple[int, Result]] = answers) -> None:
                    answers.append((next(moments), result))

                asked = next(moments)
                request = bench.engine.submit(ref, rows(*range(number)), Deadline(1e9), reply)
                if what == "cancel" and request is not None:
                    bench.engine.cancel(ref, request)
                    cancelled.append(answers)
                else:
                    open_requests.append((ref, number, asked, answers))
            case "turns":
                for _ in range(number):
                    await asyncio.sleep(0)
            case "settle":
                await asyncio.gather(*tasks)
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*tasks)
        while any(not answers for *_, answers in open_requests):
            await asyncio.sleep(0)
    await bench.stop()
    assert cancelled == [[] for _ in cancelled]
    for ref, num_rows, asked, answers in open_requests:
        ((at, result),) = answers
        if isinstance(result, NotReady):
            continue
        assert isinstance(result, Answer)
        assert result.outputs[:, 0].tolist() == list(range(num_rows))
        of_its_time = {generation for generation, since, until in present[ref] if since < at and until > asked}
        assert set(result.outputs[:, 1].astype(int)) <= of_its_time
    for ref, given_orders in orders.items():
        last = given_orders[-1] if given_orders else ("unload", 0)
        resident = bench.engine.residents.get(ref)
        assert (resident is not None) == (last[0] == "load")
        assert resident is None or resident.wanted.generation == last[1]
    generations = sorted(resident.wanted.generation for resident in bench.engine.residents.values())
    del resident
    assert sorted(bench.alive) == generations


def _remember_who_was_there(
    engine: Engine, present: dict[Ref, list[tuple[int, float, float]]], moments: "itertools.count[int]"
) -> None:
    """Keep for each version which generation was loaded from when to when."""
    install, drain = engine.install, engine.drain

    def end(ref: Ref) -> None:
        if present[ref] and present[ref][-1][2] == float("inf"):
            # A batch that began on it may end a little later: it was there when its rows were taken.
            generation, since, _ = present[ref][-1]
            present[ref][-1] = (generation, since, next(moments))

    def install_and_remember(order: Wanted, runner: Numbered) -> object:
        end(order.ref)
        present[order.ref].append((order.generation, next(moments), float("inf")))
        return install(order, runner)

    async def drain_and_remember(ref: Ref) -> object:
        resident = await drain(ref)
        end(ref)
        return resident

    engine.install = install_and_remember  # type: ignore[method-assign,assignment]
    engine.drain = drain_and_remember  # type: ignore[method-assign,assignment]
