"""An http process's end of the supervisor's socket: the view of what is actual, and asking for versions."""

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from service.domain import Ref
from service.errors import BrokenContract
from service.registry.fleet import View
from service.wire.frames import Frame, Kind
from service.wire.link import KeptLink
from service.wire.report import want_frame

_WANT_SECONDS = 0.25


class FleetClient:
    """Use as an async context manager. While the supervisor can't be reached, the last view goes on to hold."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._link = KeptLink(path, self._receive)
        self._clock = clock
        self._listeners: list[Callable[[View], None]] = []
        self._wanted: dict[Ref, float] = {}
        self._next = asyncio.Event()
        self.view = View()

    async def __aenter__(self) -> Self:
        self._link.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.stop()

    def listen(self, use: Callable[[View], None]) -> None:
        """Have `use` called with every view that comes."""
        self._listeners.append(use)

    def want(self, ref: Ref) -> None:
        """Say that a version is asked for; at most every quarter of a second, however often it is said."""
        now = self._clock()
        if self._link.is_open and now - self._wanted.get(ref, -math.inf) >= _WANT_SECONDS:
            self._wanted[ref] = now
            self._link.send(want_frame(ref))

    async def changed(self) -> None:
        """Wait for the next view."""
        await self._next.wait()

    def _receive(self, frame: Frame) -> None:
        if frame.kind is not Kind.VIEW:
            raise BrokenContract("kind of frame", expected="VIEW", got=frame.kind)
        self.view = View.from_meta(frame.meta)
        for use in self._listeners:
            use(self.view)
        self._next.set()
        self._next = asyncio.Event()
