import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from models.manifest import BrokenCheckpoint
from service.domain import BatchPolicy
from service.engine.batching import BatchQueue
from service.engine.core import Engine
from service.engine.loading import Loader
from service.engine.server import EngineServer
from service.telemetry.instruments import EngineTelemetry
from service.wire.report import Wanted
from tests.fakes import FakeRunner
from tests.service.engine.peer import DEVICE, HISTORY, Connect, Gate, Peer
from tests.service.engine.taught import taught


@pytest.fixture
def queue() -> BatchQueue:
    """A queue that knows that a batch takes 10 ms, and 10 ms a row."""
    return taught()


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
