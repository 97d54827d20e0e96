"""Whether timings can be believed: how long this process's threads waited for a core that others had."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_TASKS = Path("/proc/self/task")


class NotQuiet(Exception):
    """Others keep the cores too busy to time anything."""


@dataclass(frozen=True, slots=True)
class CoreTime:
    """Nanoseconds in which this process's threads ran, and in which they could have, had a core been free."""

    ran: int
    waited: int

    def waited_share(self, since: "CoreTime") -> float:
        """Of the time in which its threads wanted a core, that in which they had none; 1 where nothing is known."""
        ran, waited = self.ran - since.ran, max(0, self.waited - since.waited)
        return waited / (ran + waited) if ran > 0 else 1.0


def core_time(tasks: Path = _TASKS) -> CoreTime:
    """Of all threads that there are now; zeros where the kernel doesn't say."""
    ran = waited = 0
    for path in tasks.glob("*/schedstat"):
        try:
            times = path.read_text().split()
        except OSError:  # the thread has just ended
            continue
        ran, waited = ran + int(times[0]), waited + int(times[1])
    return CoreTime(ran, waited)


@dataclass(frozen=True, slots=True)
class Timing:
    """How batches are timed: in so many `rounds` in which the process waited for cores at most for a share `max_busy`
    of its time. After `spare` steps that were worse, rounds or others, it gives way to whoever wants the cores.
    """

    rounds: int = 21
    max_busy: float = 1.0
    spare: int = 0
    read: Callable[[], CoreTime] = core_time

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.spare < 0:
            raise ValueError(f"expected at least 1 round and no negative spare, got {self}")


def in_background(max_busy: float) -> Timing:
    """As much as is worth its time where nobody waits for it, and somebody may come at any moment."""
    return Timing(rounds=7, max_busy=max_busy, spare=3)


class Watch:
    """Tells after each step whether it was quiet."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._before = timing.read()
        self._num_disturbed = 0

    def was_quiet(self) -> bool:
        """Whether others left the cores to this process since it was last asked. Raises NotQuiet when too often not."""
        before, self._before = self._before, self._timing.read()
        if self._before.waited_share(before) <= self._timing.max_busy:
            return True
        self._num_disturbed += 1
        if self._num_disturbed > self._timing.spare:
            raise NotQuiet
        return False
