"""Follows the engine processes of one slot: what each is told at its start, and whether and why it has to end."""

import asyncio
import logging
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from service.process.lifetime import EXIT_DEVICE_LOST
from service.telemetry.instruments import SupervisorTelemetry
from service.watch.blackbox import Running
from service.watch.evidence import Cause, Death, Evidence, Verdicts
from service.watch.folder import WatchFolder
from service.watch.history import History
from service.watch.watchdog import TICK_SECONDS, Stuck, Watchdog, is_stopped

log = logging.getLogger(__name__)

# Signals that a process's own instructions raise.
_OWN_SIGNALS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS)


class EngineKeeper:
    """One for a slot, over all its processes; each has a folder of its own, which holds what it shows of itself.

    A process runs at most `lanes` batches at once, each of at most `max_rows` rows.
    """

    def __init__(
        self,
        folder: Path,
        max_rows: int,
        lanes: int,
        silent_seconds: float,
        telemetry: SupervisorTelemetry,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._folder = folder
        self._max_rows = max_rows
        self._lanes = lanes
        self._silent_seconds = silent_seconds
        self._telemetry = telemetry
        self._clock = clock
        self._sleep = sleep
        self._incarnation = 0
        self._stuck: Stuck | None = None
        self.evidence = Evidence()

    def begin(self) -> list[str]:
        """Prepare for the next process; the arguments that it is to be started with."""
        shutil.rmtree(self._own.path, ignore_errors=True)  # of one that never started, or was not seen off
        self._incarnation += 1
        self._stuck = None
        history = History.of(self._incarnation, self.evidence.deaths, self.evidence.verdicts)
        # One lane more, for what is being loaded.
        folder = WatchFolder.create(self._own.path, history, max_rows=self._max_rows, lanes=self._lanes + 1)
        return ["--watch", str(folder.path)]

    async def watch(self, process: asyncio.subprocess.Process) -> None:
        """Kill the process once it has to be replaced; until cancelled."""
        watchdog = Watchdog(self._silent_seconds)
        with self._own.heartbeat() as beat, self._own.black_box() as box:
            while True:
                stopped = is_stopped(process.pid)
                self._stuck = watchdog.judge(beat.last, box.read(), self._clock(), is_stopped=stopped)
                if self._stuck is not None:
                    break
                await self._sleep(TICK_SECONDS)
        what = {"cause": str(self._stuck.cause), "in": _in_words(self._stuck.runs)}
        log.error("an engine is stuck and is killed", extra=what)
        process.kill()

    def end(self, code: int) -> Cause:
        """Take in how the process ended; its cause."""
        with self._own.black_box() as box:
            running, told = box.read(), box.was_told_to_stop
        cause, blamed = cause_of(code, told_to_stop=told), running
        if self._stuck is not None:
            cause, blamed = self._stuck.cause, self._stuck.runs
        self._report_verdicts(self.evidence.weigh(Death(self._incarnation, cause, blamed, self._clock())))
        shutil.rmtree(self._own.path)
        log.warning("an engine ended", extra={"cause": str(cause), "code": code, "while_running": _in_words(running)})
        return cause

    @property
    def _own(self) -> WatchFolder:
        """That of the process that runs, or ran last."""
        return WatchFolder(self._folder / str(self._incarnation))

    def _report_verdicts(self, new: Verdicts) -> None:
        for digest, ref in new.quarantined.items():
            log.error("an input is quarantined", extra={"ref": str(ref), "digest": digest.hex()})
            self._telemetry.quarantined.labels(ref.model, ref.version).inc()
        for ref, reason in new.withdrawn.items():
            log.error("a version is taken out", extra={"ref": str(ref), "reason": reason})
            self._telemetry.withdrawn.labels(ref.model, ref.version).inc()


def _in_words(runs: tuple[Running, ...]) -> str | None:
    """For people; None of nothing."""
    return "; ".join([f"{run.doing.name.lower()} of {run.ref}, {len(run.rows)} rows" for run in runs]) or None


def cause_of(code: int, *, told_to_stop: bool = False) -> Cause:
    """Why a process ended, by its exit code: negative for a signal."""
    if told_to_stop:
        return Cause.OUTSIDE
    if code == EXIT_DEVICE_LOST:
        return Cause.DEVICE
    return Cause.CRASH if code >= 0 or -code in _OWN_SIGNALS else Cause.OUTSIDE
