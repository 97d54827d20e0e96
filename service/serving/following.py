"""How an http process takes up versions that come and go while it runs."""

import asyncio
import logging
from typing import Protocol, Self

from service.domain import Ref
from service.process.aside import in_daemon_thread
from service.process.tasks import stop_tasks
from service.registry.catalog import Catalog
from service.registry.fleet import Fleet, View
from service.serving.router import Router

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0
# What was changed on disk stays so: it costs less and less to look.
_LONGEST_SECONDS = 60.0


class Looking(Protocol):
    """What reads the model roots."""

    def scan(self) -> Catalog:
        """Look once."""
        ...

    def distrust(self, ref: Ref) -> None:
        """Have a version read anew."""
        ...


class VersionFollower:
    """Use as an async context manager: inside, the router chooses among the versions that the view tells of.

    Files are read here, not sent: each process verifies what it reads (docs/decisions/0001). `looking` reads them,
    in a thread. A version counts only as the one that engines were told to load, by its identity.
    """

    def __init__(self, looking: Looking, fleet: Fleet, router: Router) -> None:
        self._looking = looking
        self._fleet = fleet
        self._router = router
        self._follower: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._looked_for: tuple[int, dict[Ref, str]] = (-1, {})
        self._taken: tuple[int, dict[Ref, str], dict[Ref, str]] | None = None
        fleet.listen(self._hear)

    async def __aenter__(self) -> Self:
        self._follower = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._follower is not None
        await stop_tasks(self._follower)

    def _hear(self, view: View) -> None:
        if (view.scan, _identities(view)) != self._looked_for:
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
            self._looked_for = view.scan, _identities(view)
            try:
                is_all_here = await self._take_up(view)
            except Exception:  # what is served goes on being served
                log.exception("versions could not be taken up")
                is_all_here = False
            again = None if is_all_here else seconds

    async def _take_up(self, view: View) -> bool:
        """Route among what the view tells of; whether all of that is here: a file system may be slow to show it."""
        catalog = (await in_daemon_thread(self._look_twice)).only(_identities(view))
        here = {version.ref: version.identity for version in catalog.versions()}
        taken = view.scan, here, catalog.withheld
        if taken != self._taken or catalog.broken != self._router.catalog.broken:
            targets = await in_daemon_thread(lambda: self._router.prepare(catalog))
            self._router.use(catalog, targets)
            # What could not be prepared is tried again: a file that can't be opened now may be in a moment.
            self._taken = taken if here.keys() <= targets.keys() else None
            what = {"scan": view.scan, "versions": len(targets), "withheld": sorted(map(str, catalog.withheld))}
            log.info("versions are taken up", extra=what)
        for ref in catalog.withheld:
            # It may be this process that is behind: it looks only when it is told of news.
            self._looking.distrust(ref)
        return not catalog.withheld and self._taken is not None

    def _look_twice(self) -> Catalog:
        """What is new counts from the second look on, unless it changes meanwhile: the supervisor saw it steady."""
        self._looking.scan()
        return self._looking.scan()


def _identities(view: View) -> dict[Ref, str]:
    return {ref: standing.identity for ref, standing in view.versions.items()}
