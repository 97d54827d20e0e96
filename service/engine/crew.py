"""Threads that run a network's batches side by side, as an engine's lanes do, to see how fast they are together."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Self

from models.preprocess.tensors import Array

Run = Callable[[], Array]


@dataclass(frozen=True, slots=True)
class Share:
    """What one thread did: the seconds of each of its batches, when the last had ended, and what this answered."""

    seconds: tuple[float, ...]
    ended: float
    answer: Array


@dataclass(frozen=True, slots=True)
class Stint:
    """What all threads did from `began` on, beside one another."""

    began: float
    shares: tuple[Share, ...]

    @property
    def pace(self) -> float:
        """Seconds in which one batch was done, with all threads at it."""
        took = max(share.ended for share in self.shares) - self.began
        return took / sum(len(share.seconds) for share in self.shares)


class Crew:
    """So many threads, that are there until it is closed: of one that has ended nobody can tell how long it waited for
    a core. A context manager.
    """

    def __init__(self, number: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._number = number
        self._clock = clock
        self._threads = ThreadPoolExecutor(number, "crew")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()

    def alone(self, run: Run, seconds: float) -> tuple[float, ...]:
        """The seconds of each batch that one thread runs, with nothing beside it. Raises what `run` raises."""
        return self._stint(run, seconds, 1).shares[0].seconds

    def together(self, run: Run, seconds: float) -> Stint:
        """Have all run batches for so long, each at least one. Raises what `run` raises."""
        return self._stint(run, seconds, self._number)

    def _stint(self, run: Run, seconds: float, number: int) -> Stint:
        began = 0.0

        def begin() -> None:
            nonlocal began
            began = self._clock()

        ready = threading.Barrier(number, begin)

        def work() -> Share:
            try:
                run()  # untimed: another network's weights are in the caches
            except BaseException:
                ready.abort()  # the others would wait for this one for ever
                raise
            ready.wait()
            return self._share(run, began + seconds)

        shares = [self._threads.submit(work) for _ in range(number)]
        _raise_first(shares)
        return Stint(began, tuple([share.result() for share in shares]))

    def _share(self, run: Run, until: float) -> Share:
        found = []
        while True:
            started = self._clock()
            answer = run()
            ended = self._clock()
            found.append(ended - started)
            if ended > until:
                return Share(tuple(found), ended, answer)


def _raise_first(futures: Iterable[Future[Share]]) -> None:
    """Once all have ended, raise what failed, rather than that others waited for it in vain."""
    errors = [error for future in wait(futures).done if (error := future.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
