"""Batches side by side: who gets how many threads, who waits for them, and which rows wait for a batch under way."""

from typing import Any

import pytest

from service.domain import BatchPolicy, Ref
from service.engine.batching import Batch
from service.engine.requests import Row
from service.engine.scheduler import Scheduler, Work
from service.errors import Overloaded
from tests.service.engine.asked import NOW
from tests.service.engine.scheduled import CHEAP, COSTLY, request, scheduler_of

# Threads


def wide() -> Scheduler:
    """Four threads; batches of CHEAP take one, and those of COSTLY three."""
    scheduler = Scheduler(BatchPolicy(max_rows=1), threads=4)
    for ref, width in ((CHEAP, 1), (COSTLY, 3)):
        scheduler.install(ref, threads=width)
    return scheduler


def test_batches_run_side_by_side_as_far_as_there_are_threads() -> None:
    scheduler = wide()
    scheduler.put(request(CHEAP, 3))
    for room in (4, 3, 2):
        work = scheduler.take(NOW, room)
        assert isinstance(work, Work)
        assert work.width == 1
    assert scheduler.take(NOW, 1) is None


def test_who_needs_more_threads_than_are_free_is_not_overtaken() -> None:
    scheduler = wide()
    scheduler.put(request(CHEAP, 2))
    running = scheduler.take(NOW, 4)
    assert isinstance(running, Work)
    scheduler.charge(running, 1.0)
    scheduler.put(request(COSTLY))
    scheduler.put(request(CHEAP, 2))
    assert scheduler.take(NOW, 2) is None
    work = scheduler.take(NOW, 3)
    assert isinstance(work, Work)
    assert (work.ref, work.width) == (COSTLY, 3)


def test_time_on_more_threads_counts_for_more() -> None:
    scheduler = wide()
    for ref in (CHEAP, COSTLY):
        scheduler.put(request(ref, 40))
    taken = []
    for _ in range(20):
        work = scheduler.take(NOW, 4)
        assert isinstance(work, Work)
        scheduler.charge(work, 1.0)
        taken.append(work.ref)
    assert (taken.count(CHEAP), taken.count(COSTLY)) == (15, 5)


def test_what_runs_alone_takes_all_threads() -> None:
    scheduler = wide()
    scheduler.put(request(CHEAP, is_canary=True))
    assert scheduler.take(NOW, 3) is None
    work = scheduler.take(NOW, 4)
    assert isinstance(work, Work)
    assert work.width == 4


@pytest.mark.parametrize("said", [{}, {"threads": 0}, {"threads": 9}])
def test_a_version_that_names_no_threads_or_too_many_takes_all(said: dict[str, Any]) -> None:
    scheduler = Scheduler(BatchPolicy(), threads=4)
    scheduler.install(CHEAP, **said)
    scheduler.put(request(CHEAP))
    assert scheduler.take(NOW, 3) is None
    work = scheduler.take(NOW, 4)
    assert isinstance(work, Work)
    assert work.width == 4


def test_a_wide_version_that_is_held_back_keeps_no_narrow_one_waiting() -> None:
    scheduler = Scheduler(BatchPolicy(max_rows=4, max_delay=0.05), threads=2)
    for ref, width in ((CHEAP, 1), (COSTLY, 2)):
        scheduler.install(ref, threads=width)
    scheduler.put(request(COSTLY))
    scheduler.put(request(CHEAP, 4))
    work = scheduler.take(NOW, 1)
    assert isinstance(work, Work)
    assert work.ref == CHEAP


# How long who comes now waits


def teach(scheduler: Scheduler, ref: Ref, seconds: float, num_rows: int = 1) -> None:
    """Run batches of so many rows that take so long."""
    rows = [Row(request(ref, num_rows), index) for index in range(num_rows)]
    for _ in range(40):
        scheduler.learn(Work(ref, Batch(rows), 0.0, 1, NOW), seconds, NOW)


@pytest.mark.parametrize(("width", "at_once"), [(1, 4), (2, 2), (3, 1), (4, 1)])
def test_what_waits_takes_less_time_where_several_batches_run_at_once(width: int, at_once: int) -> None:
    scheduler = Scheduler(BatchPolicy(max_rows=1), threads=4)
    scheduler.install(CHEAP, threads=width)
    teach(scheduler, CHEAP, 1.0)
    for _ in range(8):
        scheduler.put(request(CHEAP))
    with pytest.raises(Overloaded) as raised:
        scheduler.put(request(CHEAP, deadline=NOW + 1.2))
    assert raised.value.wait == pytest.approx(8 / at_once)
    # Batches of one size only were seen: what was learned is trusted by half.
    scheduler.put(request(CHEAP, deadline=NOW + 0.5 + 0.5 * 8 / at_once + 0.1))


@pytest.mark.parametrize(("width", "wait"), [(3, 0.4), (4, 0.9)])
def test_who_needs_several_threads_waits_until_as_many_are_free(width: int, wait: float) -> None:
    scheduler = Scheduler(BatchPolicy(max_rows=1), threads=4)
    scheduler.install(CHEAP, threads=1)
    scheduler.install(COSTLY, threads=width)
    teach(scheduler, CHEAP, 1.0)
    teach(scheduler, COSTLY, 0.01)
    for taken in (NOW, NOW + 0.5):
        scheduler.put(request(CHEAP))
        assert isinstance(scheduler.take(taken, 4), Work)
    with pytest.raises(Overloaded) as raised:
        scheduler.put(request(COSTLY, arrived=NOW + 0.6, deadline=NOW + 0.7))
    assert raised.value.wait == pytest.approx(wait)


