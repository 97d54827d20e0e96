"""The supervisor's socket and an http process's end of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.domain import Ref
from service.reconciling.publisher import Publisher
from service.registry.fleet import EngineInfo, Standing, VersionState, View
from service.serving.fleet_client import FleetClient
from service.wire.frames import Frame, Kind
from service.wire.link import Link
from tests.fakes import ManualClock
from tests.patience import PATIENCE

REF = Ref("m", 1)
VIEW = View(
    3,
    (EngineInfo("engine-0", "/engine-0.sock", "cpu"),),
    {REF: Standing(VersionState.ON_DEMAND, "abc", "others need the room", ("engine-0",), 1 << 40, 2)},
)


@asynccontextmanager
async def listening(publisher: Publisher, path: Path) -> AsyncIterator[None]:
    server = await asyncio.get_running_loop().create_unix_server(publisher.connection, str(path))
    async with server:
        yield
    path.unlink(missing_ok=True)
    for link in list(publisher._links):
        link.close()
        await link.lost


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_view_is_known_to_who_comes_and_to_who_is_there(tmp_path: Path) -> None:
    publisher, path = Publisher(lambda _: None), tmp_path / "s.sock"
    publisher.publish(VIEW)
    seen: list[View] = []
    async with listening(publisher, path), FleetClient(path) as fleet:
        fleet.listen(seen.append)
        await until(lambda: fleet.view == VIEW)
        waiting = asyncio.create_task(fleet.changed())
        await asyncio.sleep(0)
        publisher.publish(View(4))
        await asyncio.wait_for(waiting, PATIENCE)
        assert fleet.view == View(4)
    assert seen == [VIEW, View(4)]


async def test_the_same_view_is_not_sent_again(tmp_path: Path) -> None:
    publisher, path = Publisher(lambda _: None), tmp_path / "s.sock"
    seen: list[View] = []
    async with listening(publisher, path), FleetClient(path) as fleet:
        fleet.listen(seen.append)
        await until(lambda: publisher._links)
        for view in (VIEW, VIEW, View(5)):
            publisher.publish(view)
        await until(lambda: fleet.view == View(5))
    assert seen == [VIEW, View(5)]


async def test_before_the_first_view_nothing_is_said(tmp_path: Path) -> None:
    publisher, path = Publisher(lambda _: None), tmp_path / "s.sock"
    seen: list[View] = []
    async with listening(publisher, path), FleetClient(path) as fleet:
        fleet.listen(seen.append)
        await until(lambda: publisher._links)
        publisher.publish(VIEW)
        await until(lambda: seen)
    assert seen == [VIEW]


async def test_a_version_is_wanted_once_in_a_while_however_many_views_come(tmp_path: Path) -> None:
    wanted: list[Ref] = []
    publisher, path, clock = Publisher(wanted.append), tmp_path / "s.sock", ManualClock()
    publisher.publish(VIEW)
    async with listening(publisher, path), FleetClient(path, clock) as fleet:
        await until(lambda: fleet.view == VIEW)
        for ref in (REF, REF, Ref("m", 2), REF):
            fleet.want(ref)
        await until(lambda: len(wanted) == 2)
        publisher.publish(View(4))
        await until(lambda: fleet.view == View(4))
        fleet.want(REF)
        clock.advance(1)
        fleet.want(REF)
        fleet.want(Ref("m", 3))
        await until(lambda: len(wanted) == 4)
    assert wanted == [REF, Ref("m", 2), REF, Ref("m", 3)]


async def test_views_that_follow_one_another_quickly_are_sent_together(tmp_path: Path) -> None:
    publisher, path = Publisher(lambda _: None), tmp_path / "s.sock"
    seen: list[View] = []
    async with listening(publisher, path), FleetClient(path) as fleet:
        fleet.listen(seen.append)
        await until(lambda: publisher._links)
        for number in range(1, 50):
            publisher.publish(View(number))
        await until(lambda: fleet.view == View(49))
    assert seen == [View(1), View(49)]


async def test_without_a_supervisor_the_last_view_holds_and_its_successor_is_found(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    first, second = Publisher(lambda _: None), Publisher(lambda _: None)
    first.publish(VIEW)
    second.publish(View(9))
    async with FleetClient(path) as fleet:
        fleet.want(REF)
        async with listening(first, path):
            await until(lambda: fleet.view == VIEW)
        assert fleet.view == VIEW
        async with listening(second, path):
            await until(lambda: fleet.view == View(9))


async def test_who_sends_something_else_is_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    publisher, path = Publisher(lambda _: None), tmp_path / "s.sock"
    async with listening(publisher, path):
        loop = asyncio.get_running_loop()
        _, link = await loop.create_unix_connection(lambda: Link(lambda _: None), str(path))
        link.send(Frame(Kind.VIEW))
        await asyncio.wait_for(link.lost, PATIENCE)
    assert "broke the contract" in caplog.text
