"""What becomes of requests whose engine died: of which rows the next one hears, and in which company."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.preprocess import Tensors
from service.domain import Deadline, Ref
from service.errors import DeadlineExceeded, EngineLost, QuarantinedInput, QueueFull
from service.serving.engine_client import EngineClient
from service.serving.held import Held
from service.serving.suspicion import Suspicion, digests, row_of
from service.telemetry.instruments import HttpTelemetry
from service.watch.blackbox import RowId
from service.watch.history import History
from service.wire.frames import Frame, Kind
from service.wire.inference import InferHeader, Outputs, result_frames
from service.wire.link import Link
from tests.patience import PATIENCE
from tests.service.serving.fake_engine import Sent, connected, says, sent_in, tenfold

REF = Ref("m", 1)


class Engines:
    """One engine after another on the same socket, which hear of their predecessors what a test says."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._incarnation = 0
        self._link: Link | None = None
        self._server: asyncio.Server | None = None
        self._frames: asyncio.Queue[Frame] = asyncio.Queue()

    async def start(
        self, suspects: Mapping[int, set[RowId]] | None = None, quarantined: frozenset[bytes] = frozenset()
    ) -> None:
        self._incarnation += 1
        suspected = {number: frozenset(rows) for number, rows in (suspects or {}).items()}
        history = History(self._incarnation, suspected, dict.fromkeys(quarantined, REF))
        status = says(REF, history=history)

        def connection() -> Link:
            link = self._link = Link(self._frames.put_nowait, opened=lambda: link.send(status))
            return link

        self._server = await asyncio.get_running_loop().create_unix_server(connection, str(self._path))

    async def die(self) -> None:
        assert self._server is not None
        assert self._link is not None
        self._server.close()
        self._path.unlink(missing_ok=True)
        self._link.close()
        await self._link.lost

    async def receive(self, count: int) -> list[Sent]:
        requests: list[Sent] = []
        async with asyncio.timeout(PATIENCE):
            while len(requests) < count:
                frame = await self._frames.get()
                requests += sent_in(frame) if frame.kind is Kind.INFER else []
        assert len(requests) == count
        return requests

    def answer(self, request: Sent, failures: Mapping[int, str] | None = None) -> None:
        assert self._link is not None
        for frame in result_frames([tenfold(request, failures)]):
            self._link.send(frame)


@pytest.fixture
async def engines(tmp_path: Path) -> AsyncIterator[Engines]:
    engines = Engines(tmp_path / "engine.sock")
    await engines.start()
    yield engines
    await engines.die()


@pytest.fixture
async def client(engines: Engines, tmp_path: Path, registry: CollectorRegistry) -> AsyncIterator[EngineClient]:
    path, telemetry = tmp_path / "engine.sock", HttpTelemetry(registry)
    async with connected(EngineClient(path, telemetry, max_pending_rows=100, max_pending_bytes=100)) as client:
        yield client


def rows(*values: float) -> Tensors:
    return Tensors(np.array([[value] for value in values], np.float32))


def ask(client: EngineClient, tensors: Tensors, *, seconds: float = PATIENCE, **more: int) -> asyncio.Task[Outputs]:
    return asyncio.create_task(client.infer(REF, tensors, Deadline.after(seconds, now=time.monotonic()), **more))


def values_of(request: Sent) -> list[float]:
    return [float(value) for value in request.tensors.values[:, 0]]


def alone(request: Sent) -> bytes:
    return request.header.digest


