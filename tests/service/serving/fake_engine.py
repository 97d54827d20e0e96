"""An engine's end of the wire, told by a test what to say."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.domain import Ref
from service.link import Link
from service.watch.history import History
from service.wire import Frame, Kind

PATIENCE = 10.0


class FakeEngine:
    """Listens on a real socket and does what a test tells it to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()
        self._links: list[Link] = []
        self._server: asyncio.Server | None = None

    async def start(self, *ready: Ref, failed: Mapping[str, str] | None = None, history: History | None = None) -> None:
        """Listen, and tell each who connects what is ready."""
        status = self._status(ready, failed or {})
        if history is not None:
            status = Frame(Kind.STATUS, meta={**status.meta, "history": history.to_meta()})

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

    def say(self, *ready: Ref, failed: Mapping[str, str] | None = None) -> None:
        self.send(self._status(ready, failed or {}))

    def send(self, frame: Frame) -> None:
        for link in self._links:
            link.send(frame)

    def answer(self, request: Frame, **changes: Any) -> None:
        meta = {"queue": 0.25, "compute": 0.5, **changes}
        self.send(Frame(Kind.RESULT, request.request_id, meta=meta, arrays=[request.arrays[0] * 10]))

    async def next(self, kind: Kind = Kind.INFER) -> Frame:
        frame = await asyncio.wait_for(self.frames.get(), PATIENCE)
        assert frame.kind is kind
        return frame

    @staticmethod
    def _status(ready: tuple[Ref, ...], failed: Mapping[str, str]) -> Frame:
        return Frame(Kind.STATUS, meta={"ready": [str(ref) for ref in ready], "failed": failed})
