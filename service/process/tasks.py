"""Tasks of the event loop: how they are stopped, and how those that nobody waits for are kept."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def stop_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel them all, and wait until all have ended. Raises what the first of them failed of.

    Whoever waits here may be cancelled, which still takes until all have ended.
    """
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, BaseException) and not isinstance(ended, asyncio.CancelledError):
            raise ended


class Background:
    """Keeps tasks until they end: the event loop alone would let them be collected as garbage before that."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have it done from the next turn of the event loop on; tasks begin in the order of their starts."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def drain(self) -> None:
        """Wait until all that was started has ended. Raises what failed first."""
        await asyncio.gather(*self._tasks)
