"""When a process that shows nothing but a heartbeat is ended; the clock is by hand, the process is a real one."""

import asyncio
import math
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.watch.beat_keeper import BeatKeeper
from service.watch.evidence import Cause
from service.watch.heartbeat import Heartbeat
from service.watch.watchdog import TICK_SECONDS
from tests.fakes import ManualClock
from tests.patience import PATIENCE

SILENT_SECONDS = 15.0


class World:
    """Time passes while the keeper sleeps; the process beats until it falls silent."""

    def __init__(self, path: Path) -> None:
        self.clock = ManualClock(now=1000.0)
        self.keeper = BeatKeeper("loop", path / "loop.beat", SILENT_SECONDS, clock=self.clock, sleep=self.sleep)
        self.first_beat = self.falls_silent = self.clock()
        self.ends = self.clock() + 1000.0
        self.hours_of_standstill = 0

    async def sleep(self, seconds: float) -> None:
        stood_still = self.hours_of_standstill > 0
        if stood_still:
            self.hours_of_standstill -= 1
            seconds = 3600.0
        self.clock.advance(seconds)
        # After a standstill it is the keeper that wakes first.
        if self.first_beat <= self.clock() < self.falls_silent and not stood_still:
            self.heartbeat.beat(self.clock())
        if self.clock() >= self.ends:
            raise asyncio.CancelledError

    async def watch(self, process: asyncio.subprocess.Process) -> float:
        """Until it is killed; after how many seconds."""
        began = self.clock()
        option, path = self.keeper.begin()
        assert option == "--heartbeat"
        with Heartbeat.open(Path(path)) as self.heartbeat:
            await self.keeper.watch(process)
        return self.clock() - began


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
async def process() -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    yield process
    if process.returncode is None:
        process.kill()
        await process.wait()


async def test_a_process_that_falls_silent_is_killed_even_where_it_is_stopped(
    world: World, process: asyncio.subprocess.Process, caplog: pytest.LogCaptureFixture
) -> None:
    process.send_signal(signal.SIGSTOP)
    world.falls_silent += 100.0
    assert await world.watch(process) == pytest.approx(100 + SILENT_SECONDS, abs=3 * TICK_SECONDS)
    assert await asyncio.wait_for(process.wait(), PATIENCE) == -signal.SIGKILL
    assert world.keeper.end(-signal.SIGKILL) is Cause.SILENT
    [said] = caplog.records
    assert (said.getMessage(), said.__dict__["slot"]) == ("a process is silent and is killed", "loop")


async def test_a_process_that_beats_lives(world: World, process: asyncio.subprocess.Process) -> None:
    world.falls_silent = math.inf
    world.ends = world.clock() + 3600
    with pytest.raises(asyncio.CancelledError):
        await world.watch(process)
    assert process.returncode is None
    assert world.keeper.end(-signal.SIGKILL) is Cause.OUTSIDE


async def test_a_process_may_take_longer_until_it_beats_for_the_first_time(
    world: World, process: asyncio.subprocess.Process
) -> None:
    world.first_beat += 119.0
    world.falls_silent += 200.0
    assert await world.watch(process) == pytest.approx(200 + SILENT_SECONDS, abs=3 * TICK_SECONDS)


async def test_a_process_that_never_beats_is_killed(world: World, process: asyncio.subprocess.Process) -> None:
    assert await world.watch(process) == pytest.approx(120, abs=1)


async def test_where_the_whole_machine_stood_still_nobody_is_accused(
    world: World, process: asyncio.subprocess.Process
) -> None:
    world.falls_silent = math.inf
    world.hours_of_standstill = 3
    world.ends = world.clock() + 4 * 3600
    with pytest.raises(asyncio.CancelledError):
        await world.watch(process)
    assert process.returncode is None


async def test_the_next_process_is_judged_by_its_own_beats_and_its_own_end(
    world: World, process: asyncio.subprocess.Process
) -> None:
    world.falls_silent += 10.0
    await world.watch(process)
    assert world.keeper.end(await process.wait()) is Cause.SILENT
    _, path = world.keeper.begin()
    with Heartbeat.open(Path(path)) as heartbeat:
        assert heartbeat.last == 0
    assert world.keeper.end(3) is Cause.CRASH