async def test_rows_of_a_batch_that_ended_its_engine_are_sent_alone_and_the_others_are_not(
    engines: Engines, client: EngineClient
) -> None:
    asked = [ask(client, rows(1, 2, 3)), ask(client, rows(4))]
    first, second = sorted(await engines.receive(2), key=lambda sent: len(sent.tensors), reverse=True)
    await engines.die()
    await engines.start({1: {(first.request_id, 0), (first.request_id, 2)}})
    again = await engines.receive(4)
    assert {values_of(sent)[0]: alone(sent) != b"" for sent in again} == {1: True, 2: False, 3: True, 4: False}
    assert second.request_id in {sent.request_id for sent in again}
    for sent in again:
        engines.answer(sent)
    joined, single = await asyncio.gather(*asked)
    assert joined.values.tolist() == [[10], [20], [30]]
    assert single.values.tolist() == [[40]]

    # Who ran alone and was answered is above suspicion.
    later = ask(client, rows(1, 2, 3))
    (sent,) = await engines.receive(1)
    assert values_of(sent) == [1, 2, 3]
    engines.answer(sent)
    await later


async def test_an_engine_that_was_killed_makes_no_suspects(engines: Engines, client: EngineClient) -> None:
    asked = ask(client, rows(1, 2))
    (first,) = await engines.receive(1)
    await engines.die()
    await engines.start()
    (again,) = await engines.receive(1)
    assert (again.request_id, alone(again)) == (first.request_id, b"")
    engines.answer(again)
    await asked


async def test_a_suspect_is_known_when_it_comes_again(engines: Engines, client: EngineClient) -> None:
    asked = ask(client, rows(7))
    (first,) = await engines.receive(1)
    await engines.die()
    await engines.start({1: {(first.request_id, 0)}})
    (again,) = await engines.receive(1)
    asked.cancel()
    ask(client, rows(7))
    (other,) = await engines.receive(1)
    assert alone(other) == alone(again) != b""


async def test_equal_suspects_are_asked_for_one_by_one(engines: Engines, client: EngineClient) -> None:
    first = ask(client, rows(7))
    (sent,) = await engines.receive(1)
    await engines.die()
    await engines.start({1: {(sent.request_id, 0)}})
    (again,) = await engines.receive(1)
    asked = [ask(client, rows(7, 7)), ask(client, rows(7))]
    suspects = await engines.receive(3)
    assert [(values_of(one), alone(one)) for one in suspects] == [([7], alone(again))] * 3
    for one in (again, *suspects):
        engines.answer(one)
    assert [len((await each).values) for each in (first, *asked)] == [1, 2, 1]


async def test_what_is_quarantined_is_refused_and_its_neighbours_are_answered(
    engines: Engines, client: EngineClient
) -> None:
    waiting = ask(client, rows(7))
    (first,) = await engines.receive(1)
    await engines.die()
    await engines.start({1: {(first.request_id, 0)}})
    (again,) = await engines.receive(1)
    await engines.die()
    (poison,) = digests(REF, rows(7))
    assert alone(again) == poison
    await engines.start({2: {(again.request_id, 0)}}, frozenset({poison}))
    with pytest.raises(QuarantinedInput):
        await asyncio.wait_for(waiting, PATIENCE)
    with pytest.raises(QuarantinedInput):
        await ask(client, rows(7, 7))
    mixed = ask(client, rows(1, 7, 2))
    for sent in await engines.receive(2):
        engines.answer(sent, {0: "not finite"} if values_of(sent) == [2] else None)
    outputs = await mixed
    assert outputs.values[0].tolist() == [10]
    assert set(outputs.failures) == {1, 2}
    assert outputs.failures[2] == "not finite"
    assert outputs.quarantined == {1}


async def test_rows_that_were_taken_apart_keep_their_requests_time(engines: Engines, client: EngineClient) -> None:
    asked = ask(client, rows(1, 2), seconds=2)
    (first,) = await engines.receive(1)
    await engines.die()
    await engines.start({1: {(first.request_id, 0)}})
    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(asked, PATIENCE)


async def test_a_request_whose_engine_is_not_replaced_in_time_is_told_to_come_again(
    engines: Engines, client: EngineClient
) -> None:
    asked = ask(client, rows(1), seconds=2)
    await engines.receive(1)
    await engines.die()
    with pytest.raises(EngineLost):
        await asyncio.wait_for(asked, PATIENCE)
    await engines.start()


