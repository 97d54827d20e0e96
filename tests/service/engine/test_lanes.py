import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator

import pytest

from service.engine.lanes import Lanes
from service.engine.threads import device_thread
from tests.patience import PATIENCE


class Bench:
    """Lanes, and runs that end when they are let go."""

    def __init__(self, width: int) -> None:
        self.freed = 0
        self.ended: list[str] = []
        self.lanes = Lanes(width, device_thread, self._count)
        self._gates: list[threading.Event] = []

    def _count(self) -> None:
        self.freed += 1

    def run(self, name: str, width: int = 1) -> tuple[asyncio.Task[int], threading.Event]:
        """A run that has begun, and what lets it end; it returns its lane."""
        gate, do = self._gate(name)
        running = self.lanes.run(width, do)

        async def until_ended() -> int:
            return await running

        return asyncio.create_task(until_ended()), gate

    def run_alone(self, name: str) -> tuple[asyncio.Task[int], threading.Event]:
        gate, do = self._gate(name)
        return asyncio.create_task(self.lanes.run_alone(do)), gate

    def _gate(self, name: str) -> "tuple[threading.Event, Do]":
        gate = threading.Event()
        self._gates.append(gate)
        return gate, Do(name, gate, self.ended)

    def open_all(self) -> None:
        for gate in self._gates:
            gate.set()


class Do:
    def __init__(self, name: str, gate: threading.Event, ended: list[str]) -> None:
        self._name, self._gate, self._ended = name, gate, ended

    def __call__(self, lane: int) -> int:
        assert self._gate.wait(PATIENCE)
        self._ended.append(self._name)
        return lane


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(width=4)
    yield bench
    bench.open_all()


async def test_runs_are_side_by_side_in_lanes_of_their_own(bench: Bench) -> None:
    first, first_may_end = bench.run("first")
    second, second_may_end = bench.run("second", width=2)
    assert bench.lanes.room == 1
    second_may_end.set()
    assert await second == 1
    assert (bench.lanes.room, bench.freed) == (3, 1)
    first_may_end.set()
    assert await first == 0
    assert bench.lanes.room == 4


async def test_a_lane_that_is_free_again_is_taken_before_another_is_made(bench: Bench) -> None:
    for _ in range(3):
        run, may_end = bench.run("short")
        may_end.set()
        assert await run == 0


async def test_there_is_no_place_for_what_is_wider_than_the_room(bench: Bench) -> None:
    bench.run("first", width=3)
    with pytest.raises(AssertionError, match="2 threads are wanted, there is room for 1"):
        bench.lanes.run(2, lambda _: None)
    with pytest.raises(AssertionError, match="0 threads are wanted"):
        bench.lanes.run(0, lambda _: None)


async def test_what_runs_alone_waits_for_what_runs_and_lets_nothing_begin(bench: Bench) -> None:
    first, first_may_end = bench.run("first")
    alone, alone_may_end = bench.run_alone("alone")
    alone_may_end.set()
    await asyncio.sleep(0)
    assert bench.lanes.room == 0
    assert bench.ended == []
    first_may_end.set()
    await asyncio.gather(first, alone)
    assert bench.ended == ["first", "alone"]
    assert bench.lanes.room == 4


async def test_what_runs_alone_waits_for_all_that_run(bench: Bench) -> None:
    first, first_may_end = bench.run("first")
    second, second_may_end = bench.run("second")
    alone, alone_may_end = bench.run_alone("alone")
    alone_may_end.set()
    first_may_end.set()
    await first
    second_may_end.set()
    await asyncio.gather(second, alone)
    assert bench.ended == ["first", "second", "alone"]


async def test_who_lets_pass_waits_for_all_that_run_now_and_not_for_what_begins_meanwhile(bench: Bench) -> None:
    (first, first_may_end), *others = [bench.run("held") for _ in range(3)]
    passed = asyncio.create_task(bench.lanes.let_pass())
    first_may_end.set()
    await first
    later, later_may_end = bench.run("later")
    later_may_end.set()
    await later
    assert not passed.done()
    bench.run("still there")
    for _, may_end in others:
        may_end.set()
    await asyncio.wait_for(passed, PATIENCE)


async def test_of_two_that_run_alone_one_waits_for_the_other(bench: Bench) -> None:
    first, first_may_end = bench.run_alone("first")
    second, second_may_end = bench.run_alone("second")
    second_may_end.set()
    await asyncio.sleep(0)
    assert bench.ended == []
    first_may_end.set()
    await asyncio.gather(first, second)
    assert bench.ended == ["first", "second"]


async def test_a_run_that_fails_leaves_its_lane_and_holds_nothing(bench: Bench) -> None:
    class Network:
        def __call__(self, _: int) -> None:
            raise RuntimeError("broken")

    network = Network()
    gone = weakref.ref(network)
    gc.disable()
    try:
        with pytest.raises(RuntimeError, match="broken"):
            await bench.lanes.run_alone(network)
        del network
        # A thread holds what it ran until it runs something else.
        assert await bench.lanes.run(1, lambda lane: lane) == 0
        assert gone() is None
    finally:
        gc.enable()
    assert bench.lanes.room == 4


async def test_what_runs_here_has_a_lane_of_its_own_and_all_threads(bench: Bench) -> None:
    seen: list[tuple[int, int, bool]] = []

    def do(lane: int) -> str:
        seen.append((lane, bench.lanes.room, threading.current_thread() is threading.main_thread()))
        return "done"

    assert bench.lanes.run_here(do) == "done"
    assert seen == [(0, 0, True)]
    assert (bench.lanes.room, bench.freed) == (4, 1)
    running, may_end = bench.run("first")
    with pytest.raises(AssertionError, match="1 threads are taken"):
        bench.lanes.run_here(do)
    may_end.set()
    assert await running == 0


async def test_what_fails_here_gives_its_threads_back(bench: Bench) -> None:
    def fail(_: int) -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        bench.lanes.run_here(fail)
    assert (bench.lanes.room, bench.freed) == (4, 1)
