"""What the store says shall be, followed by the processes that act on it; aliases moved and looked back on."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, Self

from service.errors import StoreUnavailable
from service.store.base import AliasMove, ControlReader, State
from service.tasks import stop_tasks

log = logging.getLogger(__name__)

# A move made anywhere is to be seen here within 250 ms; the rest of that is for a busy machine.
_POLL_SECONDS = 0.1
NOTHING = State(-1, {})


class StateFollower:
    """Use as an async context manager: inside, `apply` is called with the store's state at every new revision.

    While the store can't be read, what was known last goes on to hold; `known` is what was applied before.
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


class AliasMover(Protocol):
    """Who may change what aliases name."""

    async def move_alias(
        self, model: str, alias: str, version: int, *, actor: str, reason: str, expected: int | None = None
    ) -> AliasMove: ...


class LiveAliases(StateFollower):
    """The follower in an http process, where aliases are moved too."""

    def __init__(
        self, store: ControlReader, mover: AliasMover, apply: Callable[[State], None], *, known: State = NOTHING
    ) -> None:
        super().__init__(store, apply, known=known)
        self._mover = mover

    async def move(
        self, model: str, alias: str, version: int, *, actor: str, reason: str, expected: int | None = None
    ) -> AliasMove:
        """Let an alias name another version; this process has taken it up when this returns.

        Raises UnknownModel, UnknownVersion, AliasMoved or StoreUnavailable.
        """
        move = await self._mover.move_alias(model, alias, version, actor=actor, reason=reason, expected=expected)
        with contextlib.suppress(StoreUnavailable):  # it is moved; the next look will show it
            await self.refresh()
        return move

    async def history(self, model: str, *, limit: int) -> list[AliasMove]:
        """The moves of a model's aliases, the newest first. Raises StoreUnavailable."""
        return await asyncio.to_thread(self._store.history, model, limit=limit)
