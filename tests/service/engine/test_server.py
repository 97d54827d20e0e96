import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.manifest import BrokenCheckpoint
from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import BatchPolicy, Precision, Ref
from service.engine.core import Engine
from service.engine.devices import OwnDevice
from service.engine.loading import Loader
from service.engine.memory import Memory
from service.engine.server import EngineServer
from service.telemetry.instruments import EngineTelemetry
from service.watch.history import History
from service.wire.frames import Frame, Kind
from service.wire.inference import InferHeader, InferRequest, InferResult, infer_frame, results_in
from service.wire.link import Link
from service.wire.report import DeviceReport, ReplicaReport, Report, Wanted, load_frame, unload_frame
from tests.fakes import FakeRunner, sample

REF = Ref("m", 1)
WANTED = Wanted(REF, Path("good"))
SAID_OF_LOAD = load_frame(1, WANTED, pardon=False).meta
LABELS = {"model": "m", "version": "1"}
OUTCOMES = ("ok", "reloaded", "failed")
PATIENCE = 10.0
GONE, KEPT = Ref("gone", 3), Ref("kept", 1)
HISTORY = History(2, {1: frozenset({(7, 0)})}, {b"d" * 16: GONE, b"k" * 16: KEPT}, {GONE: "it was taken out"})
DEVICE = OwnDevice("cpu", "a processor", 1000, ("cpu",), lambda: Memory(free=400, total=2000))
NOTHING = Report(DeviceReport("cpu", 1000, ("cpu",)), {}, frozenset(), frozenset(), {}, {GONE: "it was taken out"})


class Peer:
    """The other end of an engine's socket."""

    def __init__(self) -> None:
        self._frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.link = Link(self._frames.put_nowait)

    async def next(self, kind: Kind | None = None) -> Frame:
        """The next frame, or the next of a kind."""
        while True:
            frame = await asyncio.wait_for(self._frames.get(), PATIENCE)
            if kind in (None, frame.kind):
                return frame

    async def report(self) -> Report:
        """What the next STATUS says."""
        return Report.from_frame(await self.next(Kind.STATUS))

    def load(self, request_id: int, folder: str = "good", *, pardon: bool = False, **more: Any) -> None:
        wanted = replace(WANTED, folder=Path(folder), **more)
        self.link.send(load_frame(request_id, wanted, pardon=pardon))

    def unload(self, request_id: int) -> None:
        self.link.send(unload_frame(request_id, REF))

    def infer(
        self,
        request_id: int,
        values: Array,
        lengths: Array | None = None,
        *,
        time_left: float = PATIENCE,
        ref: Ref = REF,
    ) -> None:
        self.link.send(infer_frame(InferHeader(ref), [InferRequest(request_id, time_left, Tensors(values, lengths))]))

    async def answer(self) -> InferResult:
        """The only answer of the next RESULT."""
        (answer,) = results_in(await self.next(Kind.RESULT))
        return answer


Connect = Callable[[], Awaitable[Peer]]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0)


