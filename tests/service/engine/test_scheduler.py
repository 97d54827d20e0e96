import weakref
from typing import Any

import pytest

from service.domain import BatchPolicy, Ref
from service.engine.batching import Batch
from service.engine.requests import Request, Row
from service.engine.scheduler import Scheduler, Work
from service.errors import NotReady, Overloaded, QueueFull
from tests.service.engine import asked
from tests.service.engine.asked import NOW

CHEAP, COSTLY, OTHER = Ref("cnn", 1), Ref("transformer", 1), Ref("mlp", 1)
SECONDS = {CHEAP: 0.002, COSTLY: 0.1, OTHER: 0.01}


def request(ref: Ref, num_rows: int = 1, **more: Any) -> Request:
    return asked.request(num_rows, ref=ref, **more)


def scheduler_of(*refs: Ref, policy: BatchPolicy | None = None) -> Scheduler:
    scheduler = Scheduler(policy or BatchPolicy(max_rows=1))
    for ref in refs:
        scheduler.install(ref)
    return scheduler


def serve(scheduler: Scheduler, seconds: float) -> dict[Ref, float]:
    """Run what is chosen until the time is used up; the device time that each version got."""
    used = dict.fromkeys(SECONDS, 0.0)
    while sum(used.values()) < seconds:
        work = scheduler.take(NOW, 1)
        assert isinstance(work, Work)
        scheduler.charge(work, SECONDS[work.ref])
        used[work.ref] += SECONDS[work.ref]
        scheduler.put(request(work.ref))  # its callers ask again
    return used


def test_versions_that_always_have_work_share_the_time_evenly() -> None:
    scheduler = scheduler_of(CHEAP, COSTLY)
    for ref in (CHEAP, COSTLY):
        scheduler.put(request(ref))
    used = serve(scheduler, 10)
    assert used[CHEAP] == pytest.approx(used[COSTLY], abs=2 * SECONDS[COSTLY])


def test_a_cheap_version_waits_for_one_costly_batch_at_most() -> None:
    scheduler = scheduler_of(CHEAP, COSTLY)
    for _ in range(50):
        scheduler.put(request(COSTLY))
    serve(scheduler, 1)
    scheduler.put(request(CHEAP))
    work = scheduler.take(NOW, 1)
    assert isinstance(work, Work)
    assert work.ref == CHEAP


def test_a_version_that_was_idle_has_saved_up_no_time() -> None:
    scheduler = scheduler_of(CHEAP, COSTLY, OTHER)
    scheduler.put(request(COSTLY))
    serve(scheduler, 10)  # OTHER asks for nothing meanwhile
    scheduler.put(request(OTHER))
    used = serve(scheduler, 4)
    assert used[OTHER] == pytest.approx(used[COSTLY], abs=2 * SECONDS[COSTLY])


def test_a_version_that_is_added_late_has_saved_up_no_time() -> None:
    scheduler = scheduler_of(COSTLY)
    scheduler.put(request(COSTLY))
    serve(scheduler, 10)
    scheduler.install(OTHER)
    scheduler.put(request(OTHER))
    used = serve(scheduler, 4)
    assert used[OTHER] == pytest.approx(used[COSTLY], abs=2 * SECONDS[COSTLY])


def test_a_version_that_had_the_device_to_itself_does_not_pay_for_it_later() -> None:
    scheduler = scheduler_of(COSTLY, OTHER)
    scheduler.put(request(COSTLY))
    serve(scheduler, 10)
    scheduler.put(request(OTHER))
    chosen = []
    for _ in range(24):
        work = scheduler.take(NOW, 1)
        assert isinstance(work, Work)
        scheduler.charge(work, SECONDS[work.ref])
        scheduler.put(request(work.ref))
        chosen.append(work.ref)
    assert COSTLY in chosen


def test_what_waits_is_counted_by_version() -> None:
    scheduler = scheduler_of(CHEAP, COSTLY)
    gone = request(CHEAP, 3)
    scheduler.put(gone)
    scheduler.put(request(COSTLY, 2))
    assert (scheduler.waiting(CHEAP), scheduler.waiting(COSTLY)) == (3, 2)
    assert scheduler.remove(gone) == 3
    assert scheduler.waiting(CHEAP) == 0


def test_a_row_of_any_version_is_something_that_waits() -> None:
    scheduler = scheduler_of(CHEAP, COSTLY)
    assert not scheduler.has_waiting
    scheduler.put(request(COSTLY))
    assert scheduler.has_waiting


def test_an_unknown_version_is_not_ready() -> None:
    with pytest.raises(NotReady) as raised:
        scheduler_of(CHEAP).put(request(COSTLY))
    assert (raised.value.ref, raised.value.reason) == (COSTLY, "it is not loaded on this engine")


def test_a_version_that_is_being_unloaded_is_not_ready() -> None:
    scheduler = scheduler_of(CHEAP)
    scheduler.put(request(CHEAP))
    scheduler.close(CHEAP)
    with pytest.raises(NotReady) as raised:
        scheduler.put(request(CHEAP))
    assert (raised.value.ref, raised.value.reason) == (CHEAP, "it is being unloaded")
    assert scheduler.waiting(CHEAP) == 1


