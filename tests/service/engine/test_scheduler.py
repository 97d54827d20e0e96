"""Which version runs next, what waits of each, and what a scheduler knows of a version for how long."""

import weakref

import pytest

from service.domain import BatchPolicy, Ref
from service.engine.scheduler import Scheduler, Work
from service.errors import NotReady, QueueFull
from tests.service.engine.asked import NOW
from tests.service.engine.scheduled import CHEAP, COSTLY, OTHER, request, scheduler_of

SECONDS = {CHEAP: 0.002, COSTLY: 0.1, OTHER: 0.01}


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
