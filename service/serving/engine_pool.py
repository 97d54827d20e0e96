"""All engines as one: which of them a request goes to, and how it waits for a version that none has loaded yet."""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable

from models.preprocess import Tensors
from service.domain import DEFAULT_PRIORITY, Deadline, Ref
from service.errors import NotLoaded, NotReady, QueueFull
from service.registry.fleet import EngineInfo, Fleet, VersionState, View
from service.serving.admission import PendingBounds
from service.serving.engine_client import EngineClient
from service.serving.held import MovesOn
from service.wire.inference import Outputs
from service.wire.statistics import Statistics

# More than versions that come and go can cost; an engine that contradicts itself is not asked for ever.
_MOST_TRIES = 10
# What was asked for may have made room for another meanwhile.
_ASK_AGAIN_SECONDS = 0.5


class EnginePool:
    """Use as an async context manager, inside that of `fleet`.

    `connect` makes a client for an engine, and is given what to call at every news of that engine.
    """

    def __init__(
        self,
        connect: Callable[[EngineInfo, Callable[[], None]], EngineClient],
        fleet: Fleet,
        bounds: PendingBounds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._fleet = fleet
        self._bounds = bounds
        self._clock = clock
        self._clients: dict[str, EngineClient] = {}
        self._news = asyncio.Event()
        fleet.listen(self._use)

    async def __aenter__(self) -> "EnginePool":
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients.values():
            await client.stop()

    @property
    def failed(self) -> dict[Ref, str]:
        """Versions that answer nowhere, and why an engine says that they won't."""
        known = [client.status for client in self._clients.values()]
        ready = {ref for status in known for ref in status.ready}
        return {ref: reason for status in known for ref, reason in status.failed.items() if ref not in ready}

    def is_ready(self, ref: Ref) -> bool:
        """Whether this version answered lately on some engine, as far as was heard lately."""
        return self.why_unready(ref) is None

    def why_unready(self, ref: Ref) -> str | None:
        """What keeps a version from being ready; None where nothing does."""
        reasons = {slot: client.why_unready(ref) for slot, client in self._clients.items()}
        if None in reasons.values():
            return None
        standing = self._fleet.view.versions.get(ref)
        if standing is not None and standing.reason is not None:
            return standing.reason
        expected = standing.slots if standing is not None else ()
        first = next((reason for slot, reason in reasons.items() if slot in expected), None)
        return first or next(iter(reasons.values()), None) or "its engine is starting"

    def is_on_demand(self, ref: Ref) -> bool:
        """Whether a version is not loaded, and would be if it were asked for: an engine is there for it."""
        standing = self._fleet.view.versions.get(ref)
        is_idle = standing is not None and standing.state is VersionState.ON_DEMAND
        return is_idle and any(client.is_heard for client in self._clients.values())

    async def statistics(self) -> dict[Ref, Statistics]:
        """What all engines counted of each version that they have."""
        total: dict[Ref, Statistics] = {}
        for counted in await asyncio.gather(*[client.statistics() for client in self._clients.values()]):
            for ref, statistics in counted.items():
                total.setdefault(ref, Statistics()).merge(statistics)
        return total

    async def infer(self, ref: Ref, tensors: Tensors, deadline: Deadline, priority: int = DEFAULT_PRIORITY) -> Outputs:
        """Compute rows where the version is loaded, or once it is.

        Raises QueueFull, Overloaded, NotReady, EngineLost, DeadlineExceeded, QuarantinedInput or PredictionFailed.
        """
        sends, left = 0, None
        for _ in range(_MOST_TRIES):
            client = self._choose(ref) or await self._wait_for(ref, tensors, deadline)
            # Once: rows that may have ended two engines wait for what the second one's successor knows of them.
            elsewhere = functools.partial(self._is_elsewhere, ref, client) if left is None else None
            try:
                return await client.infer(ref, tensors, deadline, priority, sends=sends, elsewhere=elsewhere)
            except NotLoaded:
                # It may be unloaded while the rows are on their way. They are not computed then, and may wait again.
                continue
            except MovesOn as moves:
                sends, left = moves.sends, client
            except QueueFull:
                if left is None:
                    raise
                # They were accepted. Where there is no room elsewhere, they wait for the lost engine's successor.
                return await left.infer(ref, tensors, deadline, priority, sends=sends)
        raise NotReady(ref, "it was unloaded again and again before its rows came to their turn")

    def _use(self, view: View) -> None:
        """Connect to engines that are new. An engine's slot stays, whatever becomes of its processes."""
        for info in view.engines:
            if info.slot not in self._clients:
                client = self._clients[info.slot] = self._connect(info, self._tell)
                client.start()
        for client in self._clients.values():
            for ref in client.waiting_for:
                self._ask_for_idle(ref)
        self._tell()

    def _choose(self, ref: Ref) -> EngineClient | None:
        """Of the engines that have the version loaded, the one that owes the fewest rows; those heard lately first."""
        ready = [client for client in self._clients.values() if ref in client.status.ready]
        if len(ready) > 1:
            ready = [client for client in ready if client.is_heard] or ready
        return min(ready, key=lambda client: client.held_rows, default=None)

    def _is_elsewhere(self, ref: Ref, here: EngineClient) -> bool:
        others = (client for client in self._clients.values() if client is not here)
        return any(ref in client.status.ready and client.is_heard for client in others)

    async def _wait_for(self, ref: Ref, tensors: Tensors, deadline: Deadline) -> EngineClient:
        self._bounds.enter(ref, tensors)
        try:
            async with asyncio.timeout(deadline.remaining(self._clock())):
                while (client := self._choose(ref)) is None:
                    news = self._news
                    self._ask_for(ref)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_ASK_AGAIN_SECONDS):
                            await news.wait()
                return client
        except TimeoutError:
            raise NotReady(ref, self.why_unready(ref) or "its engine is starting") from None
        finally:
            self._bounds.leave(ref, tensors)

    def _ask_for(self, ref: Ref) -> None:
        """Have a version loaded. Raises NotReady where it won't be."""
        view = self._fleet.view
        standing = view.versions.get(ref)
        if standing is None and view.scan > 0:
            raise NotReady(ref, "it is served no more", passes=False)
        if standing is not None and standing.state.is_hopeless:
            raise NotReady(ref, standing.reason or "it is not loaded", passes=False)
        self._ask_for_idle(ref)

    def _ask_for_idle(self, ref: Ref) -> None:
        standing = self._fleet.view.versions.get(ref)
        if standing is not None and standing.state is VersionState.ON_DEMAND:
            self._fleet.want(ref)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
