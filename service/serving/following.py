"""How an http process takes up versions that come and go while it runs."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Self

from service.domain import Ref
from service.registry.catalog import Catalog
from service.registry.fleet import Fleet, View
from service.serving.router import Router

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0
# What was changed on disk stays so: it costs less and less to look.
_LONGEST_SECONDS = 60.0


class VersionFollower:
    """Use as an async context manager: inside, the router chooses among the versions that the view tells of.

    Files are read here, not sent: each process verifies what it reads (docs/decisions/0001). `look` reads them, in a
    thread. A version counts only as the one that engines were told to load, by its identity.
    """

    def __init__(self, look: Callable[[], Catalog], fleet: Fleet, router: Router) -> None:
        self._look = look
        self._fleet = fleet
        self._router = router
        self._follower: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._tried: tuple[int, dict[Ref, str]] = (-1, {})
        self._taken: tuple[int, dict[Ref, str], dict[Ref, str]] | None = None
        fleet.listen(self._hear)

    async def __aenter__(self) -> Self:
        self._follower = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._follower is not None
        self._follower.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._follower

    def _hear(self, view: View) -> None:
        if (view.scan, _identities(view)) != self._tried:
            self._news.set()

    async def _follow(self) -> None:
        again, seconds = None, _AGAIN_SECONDS
        while True:
            try:
                async with asyncio.timeout(again):
                    await self._news.wait()
                seconds = _AGAIN_SECONDS
            except TimeoutError:
                seconds = min(2 * seconds, _LONGEST_SECONDS)
            self._news.clear()
            view = self._fleet.view
            self._tried = view.scan, _identities(view)
            try:
                is_all_here = await self._take_up(view)
            except Exception:  # what is served goes on being served
                log.exception("versions could not be taken up")
                is_all_here = False
            again = None if is_all_here else seconds

    async def _take_up(self, view: View) -> bool:
        """Route among what the view tells of; whether all of that is here: a file system may be slow to show it."""
        catalog = (await asyncio.to_thread(self._look_twice)).only(_identities(view))
        taken = view.scan, {version.ref: version.identity for version in catalog.versions()}, catalog.withheld
        if taken != self._taken or catalog.broken != self._router.catalog.broken:
            self._router.use(catalog, await asyncio.to_thread(self._router.prepare, catalog))
            self._taken = taken
            what = {"scan": view.scan, "versions": len(taken[1]), "withheld": sorted(map(str, catalog.withheld))}
            log.info("versions are taken up", extra=what)
        return not catalog.withheld

    def _look_twice(self) -> Catalog:
        """What is new counts from the second look on, unless it changes meanwhile: the supervisor saw it steady."""
        self._look()
        return self._look()


def _identities(view: View) -> dict[Ref, str]:
    return {ref: standing.identity for ref, standing in view.versions.items()}
