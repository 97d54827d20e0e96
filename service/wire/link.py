"""A connection that carries frames, the same at both ends, and how one end keeps it."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import cast

from service.errors import BrokenContract
from service.process.tasks import stop_tasks
from service.wire.frames import Bytes, Frame, FrameBuffer, parts_of

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.05


class Link(asyncio.Protocol):
    """Calls `receive` for every frame. A peer that sends what is no frame, or what `receive` refuses, is cut off."""

    def __init__(
        self,
        receive: Callable[[Frame], None],
        *,
        opened: Callable[[], None] = lambda: None,
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        self._receive = receive
        self._opened = opened
        self._closed = closed
        self._buffer = FrameBuffer()
        self._transport: asyncio.Transport | None = None
        self._unsent: list[Bytes] = []
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio.Transport, but have its methods.
        self._transport = cast(asyncio.Transport, transport)
        self._opened()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(None)
        self._closed()

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._buffer.feed(data):
                self._receive(frame)
        except (BrokenContract, KeyError, TypeError, ValueError):
            log.exception("a peer broke the contract of the wire and is cut off")
            self.close()

    def send(self, frame: Frame) -> None:
        """Send in this turn of the event loop: frames sent together leave in one write and wake their receiver once.

        Arrays are not copied, so they must not change any more. Dropped when the connection is lost: `lost` says so.
        """
        if self._transport is None:
            return
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self.flush)
        self._unsent += parts_of(frame)

    def close(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    def flush(self) -> None:
        """Send what waits for the end of this turn now. For who knows that this turn brings no more."""
        unsent, self._unsent = self._unsent, []
        if unsent and self._transport is not None:
            self._transport.writelines(unsent)


class KeptLink:
    """A connection to who listens at `path`, between `start` and `stop`, opened anew whenever it is lost.

    `receive` is called for every frame; `opened` once frames can be sent, `lost` once they can't any more. What is sent
    while it is away is dropped.
    """

    def __init__(
        self,
        path: Path,
        receive: Callable[[Frame], None],
        *,
        opened: Callable[[], None] = lambda: None,
        lost: Callable[[], None] = lambda: None,
        retry_seconds: float = _RETRY_SECONDS,
    ) -> None:
        self._path = path
        self._receive = receive
        self._opened = opened
        self._lost = lost
        self._retry_seconds = retry_seconds
        self._link: Link | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._link is not None

    def start(self) -> None:
        """Connect, and stay connected until `stop`."""
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Let go of the connection; `lost` is not called for that."""
        if self._keeper is not None:
            await stop_tasks(self._keeper)
        if self._link is not None:
            self._link.close()

    def send(self, frame: Frame) -> None:
        """As `Link.send`."""
        if self._link is not None:
            self._link.send(frame)

    def flush(self) -> None:
        """As `Link.flush`."""
        if self._link is not None:
            self._link.flush()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(OSError):
                _, link = await loop.create_unix_connection(self._unopened, str(self._path))
                await link.lost
                self._link = None
                self._lost()
            await asyncio.sleep(self._retry_seconds)

    def _unopened(self) -> Link:
        link = Link(self._receive, opened=lambda: self._open(link))
        return link

    def _open(self, link: Link) -> None:
        # Not after `create_unix_connection`: with uvloop the first frame may be there before that returns.
        self._link = link
        self._opened()
