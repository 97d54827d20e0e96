import pytest

from service.domain import BatchPolicy, Deadline, Ref
from service.engine.requests import Request
from service.engine.scheduler import Scheduler, Work
from service.errors import NotReady, QueueFull

CHEAP, COSTLY, OTHER = Ref("cnn", 1), Ref("transformer", 1), Ref("mlp", 1)
SECONDS = {CHEAP: 0.002, COSTLY: 0.1, OTHER: 0.01}
NOW = 100.0


def request(num_rows: int = 1, *, deadline: float = 1e9, arrived: float = NOW) -> Request:
    return Request(num_rows, Deadline(deadline), arrived)


def scheduler_of(*refs: Ref, policy: BatchPolicy | None = None) -> Scheduler:
    scheduler = Scheduler(policy or BatchPolicy(max_rows=1))
    for ref in refs:
        scheduler.add(ref)
    return scheduler


def serve(scheduler: Scheduler, seconds: float) -> dict[Ref, float]:
    """Run what is chosen until the time is used up; the device time that each version got."""
    used = dict.fromkeys(SECONDS, 0.0)
    while sum(used.values()) < seconds:
        work = scheduler.take(NOW)
        assert isinstance(work, Work)
        scheduler.charge(work.ref, SECONDS[work.ref])
        used[work.ref] += SECONDS[work.ref]
        scheduler.put(work.ref, request())  # its callers ask again
    return used


def test_versions_that_always_have_work_share_the_time_evenly() -> None:
    scheduler = scheduler_of(CHEAP, COSTLY)
    for ref in (CHEAP, COSTLY):
        scheduler.put(ref, request())
    used = serve(scheduler, 10)
    assert used[CHEAP] == pytest.approx(used[COSTLY], abs=2 * SECONDS[COSTLY])


def test_a_cheap_version_waits_for_one_costly_batch_at_most() -> None:
    scheduler = scheduler_of(CHEAP, COSTLY)
    for _ in range(50):
        scheduler.put(COSTLY, request())
    serve(scheduler, 1)
    scheduler.put(CHEAP, request())
    work = scheduler.take(NOW)
    assert isinstance(work, Work)
    assert work.ref == CHEAP


def test_a_version_that_was_idle_has_saved_up_no_time() -> None:
    scheduler = scheduler_of(CHEAP, COSTLY, OTHER)
    scheduler.put(COSTLY, request())
    serve(scheduler, 10)  # OTHER asks for nothing meanwhile
    scheduler.put(OTHER, request())
    used = serve(scheduler, 4)
    assert used[OTHER] == pytest.approx(used[COSTLY], abs=2 * SECONDS[COSTLY])


def test_a_version_that_is_added_late_has_saved_up_no_time() -> None:
    scheduler = scheduler_of(COSTLY)
    scheduler.put(COSTLY, request())
    serve(scheduler, 10)
    scheduler.add(OTHER)
    scheduler.put(OTHER, request())
    used = serve(scheduler, 4)
    assert used[OTHER] == pytest.approx(used[COSTLY], abs=2 * SECONDS[COSTLY])


def test_a_version_that_had_the_device_to_itself_does_not_pay_for_it_later() -> None:
    scheduler = scheduler_of(COSTLY, OTHER)
    scheduler.put(COSTLY, request())
    serve(scheduler, 10)
    scheduler.put(OTHER, request())
    chosen = []
    for _ in range(24):
        work = scheduler.take(NOW)
        assert isinstance(work, Work)
        scheduler.charge(work.ref, SECONDS[work.ref])
        scheduler.put(work.ref, request())
        chosen.append(work.ref)
    assert COSTLY in chosen


def test_what_waits_is_counted_by_version() -> None:
    scheduler = scheduler_of(CHEAP, COSTLY)
    gone = request(3)
    scheduler.put(CHEAP, gone)
    scheduler.put(COSTLY, request(2))
    assert (scheduler.waiting(CHEAP), scheduler.waiting(COSTLY)) == (3, 2)
    assert scheduler.remove(CHEAP, gone) == 3
    assert scheduler.waiting(CHEAP) == 0


def test_an_unknown_version_is_not_ready() -> None:
    with pytest.raises(NotReady) as raised:
        scheduler_of(CHEAP).put(COSTLY, request())
    assert (raised.value.ref, raised.value.reason) == (COSTLY, "it is not loaded on this engine")


def test_each_version_has_its_own_bound() -> None:
    scheduler = scheduler_of(CHEAP, COSTLY, policy=BatchPolicy(max_queued_rows=2))
    scheduler.put(CHEAP, request(2))
    with pytest.raises(QueueFull):
        scheduler.put(CHEAP, request())
    scheduler.put(COSTLY, request(2))


@pytest.mark.parametrize("refs", [(CHEAP, COSTLY), (COSTLY, CHEAP)])
def test_where_all_are_held_back_the_shortest_wait_counts(refs: tuple[Ref, Ref]) -> None:
    scheduler = scheduler_of(*refs, policy=BatchPolicy(max_delay=1.0))
    assert scheduler.take(NOW) is None
    scheduler.put(CHEAP, request(arrived=NOW))
    scheduler.put(COSTLY, request(arrived=NOW - 0.75))
    assert scheduler.take(NOW) == 0.25
    work = scheduler.take(NOW + 0.25)
    assert isinstance(work, Work)
    assert work.ref == COSTLY
    assert scheduler.take(NOW + 0.25) == 0.75


def test_a_version_that_is_held_back_keeps_no_other_waiting() -> None:
    scheduler = scheduler_of(CHEAP, COSTLY, policy=BatchPolicy(max_delay=1.0, max_rows=2))
    scheduler.put(CHEAP, request())
    scheduler.put(COSTLY, request(2))
    work = scheduler.take(NOW)
    assert isinstance(work, Work)
    assert work.ref == COSTLY


def test_late_requests_of_all_versions_are_dropped() -> None:
    scheduler = scheduler_of(CHEAP, COSTLY)
    first, second, third = request(deadline=NOW), request(2, deadline=NOW), request(deadline=NOW + 1)
    scheduler.put(CHEAP, first)
    scheduler.put(COSTLY, second)
    scheduler.put(COSTLY, third)
    assert scheduler.drop_late(NOW) == [(CHEAP, first, 1), (COSTLY, second, 2)]
    assert scheduler.waiting(COSTLY) == 1
