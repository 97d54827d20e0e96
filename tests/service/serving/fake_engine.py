"""An engine's end of the wire, told by a test what to say."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from models.preprocess import Tensors
from service.domain import Ref
from service.serving.engine_client import EngineClient
from service.watch.history import History
from service.wire.frames import Frame, Kind
from service.wire.inference import InferHeader, InferResult, Outputs, requests_in, result_frames
from service.wire.link import Link
from service.wire.report import DeviceReport, Report
from tests.patience import PATIENCE

Failed = Mapping[Ref, str] | None


def says(*ready: Ref, failed: Failed = None, history: History | None = None) -> Frame:
    """The STATUS of an engine whose versions have all just answered."""
    device = DeviceReport("cpu", 1000, ("cpu",))
    return Report(device, {}, frozenset(), frozenset(), dict.fromkeys(ready, 0.0), failed or {}, history).to_frame()


class Sent(NamedTuple):
    """One of the requests of a frame."""

    header: InferHeader
    request_id: int
    time_left: float
    tensors: Tensors

    @property
    def values(self) -> Any:
        """Of its rows, as lists."""
        return self.tensors.values.tolist()


def sent_in(frame: Frame) -> list[Sent]:
    header, requests = requests_in(frame)
    return [Sent(header, *request) for request in requests]


def tenfold(request: Sent, failures: Mapping[int, str] | None = None) -> InferResult:
    return InferResult(request.request_id, Outputs(request.tensors.values * 10, failures or {}, 0.25, 0.5))


@contextlib.asynccontextmanager
async def connected(client: EngineClient) -> AsyncIterator[EngineClient]:
    """A client between its start and its stop."""
    client.start()
    try:
        yield client
    finally:
        await client.stop()


class FakeEngine:
    """Listens on a real socket and does what a test tells it to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()
        self._unread: deque[Sent] = deque()
        self._links: list[Link] = []
        self._server: asyncio.Server | None = None

    async def start(self, *ready: Ref, failed: Failed = None, history: History | None = None) -> None:
        """Listen, and tell each who connects what is ready."""
        status = says(*ready, failed=failed, history=history)

        def connection() -> Link:
            link = Link(self.frames.put_nowait, opened=lambda: link.send(status))
            self._links.append(link)
            return link

        self._server = await asyncio.get_running_loop().create_unix_server(connection, str(self.path))

    async def die(self) -> None:
        """As kill -9 would: the socket is gone, and what was held is never answered."""
        assert self._server is not None
        self._server.close()
        self.path.unlink(missing_ok=True)
        for link in self._links:
            link.close()
        await asyncio.gather(*(link.lost for link in self._links))
        self._links.clear()

    def say(self, *ready: Ref, failed: Failed = None) -> None:
        self.send(says(*ready, failed=failed))

    def send(self, frame: Frame) -> None:
        for link in self._links:
            link.send(frame)

    def answer(self, *requests: Sent, failures: Mapping[int, str] | None = None) -> None:
        """Ten times what was sent."""
        for frame in result_frames(tenfold(request, failures) for request in requests):
            self.send(frame)

    async def asked(self) -> Sent:
        """The next request."""
        while not self._unread:
            self._unread += sent_in(await self.next(Kind.INFER))
        return self._unread.popleft()

    async def next(self, kind: Kind) -> Frame:
        """The next frame, which must be of this kind."""
        frame = await asyncio.wait_for(self.frames.get(), PATIENCE)
        assert frame.kind is kind
        return frame
