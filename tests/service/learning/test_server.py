"""Both ends of the loop process's socket."""

import asyncio
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

import service.watch.heartbeat
from service.domain import Ref
from service.errors import BrokenContract, LoopUnavailable, StoreUnavailable, UnknownModel
from service.learning.loop_client import LoopClient
from service.learning.measuring import OneThread
from service.learning.questions import DriftQuestion, Question
from service.learning.server import LoopServer
from service.telemetry.quality import LoopTelemetry, Standing, Unlabelled
from service.watch.heartbeat import Heartbeat, beating
from service.wire.frames import Frame, Kind
from service.wire.link import Link
from tests.patience import PATIENCE


class Measures:
    """Answers with what it was asked, unless it is to fail."""

    def __init__(self) -> None:
        self.fail: Exception | None = None
        self.num_looks = 0
        self.threads: set[str] = set()
        self.stand: list[Standing] = []
        self.unlabelled: list[Unlabelled] = []

    def catch_up(self) -> int:
        self.num_looks += 1
        self.threads.add(threading.current_thread().name)
        if self.fail is not None:
            raise self.fail
        return 0

    def standings(self) -> tuple[list[Standing], list[Unlabelled]]:
        return self.stand, self.unlabelled

    def answer(self, question: Question | DriftQuestion) -> dict[str, Any]:
        self.threads.add(threading.current_thread().name)
        if self.fail is not None:
            raise self.fail
        return asdict(question)


@pytest.fixture
def measures() -> Measures:
    return Measures()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with tempfile.TemporaryDirectory(prefix="sl-") as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(Path(folder) / "l.sock"))
        listener.listen()
        yield listener


@asynccontextmanager
async def serving(
    listener: socket.socket, measures: Any, registry: CollectorRegistry | None = None
) -> AsyncIterator[LoopServer]:
    measuring = OneThread(measures)
    server = LoopServer(measuring, LoopTelemetry(registry or CollectorRegistry()), every=0.0)
    links: list[Link] = []

    def connection() -> Link:
        links.append(server.connection())
        return links[-1]

    listening = await asyncio.get_running_loop().create_unix_server(connection, sock=listener.dup())
    running = asyncio.create_task(server.run())
    try:
        yield server
    finally:
        server.stop()
        await running
        measuring.shutdown()
        listening.close()
        for link in links:
            link.close()


def path_of(listener: socket.socket) -> Path:
    return Path(listener.getsockname())


async def test_a_question_is_answered(listener: socket.socket, measures: Measures) -> None:
    question = Question("fashion", version=2, role=None, since=1.5, until=7.0, slice="tier:a", matured=True)
    async with serving(listener, measures), LoopClient(path_of(listener)) as client:
        assert await client.evaluate(question) == asdict(question)
    assert measures.num_looks >= 1
    assert len(measures.threads) == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (UnknownModel("fashion", ["mood"]), UnknownModel),
        (StoreUnavailable("the disk is gone"), StoreUnavailable),
        (RuntimeError("a fault of ours"), BrokenContract),
    ],
)
async def test_what_goes_wrong_is_told(
    listener: socket.socket, measures: Measures, fault: Exception, error: type[Exception]
) -> None:
    async with serving(listener, measures), LoopClient(path_of(listener)) as client:
        await client.evaluate(Question("fashion"))
        measures.fail = fault if not isinstance(fault, RuntimeError) else None
        if isinstance(fault, RuntimeError):
            measures.answer = lambda question: 1 / 0  # type: ignore[method-assign,assignment,return-value]
        with pytest.raises(error):
            await client.evaluate(Question("fashion"))
        measures.fail = None


async def test_a_store_that_is_away_ends_nothing(
    listener: socket.socket, measures: Measures, caplog: pytest.LogCaptureFixture
) -> None:
    measures.fail = StoreUnavailable("the disk is gone")
    async with serving(listener, measures), LoopClient(path_of(listener)) as client:
        with pytest.raises(StoreUnavailable):
            await client.evaluate(Question("fashion"))
        measures.fail = None
        assert (await client.evaluate(Question("fashion")))["model"] == "fashion"
    assert caplog.text.count("can't be followed") == 1


async def test_the_process_beats_while_what_it_measures_takes_long(
    listener: socket.socket, measures: Measures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.watch.heartbeat, "_EVERY_SECONDS", 0.001)
    begun, may_end = threading.Event(), threading.Event()

    def catch_up() -> int:
        begun.set()
        return int(may_end.wait(PATIENCE))

    measures.catch_up = catch_up  # type: ignore[method-assign]
    with Heartbeat.create(tmp_path / "beat") as heartbeat:
        async with beating(tmp_path / "beat"), serving(listener, measures), asyncio.timeout(PATIENCE / 2):
            while not begun.is_set():
                await asyncio.sleep(0.001)
            seen = {heartbeat.last}
            while len(seen) < 5:
                await asyncio.sleep(0.001)
                seen.add(heartbeat.last)
            may_end.set()


async def test_how_versions_stand_is_shown(listener: socket.socket, measures: Measures) -> None:
    registry = CollectorRegistry()
    ref = Ref("fashion", 2)
    measures.stand = [
        Standing(ref, "accuracy", 0.5, 0.25, 0.75, labelled=4, predictions=16),
        Standing(Ref("rent", 1), "mae", 3.0, None, None, labelled=1, predictions=0),
    ]
    async with serving(listener, measures, registry), LoopClient(path_of(listener)) as client:
        await client.evaluate(Question("fashion"))

    def shown(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"servoloop_{name}", labels)

    accuracy = {"model": "fashion", "version": "2", "metric": "accuracy"}
    bounds = [shown(f"online_metric{bound}", **accuracy) for bound in ("", "_low", "_high")]
    assert bounds == [0.5, 0.25, 0.75]
    assert shown("labelled_predictions", model="fashion", version="2") == 4
    assert shown("label_coverage_ratio", model="fashion", version="2") == 0.25
    mae = {"model": "rent", "version": "1", "metric": "mae"}
    assert (shown("online_metric", **mae), shown("online_metric_low", **mae)) == (3.0, None)


async def test_without_a_loop_process_a_client_hears_so(listener: socket.socket) -> None:
    async with LoopClient(path_of(listener), timeout=0.01) as client:
        with pytest.raises(LoopUnavailable):
            await client.evaluate(Question("fashion"))


async def test_what_is_no_question_cuts_the_peer_off(listener: socket.socket, measures: Measures) -> None:
    async with serving(listener, measures):
        loop = asyncio.get_running_loop()
        _, link = await loop.create_unix_connection(lambda: Link(lambda _: None), str(path_of(listener)))
        link.send(Frame(Kind.RECORD, 1))
        async with asyncio.timeout(PATIENCE):
            await link.lost