def test_the_age_of_a_version_is_that_of_its_oldest_row() -> None:
    scheduler = scheduler_of(CHEAP, COSTLY)
    for arrived in (NOW, NOW + 2):
        scheduler.put(request(CHEAP, arrived=arrived))
    assert (scheduler.age(CHEAP, NOW + 3), scheduler.age(COSTLY, NOW + 3)) == (3.0, 0.0)


def test_each_version_has_its_own_bound() -> None:
    scheduler = scheduler_of(CHEAP, COSTLY, policy=BatchPolicy(max_queued_rows=2))
    scheduler.put(request(CHEAP, 2))
    with pytest.raises(QueueFull):
        scheduler.put(request(CHEAP))
    scheduler.put(request(COSTLY, 2))


@pytest.mark.parametrize("refs", [(CHEAP, COSTLY), (COSTLY, CHEAP)])
def test_where_all_are_held_back_the_shortest_wait_counts(refs: tuple[Ref, Ref]) -> None:
    scheduler = scheduler_of(*refs, policy=BatchPolicy(max_delay=1.0))
    assert scheduler.take(NOW, 1) is None
    scheduler.put(request(CHEAP, arrived=NOW))
    scheduler.put(request(COSTLY, arrived=NOW - 0.75))
    assert scheduler.take(NOW, 1) == 0.25
    work = scheduler.take(NOW + 0.25, 1)
    assert isinstance(work, Work)
    assert work.ref == COSTLY
    assert scheduler.take(NOW + 0.25, 1) == 0.75


def test_a_version_that_is_held_back_keeps_no_other_waiting() -> None:
    scheduler = scheduler_of(CHEAP, COSTLY, policy=BatchPolicy(max_delay=1.0, max_rows=2))
    scheduler.put(request(CHEAP))
    scheduler.put(request(COSTLY, 2))
    work = scheduler.take(NOW, 1)
    assert isinstance(work, Work)
    assert work.ref == COSTLY


def test_late_requests_of_all_versions_are_dropped() -> None:
    scheduler = scheduler_of(CHEAP, COSTLY)
    first, second = request(CHEAP, deadline=NOW), request(COSTLY, 2, deadline=NOW)
    for each in (first, second, request(COSTLY, deadline=NOW + 1)):
        scheduler.put(each)
    assert scheduler.drop_late(NOW) == [(first, 1), (second, 2)]
    assert scheduler.waiting(COSTLY) == 1


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


def test_a_wide_version_that_is_held_back_keeps_no_narrow_one_waiting() -> None:
    scheduler = Scheduler(BatchPolicy(max_rows=4, max_delay=0.05), threads=2)
    for ref, width in ((CHEAP, 1), (COSTLY, 2)):
        scheduler.install(ref, threads=width)
    scheduler.put(request(COSTLY))
    scheduler.put(request(CHEAP, 4))
    work = scheduler.take(NOW, 1)
    assert isinstance(work, Work)
    assert work.ref == CHEAP


def in_eights(num_rows: int, longest: int) -> tuple[int, int]:
    return -(-num_rows // 8) * 8, longest


def test_batches_are_of_the_sizes_that_a_version_is_run_in() -> None:
    scheduler = Scheduler(BatchPolicy())
    scheduler.install(CHEAP, in_eights)
    for _ in range(9):
        scheduler.put(request(CHEAP, lengths=[256]))
    work = scheduler.take(NOW, 1)
    assert isinstance(work, Work)
    assert len(work.batch) == 8


def test_an_error_that_is_kept_keeps_nothing_of_what_ran_a_version() -> None:
    def sizes(num_rows: int, longest: int) -> tuple[int, int]:
        return num_rows, longest

    scheduler, kept = Scheduler(BatchPolicy(max_queued_rows=1)), weakref.ref(sizes)
    scheduler.install(CHEAP, sizes)
    del sizes
    with pytest.raises(QueueFull) as raised:
        scheduler.put(request(CHEAP, 2))
    assert kept() is not None
    scheduler.discard(CHEAP)
    assert kept() is None
    assert raised.value.ref == CHEAP


def run_once(scheduler: Scheduler, seconds: float) -> float:
    """Run one row in so many seconds; those that were expected."""
    scheduler.put(request(CHEAP))
    work = scheduler.take(NOW, 1)
    assert isinstance(work, Work)
    scheduler.charge(work, seconds)
    scheduler.learn(work, seconds, NOW)
    return work.predicted


def test_what_batches_cost_is_known_still_when_a_version_comes_back() -> None:
    scheduler = Scheduler(BatchPolicy())
    scheduler.install(CHEAP, how="eager")
    run_once(scheduler, 0.5)
    scheduler.discard(CHEAP)
    scheduler.install(CHEAP, how="eager")
    assert run_once(scheduler, 0.5) == pytest.approx(0.5)


def test_what_computes_otherwise_may_cost_another_time_and_what_waits_is_kept() -> None:
    scheduler = Scheduler(BatchPolicy())
    scheduler.install(CHEAP, how="eager")
    run_once(scheduler, 0.5)
    scheduler.put(request(CHEAP, 2))
    scheduler.install(CHEAP, how="openvino")
    assert scheduler.waiting(CHEAP) == 2
    assert run_once(scheduler, 0.5) == 0
