"""How slots are kept occupied, whatever goes wrong; processes are stand-ins that end when a test says so."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

import service.supervision.process_tree
from service.process.lifetime import EXIT_MISCONFIGURED
from service.supervision.process_tree import UNWATCHED, Child, ProcessTree
from service.telemetry.instruments import MULTIPROCESS_DIR, SupervisorTelemetry
from service.watch.evidence import Cause
from tests.fakes import sample
from tests.patience import PATIENCE


class FakeProcess:
    def __init__(self, slot: str, stdin: int) -> None:
        self.slot = slot
        self.stdin = socket.socket(fileno=os.dup(stdin))
        self.pid = 0
        self.is_told_to_stop = False
        self.code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        return await asyncio.shield(self.code)

    def end(self, code: int) -> None:
        self.stdin.close()
        self.code.set_result(code)

    def terminate(self) -> None:
        self.is_told_to_stop = True
        self.end(0)

    kill = terminate


class FakeKeeper:
    """Fails where it is told to."""

    def __init__(self) -> None:
        self.fails: dict[str, int] = {}
        self.watched: list[int] = []

    def begin(self) -> list[str]:
        self._may_fail("begin")
        return []

    def end(self, _: int) -> Cause:
        self._may_fail("end")
        return Cause.OUTSIDE

    async def watch(self, process: Any) -> None:
        self.watched.append(process.pid)
        self._may_fail("watch")
        await asyncio.Event().wait()

    def _may_fail(self, what: str) -> None:
        if self.fails.get(what):
            self.fails[what] -= 1
            raise OSError(what)


class World:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.given_up: list[str] = []
        self.processes: list[FakeProcess] = []
        self.failing_forks = 0
        self.tree = ProcessTree(SupervisorTelemetry(registry), self.given_up.append)
        self.keeper = FakeKeeper()

    async def start(self, *command: str, stdin: int, **_: Any) -> FakeProcess:
        if self.failing_forks:
            self.failing_forks -= 1
            raise BlockingIOError(11, "Resource temporarily unavailable")
        self.processes.append(FakeProcess(command[command.index("--slot") + 1], stdin))
        return self.processes[-1]

    def keep(
        self, slot: str = "a", *, keeper: Any = UNWATCHED, stops_in_order: bool = False, patience: float = PATIENCE
    ) -> None:
        self.tree.keep(Child(slot, "none", (), (), {}, patience, keeper, stops_in_order))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.001)


@pytest.fixture
def world(registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    world = World(registry)
    monkeypatch.setenv(MULTIPROCESS_DIR, str(tmp_path))
    monkeypatch.setattr(asyncio, "create_subprocess_exec", world.start)
    monkeypatch.setattr(service.supervision.process_tree, "_FIRST_DELAY", 0.001)
    monkeypatch.setattr(service.supervision.process_tree, "_WATCH_AGAIN_SECONDS", 0.001)
    yield world
    for process in world.processes:
        process.stdin.close()


async def test_a_process_that_ends_is_started_again(
    world: World, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.tree:
        world.keep()
        await world.until(lambda: world.processes)
        world.processes[0].end(-9)
        await world.until(lambda: len(world.processes) == 2)
    labels = {"slot": "a", "cause": "outside"}
    assert sample(registry, "servoloop_process_restarts_total", labels) == 1
    assert world.processes[1].is_told_to_stop
    [said] = caplog.records
    assert (said.__dict__["slot"], said.__dict__["cause"]) == ("a", "outside")


async def test_a_process_that_cannot_be_started_now_is_started_later(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.failing_forks = 3
    async with world.tree:
        world.keep()
        await world.until(lambda: world.processes)
    assert caplog.text.count("could not be started") == 3


@pytest.mark.parametrize("what", ["begin", "end"])
async def test_a_keeper_that_fails_costs_no_slot(world: World, caplog: pytest.LogCaptureFixture, what: str) -> None:
    world.keeper.fails = {what: 1}
    async with world.tree:
        world.keep(keeper=world.keeper)
        await world.until(lambda: world.processes)
        world.processes[0].end(1)
        await world.until(lambda: len(world.processes) == 2)
    assert f"OSError: {what}" in caplog.text


async def test_gauges_that_cannot_be_taken_back_cost_no_slot(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise OSError

    monkeypatch.setattr(service.supervision.process_tree, "forget_gauges", fail)
    async with world.tree:
        world.keep()
        await world.until(lambda: world.processes)
        world.processes[0].end(1)
        await world.until(lambda: len(world.processes) == 2)


async def test_watching_that_fails_is_begun_again(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.keeper.fails = {"watch": 2}
    async with world.tree:
        world.keep(keeper=world.keeper)
        await world.until(lambda: len(world.keeper.watched) == 3)
    assert caplog.text.count("is begun again") == 2


async def test_at_the_end_all_are_waited_for_whatever_becomes_of_one(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)

    def fail() -> None:
        raise PermissionError

    async with world.tree:
        for slot in ("first", "second"):
            world.keep(slot)
        await world.until(lambda: len(world.processes) == 2)
        world.processes[0].terminate = fail  # type: ignore[method-assign]
    assert world.processes[1].is_told_to_stop
    assert "could not be stopped in order" in caplog.text


async def test_a_process_is_asked_to_stop_once_it_can(world: World) -> None:
    async with world.tree:
        world.keep(stops_in_order=True)
        await world.until(lambda: world.processes)
        (process,) = world.processes
        leaving = asyncio.create_task(world.tree.__aexit__())
        await asyncio.sleep(0.01)
        assert not process.is_told_to_stop
        process.stdin.send(b".")
        await leaving
        assert process.is_told_to_stop


async def test_a_process_that_ends_before_it_can_stop_is_not_waited_for(world: World) -> None:
    async with world.tree:
        world.keep(stops_in_order=True)
        await world.until(lambda: world.processes)
        asyncio.get_running_loop().call_later(0.01, world.processes[0].end, 1)
    assert len(world.processes) == 1


async def test_a_process_that_never_can_stop_is_killed_in_the_end(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.tree:
        world.keep(stops_in_order=True, patience=0.01)
        await world.until(lambda: world.processes)
    assert "did not stop in time and is killed" in caplog.text


async def test_a_process_that_is_misconfigured_is_given_up(world: World) -> None:
    async with world.tree:
        world.keep()
        await world.until(lambda: world.processes)
        world.processes[0].end(EXIT_MISCONFIGURED)
        await world.until(lambda: world.given_up)
    assert (world.given_up, len(world.processes)) == (["a"], 1)
