"""Which version other back ends are tried on, and when: one at a time, while the machine is quiet."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.domain import Execution, Ref
from service.tasks import stop_tasks

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 60.0, 3600.0


class NotQuiet(Exception):
    """The machine was too busy to time anything."""


class TrialFailed(Exception):
    """Trying back ends failed, and would again; the text says why."""


@dataclass(frozen=True, slots=True)
class Untried:
    """A version that answers, and that nothing was tried for on this machine. `running`: how it computes now; `asked`:
    when it was last asked for.
    """

    ref: Ref
    identity: str
    folder: Path
    running: Execution
    asked: float = 0.0
    is_aliased: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far trying other back ends on a version has come, in words.

    `is_pending`: it is not over; `is_found`: something runs it better than what does now, and is used once it is loaded
    anew. `ends` is when a pause ends; `times`, how often the machine was not quiet enough.
    """

    reason: str
    is_pending: bool = True
    is_found: bool = False
    ends: float = 0.0
    times: int = 0


def next_untried(untried: Sequence[Untried], progress: Mapping[str, Progress], now: float) -> Untried | None:
    """The one to try next, if any: the most recently asked for, else one that an alias names."""
    due = [one for one in untried if (known := progress.get(one.identity)) is None or now >= known.ends]
    return min(due, key=lambda one: (-one.asked, not one.is_aliased, one.ref), default=None)


def is_another(chosen: Mapping[str, Any], running: Execution) -> bool:
    """Whether what was chosen computes in another way than what runs; where nothing passed, that runs on."""
    how = running.backend, running.precision, running.threads
    return chosen["backend"] is not None and (chosen["backend"], chosen["precision"], chosen["threads"]) != how


def busy_share(before: Sequence[int], after: Sequence[int]) -> float:
    """The share of the cores' time that was used, from two readings of the machine's line in /proc/stat; 1 without."""
    spent = [now - then for then, now in zip(before, after, strict=False)]
    # proc(5): user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of user and nice.
    return 1.0 if sum(spent[:8]) <= 0 else 1.0 - sum(spent[3:5]) / sum(spent[:8])


def read_ticks() -> list[int]:
    """What the machine's cores have spent their time on; empty where the kernel doesn't say."""
    try:
        with Path("/proc/stat").open() as file:
            return [int(word) for word in file.readline().split()[1:]]
    except (OSError, ValueError):
        return []


TryOut = Callable[[Path], Awaitable[Mapping[str, Any]]]
"""Tries back ends on a checkpoint and has engines find out; what was chosen, of which `backend` None says that nothing
passed; else there are `precision` and `threads` too. Raises NotQuiet and TrialFailed.
"""


class Optimizer:
    """Tries back ends on versions while `run` runs; `tell` is called whenever there is news of it.

    A trial that fails is not repeated. One that found the machine too busy is, after a pause that grows.
    """

    def __init__(
        self,
        try_out: TryOut,
        *,
        max_busy: float,
        tell: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        ticks: Callable[[], Sequence[int]] = read_ticks,
    ) -> None:
        self.tell = tell
        self._try_out = try_out
        self._max_busy = max_busy
        self._clock = clock
        self._ticks = ticks
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

    async def run(self) -> None:
        """Look for something to try, and try it, until cancelled."""
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
        self.tell()