def test_a_batch_that_should_have_ended_delays_nobody() -> None:
    scheduler = scheduler_of(CHEAP)
    teach(scheduler, CHEAP, 1.0)
    scheduler.put(request(CHEAP))
    assert isinstance(scheduler.take(NOW, 1), Work)
    scheduler.put(request(CHEAP, arrived=NOW + 5, deadline=NOW + 6.2))


def test_what_runs_alone_waits_until_all_threads_are_free() -> None:
    scheduler = Scheduler(BatchPolicy(max_rows=1), threads=2)
    scheduler.install(CHEAP, threads=1)
    teach(scheduler, CHEAP, 1.0)
    scheduler.put(request(CHEAP))
    assert isinstance(scheduler.take(NOW, 2), Work)
    scheduler.put(request(CHEAP, deadline=NOW + 0.9))
    with pytest.raises(Overloaded):
        scheduler.put(request(CHEAP, deadline=NOW + 0.9, is_canary=True))


def test_who_comes_while_a_thread_is_free_waits_for_no_batch() -> None:
    scheduler = Scheduler(BatchPolicy(max_rows=1), threads=2)
    scheduler.install(CHEAP, threads=1)
    teach(scheduler, CHEAP, 1.0)
    for _ in range(2):
        scheduler.put(request(CHEAP, deadline=NOW + 0.9))
        assert isinstance(scheduler.take(NOW, 1), Work)
    with pytest.raises(Overloaded):
        scheduler.put(request(CHEAP, deadline=NOW + 0.9))


# Rows that wait for a batch of their version


def side_by_side(seconds: float, *, max_rows: int = 4) -> Scheduler:
    """Two threads, a version whose batches take so many seconds, and one batch of it under way."""
    return with_its_batch(seconds, max_rows=max_rows)[0]


def with_its_batch(seconds: float, *, max_rows: int = 4) -> tuple[Scheduler, Work]:
    """As `side_by_side`, and the batch."""
    scheduler = Scheduler(BatchPolicy(max_rows=max_rows), threads=2)
    for ref in (CHEAP, COSTLY):
        scheduler.install(ref, threads=1)
    teach(scheduler, CHEAP, seconds)
    scheduler.put(request(CHEAP))
    work = scheduler.take(NOW, 2)
    assert isinstance(work, Work)
    return scheduler, work


def test_rows_wait_for_a_short_batch_of_their_version_and_leave_together() -> None:
    scheduler = side_by_side(0.004)
    scheduler.put(request(CHEAP))
    assert scheduler.take(NOW, 1) == pytest.approx(0.004)
    scheduler.put(request(CHEAP))
    work = scheduler.take(NOW + 0.004, 1)
    assert isinstance(work, Work)
    assert len(work.batch) == 2


def test_five_milliseconds_are_the_most_that_rows_wait_for_a_batch_of_their_version() -> None:
    scheduler = side_by_side(0.005)
    scheduler.put(request(CHEAP))
    assert scheduler.take(NOW, 1) == pytest.approx(0.005)


def test_rows_do_not_wait_for_a_long_batch_of_their_version() -> None:
    scheduler = side_by_side(0.006)
    scheduler.put(request(CHEAP))
    assert isinstance(scheduler.take(NOW, 1), Work)


def test_a_full_batch_waits_for_none() -> None:
    scheduler = side_by_side(0.004)
    scheduler.put(request(CHEAP, 4))
    assert isinstance(scheduler.take(NOW, 1), Work)


def test_a_version_that_is_closed_waits_for_nothing() -> None:
    scheduler = side_by_side(0.004)
    scheduler.put(request(CHEAP))
    scheduler.close(CHEAP)
    assert isinstance(scheduler.take(NOW, 1), Work)


def test_who_waits_for_its_own_batch_keeps_no_other_version_waiting() -> None:
    scheduler = side_by_side(0.004)
    scheduler.put(request(CHEAP))
    scheduler.put(request(COSTLY))
    work = scheduler.take(NOW, 1)
    assert isinstance(work, Work)
    assert work.ref == COSTLY


def test_a_row_waits_so_long_once_and_not_for_one_batch_after_another() -> None:
    scheduler, first = with_its_batch(0.004)
    teach(scheduler, CHEAP, 0.004, num_rows=4)
    scheduler.put(request(CHEAP, 4))
    second = scheduler.take(NOW + 0.002, 1)
    assert isinstance(second, Work)  # it is full
    assert second.until == pytest.approx(NOW + 0.006, abs=0.0001)
    scheduler.put(request(CHEAP, arrived=NOW + 0.0005))
    assert scheduler.take(NOW + 0.003, 1) == pytest.approx(0.001)
    scheduler.charge(first, 0.0041)
    assert isinstance(scheduler.take(NOW + 0.0041, 1), Work)


def test_a_row_does_not_wait_past_its_deadline() -> None:
    scheduler = side_by_side(0.004)
    scheduler.put(request(CHEAP, deadline=NOW + 0.0055))
    assert isinstance(scheduler.take(NOW, 1), Work)


def test_a_batch_that_is_full_by_its_elements_waits_for_none() -> None:
    scheduler = side_by_side(0.004, max_rows=8)
    scheduler.put(request(CHEAP, 2))
    assert scheduler.take(NOW, 1) == pytest.approx(0.004)
    scheduler.limit_elements(CHEAP, 2, until=NOW + 60)
    assert isinstance(scheduler.take(NOW, 1), Work)
