import asyncio

import pytest

from service.serving.lateness import Lateness
from tests.fakes import ManualClock
from tests.patience import PATIENCE

HOUR = 3600.0


class Looks:
    """Counts the looks at what is late."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self._looks: asyncio.Queue[None] = asyncio.Queue()
        self.lateness = Lateness(lambda: self._looks.put_nowait(None), self.clock)

    async def next(self) -> None:
        await asyncio.wait_for(self._looks.get(), PATIENCE)

    async def until_now(self) -> int:
        """How many more there were until what was due is done."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        loop.call_later(0.0, done.set_result, None)
        await done
        return self._looks.qsize()


@pytest.fixture
async def looks() -> Looks:
    return Looks()


async def test_the_earliest_instant_has_a_look_whatever_their_order(looks: Looks) -> None:
    looks.lateness.watch(looks.clock() + HOUR)
    looks.lateness.watch(looks.clock())
    looks.lateness.watch(looks.clock() + HOUR)
    await looks.next()
    assert await looks.until_now() == 0


async def test_after_a_look_what_is_left_has_another_one(looks: Looks) -> None:
    for _ in range(2):
        looks.lateness.watch(looks.clock())
        await looks.next()


async def test_instants_are_those_of_its_clock(looks: Looks) -> None:
    instant = looks.clock() + HOUR
    looks.lateness.watch(instant)
    assert await looks.until_now() == 0
    looks.lateness.stop()
    looks.clock.advance(HOUR)
    looks.lateness.watch(instant)
    await looks.next()


async def test_what_is_stopped_has_no_look_until_it_is_told_of_another_instant(looks: Looks) -> None:
    looks.lateness.stop()
    looks.lateness.watch(looks.clock())
    looks.lateness.stop()
    assert await looks.until_now() == 0
    looks.lateness.watch(looks.clock())
    await looks.next()
