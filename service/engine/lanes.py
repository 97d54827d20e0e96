"""The threads that compute: how many batches run at once, and what must run by itself."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Lanes:
    """A device's threads. A run takes a lane, and with it as many of the device's threads as it is wide.

    All methods belong to one event loop; `freed` is called there when a run has ended. What is to run by itself goes
    before all else that has not begun; between two such runs others may begin.
    """

    def __init__(self, width: int, new_thread: Callable[[], ThreadPoolExecutor], freed: Callable[[], None]) -> None:
        self.width = width
        self._new_thread = new_thread
        self._freed = freed
        self._threads: list[ThreadPoolExecutor] = []
        self._idle: list[int] = []
        self._taken = 0
        self._alone = asyncio.Lock()
        self._at_rest = asyncio.Event()
        self._at_rest.set()

    @property
    def room(self) -> int:
        """The threads that a run could take now; none while something runs by itself, or waits to."""
        return 0 if self._alone.locked() else self.width - self._taken

    def run(self, width: int, do: Callable[[int], T]) -> Awaitable[T]:
        """Begin at once, in a lane of `width` threads, for which there must be room; `do` is told the lane's number.

        What is returned has to be awaited: then the lane is free again.
        """
        assert 0 < width <= self.room, f"{width} threads are wanted, there is room for {self.room}"
        return self._begin(width, do)

    def run_here(self, do: Callable[[int], T]) -> T:
        """Run in the thread that calls, with nothing beside it: all of the device's threads must be free."""
        assert self.room == self.width, f"{self.width - self.room} threads are taken"
        lane = self._take(self.width)
        try:
            return do(lane)
        finally:
            self._give_back(self.width, lane)

    async def run_alone(self, do: Callable[[int], T]) -> T:
        """Run with nothing beside it, once what runs now has ended."""
        async with self._alone:
            await self._at_rest.wait()
            return await self._begin(self.width, do)

    async def let_pass(self) -> None:
        """Wait until what runs now has ended, and no lane's thread holds it any more; others may begin meanwhile."""
        loop = asyncio.get_running_loop()
        # A thread holds what it ran until it runs something else.
        await asyncio.gather(*[loop.run_in_executor(thread, _nothing) for thread in self._threads])

    def _begin(self, width: int, do: Callable[[int], T]) -> Awaitable[T]:
        lane = self._take(width)
        running = asyncio.get_running_loop().run_in_executor(self._threads[lane], do, lane)
        return self._until_ended(running, width, lane)

    async def _until_ended(self, running: Awaitable[T], width: int, lane: int) -> T:
        try:
            return await running
        finally:
            del running  # what failed holds this frame, and would hold itself, and with it what ran
            self._give_back(width, lane)

    def _take(self, width: int) -> int:
        lane = self._idle.pop() if self._idle else self._another()
        self._taken += width
        self._at_rest.clear()
        return lane

    def _give_back(self, width: int, lane: int) -> None:
        self._idle.append(lane)
        self._taken -= width
        if not self._taken:
            self._at_rest.set()
        self._freed()

    def _another(self) -> int:
        self._threads.append(self._new_thread())
        return len(self._threads) - 1


def _nothing() -> None:
    return
