"""A connection that carries frames, the same at both ends."""

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from service.errors import BrokenContract
from service.wire import Bytes, Frame, FrameBuffer, parts_of

log = logging.getLogger(__name__)


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
