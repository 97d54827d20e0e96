"""An http process's end of the supervisor's socket: the view of what is actual, and asking for versions."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from service.domain import Ref
from service.errors import BrokenContract
from service.link import Link
from service.registry.fleet import View
from service.wire import Frame, Kind

log = logging.getLogger(__name__)

_RECONNECT_SECONDS = 0.05
_WANT_SECONDS = 0.25


class FleetClient:
    """Use as an async context manager. While the supervisor can't be reached, the last view goes on to hold."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._listeners: list[Callable[[View], None]] = []
        self._link: Link | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._wanted: dict[Ref, float] = {}
        self._next = asyncio.Event()
        self.view = View()

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep_connected())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._keeper is not None
        self._keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeper
        if self._link is not None:
            self._link.close()

    def listen(self, use: Callable[[View], None]) -> None:
        """Have `use` called with every view that comes."""
        self._listeners.append(use)

    def want(self, ref: Ref) -> None:
        """Say that a version is asked for; at most every quarter of a second, however often it is said."""
        now = self._clock()
        if self._link is not None and now - self._wanted.get(ref, -math.inf) >= _WANT_SECONDS:
            self._wanted[ref] = now
            self._link.send(Frame(Kind.WANT, meta={"model": ref.model, "version": ref.version}))

    async def changed(self) -> None:
        """Wait for the next view."""
        await self._next.wait()

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(OSError):
                _, self._link = await loop.create_unix_connection(lambda: Link(self._receive), str(self._path))
                await self._link.lost
                self._link = None
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _receive(self, frame: Frame) -> None:
        if frame.kind is not Kind.VIEW:
            raise BrokenContract("kind of frame", expected="VIEW", got=frame.kind)
        self.view = View.from_meta(frame.meta)
        for use in self._listeners:
            use(self.view)
        self._next.set()
        self._next = asyncio.Event()
