"""What the store says shall be, followed by the processes that act on it."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from service.errors import StoreUnavailable
from service.process.tasks import stop_tasks
from service.store.base import ControlReader, State

log = logging.getLogger(__name__)

# A change made anywhere is to be seen here within 250 ms; the rest of that is for a busy machine.
_POLL_SECONDS = 0.1
NOTHING = State(-1, {})


class StateFollower:
    """Use as an async context manager: inside, `apply` is called with the store's state at every new revision.

    While the store can't be read, `state` goes on to be what was read last; `known` is what was applied before.
    """

    def __init__(self, store: ControlReader, apply: Callable[[State], None], *, known: State = NOTHING) -> None:
        self._store = store
        self._apply = apply
        self.state = known
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._follower: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._follower = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._follower is not None
        await stop_tasks(self._follower)
        self._thread.shutdown()

    async def refresh(self) -> None:
        """Apply the store's state if it is newer than ours. Raises StoreUnavailable."""
        loop = asyncio.get_running_loop()
        if await loop.run_in_executor(self._thread, self._store.revision) <= self.state.revision:
            return
        state = await loop.run_in_executor(self._thread, self._store.state)
        # Another refresh may have been quicker, with a newer state.
        if state.revision > self.state.revision:
            self.state = state
            self._apply(state)

    async def take_up(self) -> None:
        """Know what was just changed, before the next look: where the store can't be read, that will show it."""
        with contextlib.suppress(StoreUnavailable):
            await self.refresh()

    async def _follow(self) -> None:
        reachable = True
        while True:
            try:
                await self.refresh()
                reachable = True
            except StoreUnavailable as error:
                if reachable:
                    log.error("the store's state can't be followed", extra={"reason": error.reason})
                reachable = False
            await asyncio.sleep(_POLL_SECONDS)
