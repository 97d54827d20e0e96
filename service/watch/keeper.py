"""Follows the engine processes of one slot: what each is told at its start, and whether and why it has to end."""

import asyncio
import logging
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from service.domain import Ref
from service.processes import EXIT_DEVICE_LOST
from service.telemetry import SupervisorTelemetry
from service.watch.blackbox import BlackBox, Running
from service.watch.evidence import Cause, Death, Evidence
from service.watch.heartbeat import Heartbeat
from service.watch.history import BEAT, BLACK_BOX, HISTORY, History
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
        shutil.rmtree(self._own_folder, ignore_errors=True)  # of one that never started, or was not seen off
        self._incarnation += 1
        self._stuck = None
        folder = self._own_folder
        folder.mkdir(parents=True)
        Heartbeat.create(folder / BEAT).__exit__()
        # One lane more, for what is being loaded.
        BlackBox.create(folder / BLACK_BOX, self._max_rows, self._lanes + 1).__exit__()
        history = History.of(self._incarnation, self.evidence.deaths, self.evidence.verdicts)
        (folder / HISTORY).write_bytes(history.to_bytes())
        return ["--watch", str(folder)]

    async def watch(self, process: asyncio.subprocess.Process) -> None:
        """Kill the process once it has to be replaced; until cancelled."""
        watchdog = Watchdog(self._silent_seconds)
        with Heartbeat.open(self._own_folder / BEAT) as beat, BlackBox.open(self._own_folder / BLACK_BOX) as box:
            while True:
                stopped = is_stopped(process.pid)
                self._stuck = watchdog.judge(beat.last, box.read(), self._clock(), is_stopped=stopped)
                if self._stuck is not None:
                    break
                await self._sleep(TICK_SECONDS)
        what = {"cause": str(self._stuck.cause), "in": _told(self._stuck.runs)}
        log.error("an engine is stuck and is killed", extra=what)
        process.kill()

    def end(self, code: int) -> Cause:
        """Take in how the process ended; its cause."""
        with BlackBox.open(self._own_folder / BLACK_BOX) as box:
            running, told = box.read(), box.was_told_to_stop
        cause, blamed = cause_of(code, told_to_stop=told), running
        if self._stuck is not None:
            cause, blamed = self._stuck.cause, self._stuck.runs
        verdicts = self.evidence.verdicts
        quarantined, withdrawn = set(verdicts.quarantined), set(verdicts.withdrawn)
        self.evidence.weigh(Death(self._incarnation, cause, blamed, self._clock()))
        self._tell(verdicts.quarantined.keys() - quarantined, verdicts.withdrawn.keys() - withdrawn)
        shutil.rmtree(self._own_folder)
        log.warning("an engine ended", extra={"cause": str(cause), "code": code, "while_running": _told(running)})
        return cause

    @property
    def _own_folder(self) -> Path:
        return self._folder / str(self._incarnation)

    def _tell(self, quarantined: set[bytes], withdrawn: set[Ref]) -> None:
        for digest in quarantined:
            ref = self.evidence.verdicts.quarantined[digest]
            log.error("an input is quarantined", extra={"ref": str(ref), "digest": digest.hex()})
            self._telemetry.quarantined.labels(ref.model, ref.version).inc()
        for ref in withdrawn:
            reason = self.evidence.verdicts.withdrawn[ref]
            log.error("a version is taken out", extra={"ref": str(ref), "reason": reason})
            self._telemetry.withdrawn.labels(ref.model, ref.version).inc()


def _told(runs: tuple[Running, ...]) -> str | None:
    """For people."""
    return "; ".join([f"{run.doing.name.lower()} of {run.ref}, {len(run.rows)} rows" for run in runs]) or None


def cause_of(code: int, *, told_to_stop: bool = False) -> Cause:
    """Why a process ended, by its exit code: negative for a signal."""
    if told_to_stop:
        return Cause.OUTSIDE
    if code == EXIT_DEVICE_LOST:
        return Cause.DEVICE
    return Cause.CRASH if code >= 0 or -code in _OWN_SIGNALS else Cause.OUTSIDE
