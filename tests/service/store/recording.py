"""A recorder for tests: its socket, a log that can be held up, and what connects to it."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from service.store.base import Filters, Input, Record, Stores
from service.store.prediction_log import PredictionLog
from service.store.record_queue import LogPolicy
from service.store.server import RecorderServer, Retention
from service.telemetry.instruments import HttpTelemetry, RecorderTelemetry
from service.wire.link import Link
from tests.fakes import ManualClock, sample
from tests.patience import PATIENCE
from tests.stores import OpenStore

DAY = 86_400.0


@dataclass
class Gate:
    """A log that waits at a gate before it writes, and may fail first."""

    store: OpenStore
    open: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)
    groups: list[int] = field(default_factory=list)
    fail: list[Exception] = field(default_factory=list)

    def append(self, records: Sequence[Record], inputs: Sequence[Input] = ()) -> int:
        self.reached.set()
        assert self.open.wait(30)
        if self.fail:
            raise self.fail.pop(0)
        if any(record.principal == "poison" for record in records):
            raise ValueError("this can't be written")
        waited = self.store.predictions.append(records, inputs)
        self.groups.append(len(records))
        return waited

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store.predictions, name)


@dataclass
class Place:
    """A socket that outlives the recorders that serve it, and what they have in common."""

    path: Path
    listener: socket.socket
    gate: Gate
    registry: CollectorRegistry
    clock: ManualClock

    def __post_init__(self) -> None:
        # Two processes, of which both count feedback.
        self.http_registry = CollectorRegistry()
        self.http_telemetry = HttpTelemetry(self.http_registry)
        self.telemetry = RecorderTelemetry(self.registry)
        self.feedback: Any = self.gate.store.feedback

    @asynccontextmanager
    async def recorder(self) -> AsyncIterator[RecorderServer]:
        retention = Retention(keep=90 * DAY, pending=DAY, every=60.0, portion=2)
        opened = self.gate.store
        stores = Stores(opened.control, self.gate, self.feedback, opened.erasure, opened.reports, opened.jobs)
        server = RecorderServer(stores, self.telemetry, retention, self.clock)
        links: list[Link] = []

        def connection() -> Link:
            links.append(server.connection())
            return links[-1]

        loop = asyncio.get_running_loop()
        listening = await loop.create_unix_server(connection, sock=self.listener.dup())
        running = asyncio.create_task(server.run())
        try:
            yield server
        finally:
            server.stop()
            await running
            listening.close()
            for link in links:
                link.close()

    def log(self, policy: LogPolicy | None = None) -> PredictionLog:
        return PredictionLog(self.path, self.http_telemetry, policy)

    def dropped(self, reason: str) -> float:
        return sample(self.http_registry, "servoloop_log_dropped_records_total", {"reason": reason})

    def written(self) -> set[str]:
        return {record.id for record in self.gate.store.predictions.list(Filters(), limit=1000).records}


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.002)