async def test_priority_travels_with_the_request(engines: Engines, client: EngineClient) -> None:
    asked = ask(client, rows(1), priority=2)
    (sent,) = await engines.receive(1)
    assert sent.header == InferHeader(REF, priority=2)
    engines.answer(sent)
    await asked


async def test_bytes_that_wait_are_bounded(engines: Engines, client: EngineClient) -> None:
    held = ask(client, Tensors(np.zeros((1, 25), np.float32)))
    (sent,) = await engines.receive(1)
    with pytest.raises(QueueFull) as raised:
        await ask(client, rows(1))
    assert (raised.value.queued, raised.value.limit, raised.value.unit) == (100, 100, "bytes")
    engines.answer(sent)
    await held


# Names of inputs


def test_equal_rows_of_a_version_have_equal_names_and_no_others_do() -> None:
    names = digests(REF, rows(1, 2, 1))
    assert names[0] == names[2] != names[1]
    assert digests(Ref("m", 2), rows(1)) != digests(REF, rows(1))
    assert digests(REF, Tensors(np.zeros((1, 4), np.float32))) != digests(REF, Tensors(np.zeros((1, 2, 2), np.float32)))
    assert digests(Ref("m" * 64, 1), rows(1)) != digests(Ref("m" * 64, 2), rows(1))


def test_rows_of_sequences_have_the_names_that_they_have_alone() -> None:
    packed = Tensors.packed([np.array([1, 2, 3]), np.array([4])])
    assert digests(REF, packed) == [name for n in range(2) for name in digests(REF, row_of(packed, n))]


def test_of_very_many_suspects_the_oldest_are_forgotten() -> None:
    suspicion = Suspicion()
    for number in range(5000):
        suspicion.suspect(number.to_bytes(16, "big"))
    assert suspicion.is_suspect((4999).to_bytes(16, "big"))
    assert not suspicion.is_suspect(bytes(16))


# What is known of inputs


def held(tensors: Tensors, *, sent_to: int) -> Held:
    future = asyncio.get_running_loop().create_future()
    return Held(REF, tensors, Deadline(0.0), 0, future, sends=1, sent_to=sent_to)


async def test_the_rows_that_an_engine_may_have_died_of_are_suspected_and_no_others() -> None:
    suspicion = Suspicion()
    assert suspicion.is_idle
    suspicion.learn(History(2, {1: frozenset({(7, 1)})}))
    assert suspicion.incarnation == 2
    assert not suspicion.accuse(8, held(rows(1, 2), sent_to=1)), "it was another request"
    assert not suspicion.accuse(7, held(rows(1, 2), sent_to=2)), "it was another engine"
    assert suspicion.is_idle
    assert suspicion.accuse(7, held(rows(1, 2), sent_to=1))
    assert [suspicion.knows(digest) for digest in digests(REF, rows(1, 2))] == [False, True]


async def test_what_was_sent_nowhere_ended_nothing() -> None:
    suspicion = Suspicion()
    suspicion.learn(History(1, {0: frozenset({(7, 0)})}))
    waiting = held(rows(1), sent_to=0)
    waiting.sends = 0
    assert not suspicion.accuse(7, waiting)


async def test_what_is_quarantined_is_no_suspect_and_is_so_until_another_history_says_otherwise() -> None:
    suspicion = Suspicion()
    (poison,) = digests(REF, rows(7))
    suspicion.suspect(poison)
    suspicion.learn(History(2, {1: frozenset({(7, 0)})}, {poison: REF}))
    assert suspicion.accuse(7, held(rows(7), sent_to=1))
    assert (suspicion.is_quarantined(poison), suspicion.is_suspect(poison)) == (True, False)
    suspicion.learn(History(3))
    assert suspicion.is_idle
