"""One timer for the deadlines of many requests."""

import asyncio
import math
from collections.abc import Callable


class Lateness:
    """Calls `look` once the earliest instant has come that it was told of; `look` tells it of those that are left.

    Most requests are answered before their deadline, and a timer for each costs more than all looks.
    """

    def __init__(self, look: Callable[[], None], clock: Callable[[], float]) -> None:
        self._look = look
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._next = math.inf

    def watch(self, instant: float) -> None:
        """Have a look by this instant of the clock."""
        if instant >= self._next:
            return
        self.stop()
        self._next = instant
        self._timer = asyncio.get_running_loop().call_later(instant - self._clock(), self._ring)

    def stop(self) -> None:
        """Have no look, until it is told of another instant."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._next = None, math.inf

    def _ring(self) -> None:
        self._timer, self._next = None, math.inf
        self._look()
