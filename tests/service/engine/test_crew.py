"""Threads that run batches side by side: how fast they are together, and that nothing is lost of them."""

import threading
import time

import numpy as np
import pytest

from models.preprocess.tensors import Array
from service.engine.crew import Crew
from service.engine.quiet import core_time
from tests.fakes import ManualClock
from tests.patience import PATIENCE

NOTHING = np.zeros(1, np.float32)


class Shared:
    """Batches that take a second each, and have what they compute with for themselves."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._lock = threading.Lock()

    def __call__(self) -> Array:
        with self._lock:
            self._clock.advance(1.0)
        return NOTHING


class Overlapping:
    """Batches that take a second each, so many side by side."""

    def __init__(self, clock: ManualClock, number: int) -> None:
        self._all_there = threading.Barrier(number, lambda: clock.advance(1.0))

    def __call__(self) -> Array:
        self._all_there.wait(PATIENCE)
        return NOTHING


def test_batches_that_wait_for_one_another_are_as_fast_together_as_one_after_another() -> None:
    clock = ManualClock()
    with Crew(3, clock) as crew:
        assert crew.together(Shared(clock), 20.0).pace == pytest.approx(1.0)


def test_batches_side_by_side_are_as_many_times_as_fast() -> None:
    clock = ManualClock()
    with Crew(3, clock) as crew:
        stint = crew.together(Overlapping(clock, 3), 2.5)
    assert stint.pace == pytest.approx(1 / 3)
    assert [share.seconds for share in stint.shares] == [(1.0, 1.0, 1.0)] * 3


def test_what_runs_alone_has_nothing_beside_it() -> None:
    clock = ManualClock()
    with Crew(3, clock) as crew:
        assert crew.alone(Overlapping(clock, 1), 1.5) == (1.0, 1.0)


def test_where_one_fails_nobody_waits_for_it_and_its_error_is_told() -> None:
    turns = iter(range(8))

    def fail_once() -> Array:
        if next(turns) == 1:
            raise ValueError("broken")
        return NOTHING

    with Crew(8) as crew, pytest.raises(ValueError, match="broken"):
        crew.together(fail_once, 0.0)


def test_its_threads_end_with_it() -> None:
    before = set(threading.enumerate())
    with Crew(2) as crew:
        crew.together(lambda: NOTHING, 0.0)
        assert len(set(threading.enumerate()) - before) == 2
    assert set(threading.enumerate()) <= before


def test_what_its_threads_ran_is_seen_while_it_is_there() -> None:
    def burn() -> Array:
        until = time.thread_time() + 0.02
        while time.thread_time() < until:
            pass
        return NOTHING

    with Crew(2) as crew:
        before = core_time().ran
        crew.together(burn, 0.0)
        assert core_time().ran - before >= 2 * 2 * 0.02e9