class Gate:
    """Batches run only while it is open."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.num_entered = 0

    def enter(self) -> None:
        self.num_entered += 1
        self.open.wait(PATIENCE)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
async def connect(tmp_path: Path, registry: CollectorRegistry, gate: Gate) -> AsyncIterator[Connect]:
    def load(wanted: Wanted) -> FakeRunner:
        match wanted.folder.name:
            case "broken":
                raise BrokenCheckpoint("its sha256 differs")
            case "crash":
                raise RuntimeError("no idea")
            case "large":
                raise MemoryError("no more")
        return FakeRunner(before=gate.enter)

    telemetry = EngineTelemetry(registry)
    engine = Engine(BatchPolicy(max_queued_rows=4), telemetry)
    server = EngineServer(engine, Loader(engine, load, telemetry), HISTORY, lambda _: None, DEVICE, telemetry)
    loop = asyncio.get_running_loop()
    listening = await loop.create_unix_server(server.connection, str(tmp_path / "engine.sock"))
    running = asyncio.create_task(engine.run())
    peers: list[Peer] = []

    async def connect() -> Peer:
        peer = Peer()
        peers.append(peer)
        await loop.create_unix_connection(lambda: peer.link, str(tmp_path / "engine.sock"))
        return peer

    yield connect
    for peer in peers:
        peer.link.close()
    listening.close()
    running.cancel()


async def test_whoever_connects_hears_what_is_loaded(connect: Connect) -> None:
    peer = await connect()
    assert Report.from_frame(await peer.next()) == replace(NOTHING, history=HISTORY)
    peer.load(7)
    loaded = await peer.next(Kind.LOADED)
    assert loaded.request_id == 7
    said = Report.from_frame(await peer.next())
    assert (set(said.ready), said.failed, said.history) == ({REF}, NOTHING.failed, None)
    assert 0 <= said.ready[REF] < PATIENCE
    greeting = Report.from_frame(await (await connect()).next())
    assert (set(greeting.ready), greeting.history) == ({REF}, HISTORY)


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("broken", "its sha256 differs"),
        ("crash", "loading failed"),
        ("large", "the device's memory does not suffice for it"),
    ],
)
async def test_every_load_is_answered_also_one_that_fails(
    connect: Connect, folder: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    peer = await connect()
    peer.load(3, folder)
    failed = await peer.next(Kind.FAILED)
    assert (failed.request_id, failed.meta) == (3, {"reason": reason})
    assert await peer.report() == replace(NOTHING, failed={REF: reason, GONE: "it was taken out"})
    peer.load(4, "good")
    await peer.next(Kind.LOADED)
    said = await peer.report()
    assert (set(said.ready), said.failed) == ({REF}, NOTHING.failed)


async def loaded(connect: Connect) -> Peer:
    peer = await connect()
    peer.load(1)
    await peer.next(Kind.LOADED)
    return peer


async def test_rows_are_answered_under_their_id(connect: Connect) -> None:
    peer = await loaded(connect)
    peer.infer(11, np.array([[1.0, 2.0]], np.float32))
    answer = await peer.answer()
    assert answer.request_id == 11
    assert answer.outputs.values.tolist() == [[3, 2]]
    assert answer.outputs.failures == {}


async def test_answers_of_one_batch_come_together(connect: Connect, gate: Gate) -> None:
    peer = await loaded(connect)
    gate.open.clear()
    row = np.ones((1, 1), np.float32)
    peer.infer(1, row)
    await until(lambda: gate.num_entered == 1)
    asked = [InferRequest(number, PATIENCE, Tensors(number * row)) for number in (2, 3)]
    peer.link.send(infer_frame(InferHeader(REF), asked))
    peer.infer(4, 4 * row)
    gate.open.set()
    assert (await peer.answer()).request_id == 1
    answers = results_in(await peer.next(Kind.RESULT))
    assert {answer.request_id: answer.outputs.values.tolist() for answer in answers} == {
        2: [[2, 1]],
        3: [[3, 1]],
        4: [[4, 1]],
    }


async def test_packed_sequences_are_answered_row_by_row(connect: Connect) -> None:
    peer = await loaded(connect)
    peer.infer(11, np.array([1, 2, 3], np.int64), np.array([1, 2], np.int32))
    assert (await peer.answer()).outputs.values.tolist() == [[1, 1], [5, 2]]


async def test_failed_rows_are_named(connect: Connect) -> None:
    peer = await loaded(connect)
    peer.infer(11, np.array([[1.0], [np.nan]], np.float32))
    assert (await peer.answer()).outputs.failures == {1: "the network's answer for this row is not finite"}


async def test_refusals_carry_their_facts(connect: Connect) -> None:
    peer = await loaded(connect)
    peer.infer(1, np.zeros((5, 1), np.float32))
    peer.infer(2, np.zeros((1, 1), np.float32), time_left=0.0)
    peer.infer(3, np.zeros((1, 1), np.float32), ref=Ref("other", 1))
    failed = {frame.request_id: frame.meta for frame in [await peer.next(Kind.FAILED) for _ in range(3)]}
    assert failed == {
        1: {"error": "queue_full", "queued": 0, "limit": 4, "unit": "rows", "wait": 0.0},
        2: {"error": "deadline", "where": "the queue"},
        3: {"error": "not_ready", "reason": "it is not loaded on this engine"},
    }


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Kind.RESULT, 1),
        Frame(Kind.INFER),
        Frame(Kind.LOAD, 1, meta={key: value for key, value in SAID_OF_LOAD.items() if key != "folder"}),
        Frame(Kind.LOAD, 1, meta={**SAID_OF_LOAD, "precision": "int8"}),
        Frame(Kind.UNLOAD, 1),
    ],
    ids=["a result", "no model", "no folder", "no precision", "no version"],
)
async def test_a_peer_that_breaks_the_contract_is_cut_off_and_others_are_served(
    connect: Connect, frame: Frame, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    peer, good = await connect(), await loaded(connect)
    peer.link.send(frame)
    await asyncio.wait_for(peer.link.lost, PATIENCE)
    good.infer(1, np.zeros((1, 1), np.float32))
    await good.next(Kind.RESULT)


async def test_the_requests_of_a_peer_that_leaves_are_cancelled(
    connect: Connect, gate: Gate, registry: CollectorRegistry
) -> None:
    stays, leaves = await loaded(connect), await connect()
    gate.open.clear()
    stays.infer(1, np.zeros((1, 1), np.float32))
    await until(lambda: gate.num_entered == 1)
    leaves.infer(1, np.zeros((3, 1), np.float32))
    await until(lambda: sample(registry, "servoloop_queue_rows", LABELS) == 3)
    leaves.link.close()
    await until(lambda: sample(registry, "servoloop_queue_rows", LABELS) == 0)
    assert sample(registry, "servoloop_dropped_rows_total", {**LABELS, "reason": "cancelled"}) == 3
    gate.open.set()
    await stays.next(Kind.RESULT)
    assert sample(registry, "servoloop_batch_rows_sum", LABELS) == 1


async def test_a_cancelled_request_is_not_answered(connect: Connect, gate: Gate) -> None:
    peer = await loaded(connect)
    gate.open.clear()
    peer.infer(1, np.zeros((1, 1), np.float32))
    peer.link.send(Frame(Kind.CANCEL, 1))
    peer.link.send(Frame(Kind.CANCEL, 99))
    peer.infer(2, np.zeros((1, 1), np.float32))
    gate.open.set()
    assert (await peer.answer()).request_id == 2


async def test_a_beat_tells_all_that_the_engine_lives(
    registry: CollectorRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[float] = []
    monkeypatch.setattr("service.engine.server._BEAT_SECONDS", 0.001)
    telemetry = EngineTelemetry(registry)
    engine = Engine(BatchPolicy(), telemetry)
    loader = Loader(engine, lambda _: FakeRunner(), telemetry)
    server = EngineServer(engine, loader, HISTORY, beats.append, DEVICE, telemetry)
    path = str(tmp_path / "engine.sock")
    listening = await asyncio.get_running_loop().create_unix_server(server.connection, path)
    peer = Peer()
    await asyncio.get_running_loop().create_unix_connection(lambda: peer.link, path)
    await peer.next(Kind.STATUS)
    beating = asyncio.create_task(server.beat())
    assert [(await peer.next()).kind for _ in range(3)] == [Kind.STATUS] * 3
    assert len(beats) >= 3
    assert beats == sorted(beats)
    assert sample(registry, "servoloop_device_free_bytes", {"device": "cpu"}) == 400
    beating.cancel()
    peer.link.close()
    listening.close()


# Loading again, and unloading


async def ready(peer: Peer, *refs: Ref) -> Report:
    """The next report in which exactly these versions take requests."""
    while set((report := await peer.report()).ready) != set(refs):
        pass
    return report


async def test_what_lies_on_the_device_is_told_with_its_size_and_how_long_nobody_asked(connect: Connect) -> None:
    peer = await connect()
    peer.load(1, generation=4, precision=Precision.BFLOAT16)
    replica = ReplicaReport(FakeRunner.num_bytes, 4, Precision.BFLOAT16, None, FakeRunner.execution)
    assert (await ready(peer, REF)).replicas == {REF: replica}, "nobody has asked it yet"
    peer.infer(2, np.ones((1, 1), np.float32))
    await peer.next(Kind.RESULT)
    peer.load(3, generation=5)
    await peer.next(Kind.LOADED)
    idle = (await ready(peer, REF)).replicas[REF].idle
    assert idle is not None
    assert 0 <= idle < PATIENCE


async def test_what_is_loaded_already_is_answered_at_once_and_another_generation_takes_its_place(
    connect: Connect, registry: CollectorRegistry
) -> None:
    peer = await loaded(connect)
    peer.load(2, "broken")  # it is not looked at
    assert (await peer.next(Kind.LOADED)).request_id == 2
    peer.load(3, generation=1)
    assert (await peer.next(Kind.LOADED)).request_id == 3
    assert (await peer.report()).replicas[REF].generation == 1
    outcomes = {name: sample(registry, "servoloop_loads_total", {**LABELS, "outcome": name}) for name in OUTCOMES}
    assert outcomes == {"ok": 1, "reloaded": 1, "failed": 0}


async def test_a_reload_that_fails_is_told_and_what_was_loaded_answers(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    peer = await loaded(connect)
    peer.load(2, "broken", generation=1)
    failed = await peer.next(Kind.FAILED)
    assert (failed.request_id, failed.meta) == (2, {"reason": "its sha256 differs"})
    said = await peer.report()
    assert (set(said.ready), said.failed) == ({REF}, NOTHING.failed)
    assert said.replicas[REF].generation == 0
    peer.infer(3, np.ones((1, 1), np.float32))
    await peer.next(Kind.RESULT)
    peer.load(4, generation=1)
    assert (await peer.next(Kind.LOADED)).request_id == 4
    assert (await peer.report()).replicas[REF].generation == 1


async def test_an_unload_answers_what_waits_and_refuses_what_comes(connect: Connect, gate: Gate) -> None:
    peer = await loaded(connect)
    gate.open.clear()
    row = np.ones((1, 1), np.float32)
    peer.infer(11, row)
    await until(lambda: gate.num_entered == 1)
    peer.infer(12, row)
    peer.unload(2)
    said = await ready(peer)
    assert (said.unloading, set(said.replicas)) == ({REF}, {REF})
    peer.infer(13, row)
    refused = await peer.next(Kind.FAILED)
    assert (refused.request_id, refused.meta) == (13, {"error": "not_ready", "reason": "it is being unloaded"})
    gate.open.set()
    answered = [await peer.next() for _ in range(3)]
    assert [frame.kind for frame in answered] == [Kind.RESULT, Kind.RESULT, Kind.UNLOADED]
    assert [answer.request_id for frame in answered[:2] for answer in results_in(frame)] == [11, 12]
    assert answered[-1].request_id == 2
    assert Report.from_frame(await peer.next()) == NOTHING
    peer.infer(14, row)
    assert (await peer.next(Kind.FAILED)).meta["reason"] == "it is not loaded on this engine"


async def test_what_is_not_loaded_is_unloaded_at_once(connect: Connect) -> None:
    peer = await connect()
    peer.unload(2)
    assert (await peer.next(Kind.UNLOADED)).request_id == 2


async def test_the_failure_of_a_version_is_forgotten_when_it_is_unloaded(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    peer = await connect()
    peer.load(1, "broken")
    await peer.next(Kind.FAILED)
    peer.unload(2)
    await peer.next(Kind.UNLOADED)
    assert await peer.report() == NOTHING


async def test_a_version_taken_out_is_loaded_only_with_a_pardon_which_all_hear_of(connect: Connect) -> None:
    peer, other = await connect(), await connect()
    for each in (peer, other):
        await each.next(Kind.STATUS)
    peer.load(1, ref=GONE)
    assert (await peer.next()).meta == {"reason": "it was taken out"}
    for each in (peer, other):
        # At once, not with the next beat: until then whoever asked takes it for loading.
        assert Report.from_frame(await each.next()) == NOTHING
    peer.load(2, ref=GONE, pardon=True)
    pardoned = replace(HISTORY, quarantined={b"k" * 16: KEPT}, withdrawn={})
    for each in (peer, other):
        said = await each.report()
        assert (said.history, said.failed) == (pardoned, {})
    await peer.next(Kind.LOADED)
    await ready(other, GONE)
    greeting = Report.from_frame(await (await connect()).next())
    assert greeting.history == pardoned
