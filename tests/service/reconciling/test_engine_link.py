"""The supervisor's end of an engine's socket; the engine says what a test has it say."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from service.domain import Precision, Ref
from service.reconciling.decision import EngineFacts
from service.reconciling.engine_link import EngineLink
from service.reconciling.failures import Attempt, attempt_of
from service.reconciling.placement import Claim
from service.reconciling.steps import Holding, Replica
from service.wire.frames import Frame, Kind
from service.wire.link import Link
from service.wire.report import DeviceReport, ReplicaReport, Report
from tests.fakes import ManualClock
from tests.patience import PATIENCE

REF = Ref("m", 1)
CLAIM = Claim(REF, 40, identity="abc", generation=2, precision=Precision.BFLOAT16)
LOADED = {REF: ReplicaReport(44, 2, Precision.BFLOAT16, None)}


class Engine:
    """The other end."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "engine.sock"
        self.clock = ManualClock()
        self.news = 0
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.peers: list[Link] = []
        self.server: asyncio.Server | None = None
        self.link = EngineLink("engine-0", self.path, self._tell, self.clock)

    @property
    def failures(self) -> Mapping[Attempt, str]:
        return self.link.failures.known(self.clock.now)

    async def start(self) -> None:
        def connection() -> Link:
            link = Link(self.frames.put_nowait)
            self.peers.append(link)
            return link

        self.server = await asyncio.get_running_loop().create_unix_server(connection, str(self.path))
        await self.until(lambda: self.peers)

    async def die(self) -> None:
        assert self.server is not None
        self.server.close()
        self.path.unlink()
        for peer in self.peers:
            peer.close()
            await peer.lost
        self.peers.clear()

    async def say(self, *, replicas: Mapping[Ref, ReplicaReport] | None = None) -> None:
        """Send a status, and wait until it was heard."""
        before = self.news
        device = DeviceReport("cpu", 1000, ("cpu",))
        self.send(Report(device, replicas or {}, frozenset(), frozenset()).to_frame())
        await self.until(lambda: self.news > before)

    def send(self, frame: Frame) -> None:
        for peer in self.peers:
            peer.send(frame)

    async def next(self) -> Frame:
        return await asyncio.wait_for(self.frames.get(), PATIENCE)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.001)

    def _tell(self) -> None:
        self.news += 1


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = Engine(tmp_path)
    engine.link.start()
    await engine.start()
    yield engine
    await engine.link.stop()
    if engine.server is not None:
        engine.server.close()


async def test_what_it_holds_is_what_it_says(engine: Engine) -> None:
    assert engine.link.holding({}) is None
    await engine.say(replicas=LOADED)
    assert engine.link.holding({REF: "abc"}) == Holding({REF: Replica(44, "abc", 2, Precision.BFLOAT16)})


async def test_a_load_is_under_way_from_its_command_to_the_report_that_shows_it(engine: Engine) -> None:
    await engine.say()
    engine.link.load(CLAIM, Path("/models/m/1"), pardon=True)
    frame = await engine.next()
    assert (frame.kind, dict(frame.meta)) == (
        Kind.LOAD,
        {
            "model": "m",
            "version": 1,
            "folder": "/models/m/1",
            "identity": "abc",
            "precision": "bfloat16",
            "generation": 2,
            "optimized": False,
            "pardon": True,
        },
    )
    coming = Holding(loading={REF: Replica(40, "abc", 2, Precision.BFLOAT16)})
    assert engine.link.holding({}) == coming
    await engine.say()
    assert engine.link.holding({}) == coming, "a report that was under way before says nothing of it"
    engine.send(Frame(Kind.LOADED, frame.request_id))
    await engine.say(replicas=LOADED)
    holding = engine.link.holding({REF: "abc"})
    assert holding is not None
    assert (holding.loading, list(holding.loaded)) == ({}, [REF])


async def test_an_unload_is_under_way_likewise(engine: Engine) -> None:
    await engine.say(replicas=LOADED)
    engine.link.unload(REF)
    frame = await engine.next()
    assert frame.kind is Kind.UNLOAD
    holding = engine.link.holding({})
    assert holding is not None
    assert not holding.is_ready(REF)
    engine.send(Frame(Kind.UNLOADED, frame.request_id))
    await engine.say()
    assert engine.link.holding({}) == Holding()


async def test_files_are_held_while_a_load_or_a_replica_may_need_them(engine: Engine) -> None:
    await engine.say()
    assert not engine.link.held
    engine.link.load(CLAIM, Path("/models/m/1"), pardon=False)
    assert engine.link.held == {REF}
    frame = await engine.next()
    engine.send(Frame(Kind.LOADED, frame.request_id))
    await engine.say(replicas=LOADED)
    assert engine.link.held == {REF}
    await engine.say()
    assert not engine.link.held


async def test_what_failed_is_tried_again_later_and_later(engine: Engine) -> None:
    await engine.say()
    waits = []
    for _ in range(3):
        engine.link.load(CLAIM, Path("/models/m/1"), pardon=False)
        engine.send(Frame(Kind.FAILED, (await engine.next()).request_id, meta={"reason": "the disk is away"}))
        await engine.say()
        assert engine.failures == {attempt_of(CLAIM): "the disk is away"}
        began = engine.clock.now
        while engine.failures:
            engine.clock.advance(1)
        waits.append(engine.clock.now - began)
    assert waits == [5, 10, 20]
    engine.link.load(CLAIM, Path("/models/m/1"), pardon=False)
    engine.send(Frame(Kind.LOADED, (await engine.next()).request_id))
    await engine.say(replicas=LOADED)
    engine.link.failures.note(CLAIM, "again", engine.clock.now)
    engine.clock.advance(5)
    assert not engine.failures, "a success starts the waits anew"


async def test_what_counts_in_a_decision_is_what_it_holds_or_how_long_it_is_gone(engine: Engine) -> None:
    path = str(engine.path)
    assert engine.link.facts({}, engine.clock.now) == EngineFacts("engine-0", path)
    await engine.say(replicas=LOADED)
    report = engine.link.report
    engine.link.failures.note(CLAIM, "no", engine.clock.now)
    there = engine.link.facts({REF: "abc"}, engine.clock.now)
    holding = Holding({REF: Replica(44, "abc", 2, Precision.BFLOAT16)})
    assert there == EngineFacts("engine-0", path, report, holding, 0.0, {attempt_of(CLAIM): "no"})
    await engine.die()
    await engine.until(lambda: engine.link.report is None)
    engine.clock.advance(7)
    assert engine.link.facts({REF: "abc"}, engine.clock.now) == EngineFacts("engine-0", path, report, None, 7)


async def test_with_its_engine_all_is_forgotten_but_its_last_report(engine: Engine) -> None:
    await engine.say(replicas=LOADED)
    engine.link.load(CLAIM, Path("/models/m/1"), pardon=False)
    engine.link.unload(Ref("m", 2))
    engine.link.failures.note(CLAIM, "no", engine.clock.now)
    engine.clock.advance(4)
    await engine.die()
    await engine.until(lambda: engine.link.report is None)
    assert engine.link.holding({}) is None
    assert engine.link.gone_since == engine.clock.now
    assert not engine.failures
    assert not engine.link.held
    assert engine.link.last_report is not None
    await engine.start()
    await engine.say()
    assert engine.link.holding({}) == Holding()
