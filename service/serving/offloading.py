"""Work that would hold up the event loop: done in threads, in turn, and only while somebody waits for it."""

import asyncio
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, TypeVar

from service.domain import Deadline, Ref
from service.errors import ClientLeft, DeadlineExceeded, DecodersBusy

T = TypeVar("T")

Check = Callable[[], None]
"""Raises once the work's result is worth nothing; what takes long asks it now and then."""


class Offloader:
    """Threads, with a bound on how many requests may wait for them."""

    def __init__(self, threads: Executor, max_waiting: int, clock: Callable[[], float]) -> None:
        self._threads = threads
        self._max_waiting = max_waiting
        self._clock = clock
        self._waiting = 0

    async def run(self, work: Callable[[Check], T], ref: Ref, where: str, deadline: Deadline) -> T:
        """The work's result, from a thread.

        Raises DecodersBusy, DeadlineExceeded as soon as the time is up, and whatever the work raises.
        """
        job = _Job(work, ref, where, deadline, self._clock)
        if self._waiting >= self._max_waiting:
            raise DecodersBusy(self._waiting, self._max_waiting)
        self._waiting += 1
        seconds = max(0.0, deadline.remaining(self._clock()))
        try:
            return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(self._threads, job), seconds)
        except TimeoutError:
            raise DeadlineExceeded(ref, where) from None
        except Exception as error:
            # Its frames hold what they worked on and the future, which holds the error: a whole body and all that was
            # made of it, until the garbage collector comes by.
            traceback.clear_frames(error.__traceback__)
            raise
        finally:
            self._waiting -= 1
            job.abandon()


class _Job(Generic[T]):
    """One piece of work. Once abandoned it holds nothing of the request: it may stay in the threads' queue a while."""

    def __init__(
        self, work: Callable[[Check], T], ref: Ref, where: str, deadline: Deadline, clock: Callable[[], float]
    ) -> None:
        self._work: Callable[[Check], T] | None = work
        self._ref, self._where, self._deadline, self._clock = ref, where, deadline, clock

    def __call__(self) -> T:
        work = self._work
        self._check()
        if work is None:
            raise ClientLeft
        return work(self._check)

    def abandon(self) -> None:
        self._work = None

    def _check(self) -> None:
        if self._work is None:
            raise ClientLeft
        if self._deadline.expired(self._clock()):
            raise DeadlineExceeded(self._ref, self._where)
