"""Follows the processes of one slot that show a heartbeat and nothing more: whether they have to end."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from service.watch.evidence import Cause
from service.watch.heartbeat import Heartbeat
from service.watch.keeper import cause_of
from service.watch.watchdog import TICK_SECONDS, Stuck, Watchdog

log = logging.getLogger(__name__)


class BeatKeeper:
    """One for a slot, over all its processes, one after the other; each beats in the file `path`."""

    def __init__(
        self,
        slot: str,
        path: Path,
        silent_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._slot = slot
        self._path = path
        self._silent_seconds = silent_seconds
        self._clock = clock
        self._sleep = sleep
        self._stuck: Stuck | None = None

    def begin(self) -> list[str]:
        """Prepare for the next process; the arguments that it is to be started with."""
        self._stuck = None
        Heartbeat.create(self._path).close()  # its own: by that of the one before, it would have started already
        return ["--heartbeat", str(self._path)]

    async def watch(self, process: asyncio.subprocess.Process) -> None:
        """Kill the process once it has been silent for too long; until cancelled."""
        watchdog = Watchdog(self._silent_seconds)
        with Heartbeat.open(self._path) as beat:
            while (stuck := watchdog.judge(beat.last, (), self._clock())) is None:
                await self._sleep(TICK_SECONDS)
        self._stuck = stuck
        log.error("a process is silent and is killed", extra={"slot": self._slot, "cause": str(stuck.cause)})
        process.kill()

    def end(self, code: int) -> Cause:
        """Take in how the process ended; its cause."""
        return cause_of(code) if self._stuck is None else self._stuck.cause
