"""Has other back ends tried on versions: one at a time, while the machine is quiet."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from service.process.tasks import stop_tasks
from service.reconciling.busyness import busy_share, read_ticks
from service.reconciling.progress import Progress, Untried, is_another, next_untried

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 60.0, 3600.0


class NotQuiet(Exception):
    """The machine was too busy to time anything."""


class TrialFailed(Exception):
    """Trying back ends failed, and would again; the text says why."""


TryOut = Callable[[Path], Awaitable[Mapping[str, Any]]]
"""Tries back ends on a checkpoint and has engines find out; what was chosen, of which `backend` None says that nothing
passed; else there are `precision` and `threads` too. Raises NotQuiet and TrialFailed.
"""


class Optimizer:
    """Tries back ends on versions while `run` runs.

    A trial that fails is not repeated. One that found the machine too busy is, after a pause that grows.
    """

    def __init__(
        self,
        try_out: TryOut,
        *,
        max_busy: float,
        clock: Callable[[], float] = time.monotonic,
        ticks: Callable[[], Sequence[int]] = read_ticks,
    ) -> None:
        self._try_out = try_out
        self._max_busy = max_busy
        self._clock = clock
        self._ticks = ticks
        self._tell: Callable[[], None] = lambda: None
        self._untried: Sequence[Untried] = ()
        self._under_way: tuple[str, asyncio.Task[None]] | None = None
        self.progress: dict[str, Progress] = {}
        """By identity, of the versions for which it has begun."""

    def update(self, untried: Sequence[Untried], wanted: Collection[str]) -> None:
        """Say what may be tried now, and the identities of the versions that are wanted at all.

        A trial of what is wanted no more ends.
        """
        self._untried = untried
        if self._under_way is not None and self._under_way[0] not in wanted:
            self._under_way[1].cancel()

    async def run(self, tell: Callable[[], None]) -> None:
        """Look for something to try, and try it, until cancelled; `tell` is called whenever there is news of it."""
        self._tell = tell
        while True:
            before = self._ticks()
            await asyncio.sleep(LOOK_SECONDS)
            one = next_untried(self._untried, self.progress, self._clock())
            if one is not None and busy_share(before, self._ticks()) <= self._max_busy:
                await self._try(one)

    async def _try(self, one: Untried) -> None:
        log.info("optimising", extra={"ref": str(one.ref)})
        times = self.progress[one.identity].times if one.identity in self.progress else 0
        self._note(one, Progress("other back ends are being tried on it", times=times))
        task = asyncio.create_task(self._outcome(one, times))
        self._under_way = one.identity, task
        try:
            await asyncio.wait([task])
        finally:
            self._under_way = None
            await stop_tasks(task)
        if task.cancelled():
            log.info("it is not optimised, because it is not wanted any more", extra={"ref": str(one.ref)})
            del self.progress[one.identity]

    async def _outcome(self, one: Untried, times: int) -> None:
        started = self._clock()
        try:
            chosen = await self._try_out(one.folder)
        except NotQuiet:
            pause = min(_FIRST_PAUSE_SECONDS * 2.0**times, _LONGEST_PAUSE_SECONDS)
            log.info("it could not be optimised yet: the machine is busy", extra={"ref": str(one.ref), "pause": pause})
            reason = f"the machine was too busy to try other back ends, {times + 1} times; it is tried again"
            self._note(one, Progress(reason, ends=self._clock() + pause, times=times + 1))
        except TrialFailed as error:
            self._fail(one, str(error))
        except Exception as error:
            log.exception("trying back ends failed", extra={"ref": str(one.ref)})
            self._fail(one, type(error).__name__)
        else:
            seconds = round(self._clock() - started, 1)
            log.info("optimised", extra={"ref": str(one.ref), "seconds": seconds, **chosen})
            if is_another(chosen, one.running):
                said = "what was found for it is used once it is loaded anew, for which it needs room beside itself"
                self._note(one, Progress(said, is_found=True, ends=math.inf))
            else:
                self._note(one, Progress("what runs it is the best that was found", is_pending=False, ends=math.inf))

    def _fail(self, one: Untried, reason: str) -> None:
        log.error("it could not be optimised", extra={"ref": str(one.ref), "reason": reason})
        said = f"trying other back ends failed: {reason}"
        self._note(one, Progress(said, is_pending=False, ends=math.inf))

    def _note(self, one: Untried, progress: Progress) -> None:
        self.progress[one.identity] = progress
        self._tell()
