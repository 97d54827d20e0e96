"""Several engines as one, with the supervisor's view of them; sockets are real, engines do what a test says."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.preprocess import Tensors
from service.domain import Deadline, Ref
from service.errors import NotReady, QueueFull, ServoloopError
from service.reconciling.publisher import Publisher
from service.registry.fleet import EngineInfo, Standing, VersionState, View
from service.serving.admission import PendingBounds
from service.serving.engine_client import EngineClient
from service.serving.engine_pool import EnginePool
from service.serving.fleet_client import FleetClient
from service.telemetry.instruments import HttpTelemetry
from service.watch.history import History
from service.wire.frames import Frame, Kind
from service.wire.inference import Outputs
from service.wire.statistics import Statistics, counted_frame
from tests.fakes import sample
from tests.patience import PATIENCE
from tests.service.serving.fake_engine import FakeEngine

REF, OTHER = Ref("m", 1), Ref("m", 2)
ROWS = Tensors(np.array([[1.0], [2.0]], np.float32))


class World:
    """A supervisor that publishes what a test says, two engines, and the pool between them."""

    def __init__(self, folder: Path) -> None:
        self.wanted: list[Ref] = []
        self.publisher = Publisher(self.wanted.append)
        self.engines = [FakeEngine(folder / f"engine-{number}.sock") for number in range(2)]
        self.supervisor = folder / "supervisor.sock"
        self._server: asyncio.Server | None = None
        self.pool: EnginePool
        self.fleet: FleetClient

    async def open(self, telemetry: HttpTelemetry) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self.publisher.connection, str(self.supervisor))
        self.fleet = FleetClient(self.supervisor)

        def connect(info: EngineInfo, tell: Callable[[], None]) -> EngineClient:
            return EngineClient(Path(info.socket), telemetry, max_pending_rows=8, tell=tell)

        self.pool = EnginePool(connect, self.fleet, PendingBounds(4, 1 << 20))

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for engine in self.engines:
            if engine._server is not None:
                await engine.die()

    def publish(self, state: VersionState, reason: str | None = None, *, engines: int = 2) -> None:
        infos = tuple(EngineInfo(e.path.stem, str(e.path)) for e in self.engines[:engines])
        self.publisher.publish(View(1, infos, {REF: Standing(state, "", reason)}))

    def ask(self, rows: Tensors = ROWS, *, seconds: float = PATIENCE) -> asyncio.Task[Outputs]:
        return asyncio.create_task(self.pool.infer(REF, rows, Deadline.after(seconds, now=time.monotonic())))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.001)


@pytest.fixture
async def world(tmp_path: Path, registry: CollectorRegistry) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.open(HttpTelemetry(registry))
    async with world.fleet, world.pool:
        yield world
    await world.close()


async def fails(asked: asyncio.Task[Outputs]) -> ServoloopError:
    with pytest.raises(ServoloopError) as raised:
        await asyncio.wait_for(asked, PATIENCE)
    return raised.value


async def test_a_request_goes_to_the_engine_that_has_the_version(world: World) -> None:
    await world.engines[0].start(OTHER)
    await world.engines[1].start(REF)
    world.publish(VersionState.LOADED)
    asked = world.ask()
    world.engines[1].answer(await world.engines[1].asked())
    assert (await asked).values.tolist() == [[10], [20]]
    assert world.engines[0].frames.empty()


async def test_of_two_engines_the_one_that_owes_less_is_asked(world: World) -> None:
    for engine in world.engines:
        await engine.start(REF)
    world.publish(VersionState.LOADED)
    await world.until(lambda: [client.why_unready(REF) for client in world.pool._clients.values()] == [None, None])
    first = world.ask()
    busy = await world.engines[0].asked()
    second, third = world.ask(), world.ask()
    quick = await world.engines[1].asked()
    world.engines[1].answer(quick)
    await asyncio.wait({second, third}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    # Two requests wait at one engine, none at the other.
    fourth = world.ask()
    world.engines[1].answer(await world.engines[1].asked())
    world.engines[0].answer(busy)
    world.engines[0].answer(await world.engines[0].asked())
    for asked in (first, second, third, fourth):
        assert (await asked).values.tolist() == [[10], [20]]


async def test_a_version_on_demand_is_asked_for_and_waited_for(world: World) -> None:
    await world.engines[0].start()
    world.publish(VersionState.ON_DEMAND)
    asked = [world.ask(), world.ask()]
    await world.until(lambda: world.wanted)
    world.publish(VersionState.LOADING)
    await world.until(lambda: world.engines[0]._links)
    world.engines[0].say(REF)
    for _ in asked:
        world.engines[0].answer(await world.engines[0].asked())
    for one in asked:
        assert (await one).values.tolist() == [[10], [20]]
    assert world.wanted == [REF], "it is asked for once"


@pytest.mark.parametrize("state", [VersionState.NO_ROOM, VersionState.FAILED, VersionState.UNLOADED])
async def test_where_waiting_would_not_help_the_reason_is_said_at_once(world: World, state: VersionState) -> None:
    await world.engines[0].start()
    world.publish(state, "the dog ate it")
    error = await fails(world.ask(seconds=1000))
    assert isinstance(error, NotReady)
    assert error.reason == "the dog ate it"
    assert not world.wanted


async def test_who_waits_hears_that_there_is_no_room(world: World) -> None:
    await world.engines[0].start()
    world.publish(VersionState.ON_DEMAND)
    asked = world.ask(seconds=1000)
    await world.until(lambda: world.wanted)
    world.publish(VersionState.NO_ROOM, "it is too large")
    error = await fails(asked)
    assert isinstance(error, NotReady)
    assert error.reason == "it is too large"


async def test_rows_that_met_an_unloaded_version_wait_until_it_is_loaded_again(world: World) -> None:
    engine = world.engines[0]
    await engine.start(REF)
    world.publish(VersionState.LOADED, engines=1)
    asked = world.ask()
    request = await engine.asked()
    engine.say()
    engine.send(Frame(Kind.FAILED, request.request_id, meta={"error": "not_ready", "reason": "it is being unloaded"}))
    world.publish(VersionState.ON_DEMAND, engines=1)
    await world.until(lambda: world.wanted)
    engine.say(REF)
    engine.answer(await engine.asked())
    assert (await asked).values.tolist() == [[10], [20]]


async def test_an_engine_that_contradicts_itself_is_not_asked_for_ever(world: World) -> None:
    engine = world.engines[0]
    await engine.start(REF)
    world.publish(VersionState.LOADED, engines=1)
    asked = world.ask()
    for _ in range(10):
        request = await engine.asked()
        engine.send(Frame(Kind.FAILED, request.request_id, meta={"error": "not_ready", "reason": "no"}))
    error = await fails(asked)
    assert isinstance(error, NotReady)
    assert "again and again" in error.reason


async def test_rows_that_met_a_version_between_unload_and_load_are_computed(world: World) -> None:
    engine = world.engines[0]
    await engine.start(REF)
    world.publish(VersionState.LOADED, engines=1)
    asked = world.ask()
    request = await engine.asked()
    # All at once, as a busy process hears it: gone, refused, there again.
    engine.say()
    engine.send(Frame(Kind.FAILED, request.request_id, meta={"error": "not_ready", "reason": "it is being unloaded"}))
    engine.say(REF)
    engine.answer(await engine.asked())
    assert (await asked).values.tolist() == [[10], [20]]


async def test_what_a_dead_engine_held_is_asked_for_where_its_successor_leaves_it_out(world: World) -> None:
    engine = world.engines[0]
    await engine.start(REF)
    world.publish(VersionState.LOADED, engines=1)
    asked = world.ask()
    await engine.asked()
    await engine.die()
    await engine.start()
    world.publish(VersionState.ON_DEMAND, engines=1)
    await world.until(lambda: world.wanted)
    await world.until(lambda: engine._links)
    engine.say(REF)
    engine.answer(await engine.asked())
    assert (await asked).values.tolist() == [[10], [20]]


async def test_a_version_that_does_not_come_in_time_is_not_ready(world: World) -> None:
    await world.engines[0].start()
    world.publish(VersionState.LOADING, "it is read from a slow disk")
    await world.until(lambda: REF in world.fleet.view.versions)
    error = await fails(world.ask(seconds=0.05))
    assert isinstance(error, NotReady)
    assert error.reason == "it is read from a slow disk"


async def test_without_any_engine_a_request_waits_in_vain(world: World) -> None:
    error = await fails(world.ask(seconds=0.05))
    assert isinstance(error, NotReady)
    assert error.reason == "its engine is starting"


async def test_rows_that_wait_for_a_version_are_bounded(world: World) -> None:
    await world.engines[0].start()
    world.publish(VersionState.LOADING)
    waiting = [world.ask(), world.ask()]
    await asyncio.sleep(0)
    assert isinstance(await fails(world.ask()), QueueFull)
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    asked = world.ask()
    await world.until(lambda: world.engines[0]._links)
    world.engines[0].say(REF)
    world.engines[0].answer(await world.engines[0].asked())
    await asked


async def test_an_engine_that_comes_later_is_asked_too(world: World) -> None:
    await world.engines[0].start()
    world.publish(VersionState.LOADING, engines=1)
    asked = world.ask()
    await world.engines[1].start(REF)
    world.publish(VersionState.LOADING)
    world.engines[1].answer(await world.engines[1].asked())
    await asked


async def test_readiness_is_that_of_any_engine(world: World) -> None:
    await world.engines[0].start(failed={REF: "too large"})
    world.publish(VersionState.LOADING)
    await world.until(lambda: world.pool.why_unready(REF) == "too large")
    assert world.pool.failed == {REF: "too large"}
    await world.engines[1].start(REF)
    await world.until(lambda: world.pool.is_ready(REF))
    assert not world.pool.failed


async def test_on_demand_needs_an_engine_that_lives(world: World) -> None:
    world.publish(VersionState.ON_DEMAND)
    await world.until(lambda: world.fleet.view.versions)
    assert not world.pool.is_on_demand(REF)
    await world.engines[0].start()
    await world.until(lambda: world.pool.is_on_demand(REF))
    assert not world.pool.is_on_demand(OTHER)


@pytest.mark.parametrize("state", [VersionState.NO_ROOM, VersionState.FAILED, VersionState.UNLOADED])
async def test_what_does_not_pass_is_not_to_be_asked_for_again_at_once(world: World, state: VersionState) -> None:
    world.publish(state)
    error = await fails(world.ask(seconds=1000))
    assert isinstance(error, NotReady)
    assert error.retry_after == 30


async def test_who_waits_for_a_version_that_is_deleted_hears_of_it(world: World) -> None:
    await world.engines[0].start()
    world.publish(VersionState.ON_DEMAND)
    asked = world.ask(seconds=1000)
    await world.until(lambda: world.wanted)
    world.publisher.publish(View(1, world.fleet.view.engines, {}))
    error = await fails(asked)
    assert isinstance(error, NotReady)
    assert error.reason == "it is served no more"


# An engine that is lost while another one has the version


async def two_ready(world: World, history: History | None = None) -> None:
    for engine in world.engines:
        await engine.start(REF, history=history)
    world.publish(VersionState.LOADED)
    await world.until(lambda: [client.why_unready(REF) for client in world.pool._clients.values()] == [None, None])


async def test_what_a_dead_engine_held_is_answered_by_another_one_at_once(
    world: World, registry: CollectorRegistry
) -> None:
    await two_ready(world)
    asked = world.ask()
    await world.engines[0].asked()
    await world.engines[0].die()
    world.engines[1].answer(await world.engines[1].asked())
    assert (await asked).values.tolist() == [[10], [20]]
    assert sample(registry, "servoloop_requests_resent_total") == 1
    assert [client.held_rows for client in world.pool._clients.values()] == [0, 0]


async def test_a_request_that_lost_two_engines_waits_for_the_second_ones_successor(world: World) -> None:
    await two_ready(world, History(1))
    asked = world.ask()
    await world.engines[0].asked()
    await world.engines[0].die()
    poison = await world.engines[1].asked()
    await world.engines[0].start(REF, history=History(2))
    await world.until(lambda: world.pool._clients["engine-0"].why_unready(REF) is None)
    await world.engines[1].die()
    # It is taken apart there: its second row alone, as a suspect.
    history = History(2, {1: frozenset({(poison.request_id, 1)})})
    await world.engines[1].start(REF, history=history)
    rows = [await world.engines[1].asked() for _ in range(2)]
    assert [(row.header.digest != b"", row.values) for row in rows] == [(False, [[1]]), (True, [[2]])]
    # Nor do suspects move where the engine is lost once more.
    await world.engines[1].die()
    await world.engines[1].start(REF, history=History(3))
    for _ in rows:
        world.engines[1].answer(await world.engines[1].asked())
    assert (await asked).values.tolist() == [[10], [20]]
    assert world.engines[0].frames.empty()


async def test_what_moved_is_suspected_where_it_came_from_once_its_engines_death_is_known(world: World) -> None:
    await two_ready(world, History(1))
    asked = world.ask()
    sent = await world.engines[0].asked()
    await world.engines[0].die()
    world.engines[1].answer(await world.engines[1].asked())
    await asked
    await world.engines[0].start(REF, history=History(2, {1: frozenset({(sent.request_id, 1)})}))
    await world.until(lambda: world.pool._clients["engine-0"].why_unready(REF) is None)
    again = world.ask()
    rows = [await world.engines[0].asked() for _ in range(2)]
    assert [row.header.digest != b"" for row in rows] == [False, True]
    for row in rows:
        world.engines[0].answer(row)
    await again


async def test_where_there_is_no_room_elsewhere_what_was_accepted_waits_for_the_successor(world: World) -> None:
    await two_ready(world)
    here, there = world.engines
    asked = [world.ask() for _ in range(5)]  # three here and two there, of four that may be held at each
    for _ in range(3):
        await here.asked()
    kept = [await there.asked() for _ in range(2)]
    await here.die()
    moved = [await there.asked() for _ in range(2)]
    await here.start(REF)
    here.answer(await here.asked())
    there.answer(*kept, *moved)
    for one in asked:
        assert (await one).values.tolist() == [[10], [20]]


def silence(client: EngineClient) -> None:
    """Have it seem long ago that the engine was heard."""
    client.status = replace(client.status, heard=-1e9)


async def test_an_engine_that_is_heard_is_asked_before_one_that_is_silent(world: World) -> None:
    await two_ready(world)
    silence(world.pool._clients["engine-0"])
    asked = world.ask()
    world.engines[1].answer(await world.engines[1].asked())
    await asked
    silence(world.pool._clients["engine-1"])
    asked = world.ask()
    world.engines[0].answer(await world.engines[0].asked())
    await asked


async def test_what_all_engines_counted_is_added_up(world: World) -> None:
    for engine in world.engines:
        await engine.start(REF)
    world.publish(VersionState.LOADED)
    await world.until(lambda: [client.why_unready(REF) for client in world.pool._clients.values()] == [None, None])
    asked = asyncio.create_task(world.pool.statistics())
    for engine, counted in zip(world.engines, ({REF: Statistics(rows=3)}, {REF: Statistics(rows=4)}), strict=True):
        engine.send(counted_frame((await engine.next(Kind.COUNT)).request_id, counted))
    assert await asked == {REF: Statistics(rows=7)}
