"""When a process has to be replaced although it is there. Pure, but for the reading of /proc."""

from dataclasses import dataclass
from pathlib import Path

from service.watch.blackbox import Doing, Running
from service.watch.evidence import Cause

TICK_SECONDS = 0.25
# Importing torch takes seconds, on a cold and busy machine many.
_START_SECONDS = 120.0
_LEAST_BATCH_SECONDS, _TIMES_PREDICTED = 30.0, 20.0
_LOAD_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Stuck:
    """Why a process must be ended, and the runs that may be what it is stuck in."""

    cause: Cause
    runs: tuple[Running, ...]


@dataclass(slots=True)
class _Unchanged:
    """For how long a value has been seen to stay the same."""

    value: object = None
    seconds: float = 0.0

    def see(self, value: object, elapsed: float) -> float:
        self.seconds = self.seconds + elapsed if value == self.value else 0.0
        self.value = value
        return self.seconds


class Watchdog:
    """Judges one process by what it shows, tick by tick: an engine by its runs too, others by their heartbeat alone.

    Time is what was watched, at most two ticks at once: when this process, or the whole machine, stood still itself,
    the other is not to blame.
    """

    def __init__(self, silent_seconds: float) -> None:
        self._silent_seconds = silent_seconds
        self._last_tick: float | None = None
        self._beat = _Unchanged()
        self._runs: dict[Running, float] = {}

    def judge(self, beat: float, running: tuple[Running, ...], now: float, *, is_stopped: bool = False) -> Stuck | None:
        """Why the process must be ended, and what it is stuck in; None while it need not.

        `beat` is its last sign of life, `is_stopped` whether its process was stopped by a signal: then the silence is
        not the fault of what it runs.
        """
        elapsed = 0.0 if self._last_tick is None else min(now - self._last_tick, 2 * TICK_SECONDS)
        self._last_tick = now
        silent = self._beat.see(beat, elapsed)
        before = self._runs
        # What is seen for the first time may have begun just now.
        self._runs = {run: before[run] + elapsed if run in before else 0.0 for run in running}
        overdue = tuple([run for run, seconds in self._runs.items() if seconds > _longest_run(run)])
        if overdue and not is_stopped:
            return Stuck(Cause.HANG, overdue)
        if silent > (self._silent_seconds if beat else _START_SECONDS):
            # Where all of the process stands still, so does every run, and none shows that it is the one.
            return Stuck(Cause.HANG if running and not is_stopped else Cause.SILENT, running)
        return None


def _longest_run(running: Running) -> float:
    if running.doing is Doing.LOAD:
        return _LOAD_SECONDS
    return max(_LEAST_BATCH_SECONDS, _TIMES_PREDICTED * running.predicted)


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal or a debugger."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "tT"
    except OSError:
        return False
