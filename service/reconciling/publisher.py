"""The supervisor's socket for http processes: they are sent each view, and say which versions are asked for."""

import asyncio
import logging
from collections.abc import Callable

from service.domain import Ref
from service.errors import BrokenContract
from service.registry.fleet import View
from service.wire.frames import Frame, Kind
from service.wire.link import Link
from service.wire.report import want_in

log = logging.getLogger(__name__)

_GATHER_SECONDS = 0.05


class Publisher:
    """Holds the newest view, once there is one; `want` is called with each version that an http process asks for."""

    def __init__(self, want: Callable[[Ref], None]) -> None:
        self._want = want
        self._links: set[Link] = set()
        self._view: View | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._has_more = False

    def publish(self, view: View) -> None:
        """Send a view to all, if it is not the one they have."""
        if view == self._view:
            return
        self._view = view
        if self._timer is None:
            # At once, and what follows within a moment together: while many versions are loaded each load is news.
            self._send_to_all()
            self._timer = asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._gathered)
        else:
            self._has_more = True

    def connection(self) -> Link:
        """A protocol for one connection."""
        link: Link

        def opened() -> None:
            self._links.add(link)
            if self._view is not None:
                self._send(link, self._view)

        link = Link(self._receive, opened=opened, closed=lambda: self._links.discard(link))
        return link

    def _receive(self, frame: Frame) -> None:
        if frame.kind is not Kind.WANT:
            raise BrokenContract("kind of frame", expected="WANT", got=frame.kind)
        self._want(want_in(frame))

    def _gathered(self) -> None:
        self._timer = None
        if self._has_more:
            self._has_more = False
            self._send_to_all()

    def _send_to_all(self) -> None:
        for link in self._links:
            if self._view is not None:
                self._send(link, self._view)

    @staticmethod
    def _send(link: Link, view: View) -> None:
        link.send(Frame(Kind.VIEW, meta=view.to_meta()))
