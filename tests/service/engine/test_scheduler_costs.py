"""What a scheduler makes of the costs that it knows: batches of one version that another need not wait for long."""

import pytest

from service.domain import BatchPolicy, Ref
from service.engine.batching import Batch
from service.engine.requests import Row
from service.engine.scheduler import Scheduler, Work
from service.errors import Overloaded
from tests.service.engine.asked import NOW
from tests.service.engine.taught import A_ROW, FIXED, REF, request

OTHER = Ref("cnn", 1)


def scheduler() -> Scheduler:
    scheduler = Scheduler(BatchPolicy(max_batch_seconds=0.1))
    for ref in (REF, OTHER):
        scheduler.install(ref)
        scheduler.put(request(ref=ref))
    for num_rows in (1, 2, 4, 8, 16, 32) * 20:
        rows = Batch([Row(request(num_rows), index) for index in range(num_rows)])
        scheduler.learn(Work(REF, rows, predicted=0.0, width=1, until=NOW), FIXED + A_ROW * num_rows, NOW)
    for _ in range(2):
        work = scheduler.take(NOW, 1)
        assert isinstance(work, Work)
        scheduler.charge(work, 0.0)
    return scheduler


def test_while_another_version_wants_the_device_a_batch_is_capped() -> None:
    shared = scheduler()
    shared.put(request(64, ref=REF))
    shared.put(request(ref=OTHER, arrived=NOW))
    sizes = {}
    for _ in range(2):
        work = shared.take(NOW, 1)
        assert isinstance(work, Work)
        shared.charge(work, work.predicted)
        sizes[work.ref] = len(work.batch)
    assert sizes[OTHER] == 1
    assert sizes[REF] == pytest.approx(9, abs=1)


def sole_work(shared: Scheduler, *, after: float) -> Work:
    """What runs when 64 rows of one version come so many seconds later, and none of another's wait."""
    shared.put(request(64, ref=REF, arrived=NOW + after))
    work = shared.take(NOW + after, 1)
    assert isinstance(work, Work)
    return work


def test_a_version_that_is_asked_every_few_seconds_counts_as_wanting_the_device() -> None:
    assert sole_work(scheduler(), after=59.9).predicted <= 0.1


def test_a_version_whose_row_waits_wants_the_device_however_long_it_has_waited() -> None:
    shared = scheduler()
    shared.put(request(ref=OTHER))
    shared.charge(Work(OTHER, Batch([]), predicted=0.0, width=1, until=NOW), 10.0)  # so that its turn comes later
    assert sole_work(shared, after=61).predicted <= 0.1


def test_a_version_that_has_the_device_to_itself_is_not_capped() -> None:
    work = sole_work(scheduler(), after=60)
    assert len(work.batch) == 32
    assert work.predicted == pytest.approx(0.33, rel=0.05)


def test_the_canary_of_a_version_that_nobody_asks_keeps_no_batch_small() -> None:
    shared = scheduler()
    shared.put(request(ref=OTHER, arrived=NOW + 60, is_canary=True))
    assert isinstance(shared.take(NOW + 60, 1), Work)
    assert len(sole_work(shared, after=61).batch) == 32


def test_what_runs_now_delays_who_comes_now() -> None:
    shared = scheduler()
    shared.put(request(32, ref=REF, arrived=NOW + 61))
    work = shared.take(NOW + 61, 1)
    assert isinstance(work, Work)
    with pytest.raises(Overloaded):
        shared.put(request(ref=REF, seconds=0.05, arrived=NOW + 61))
    shared.charge(work, 0.33)
    shared.put(request(ref=REF, seconds=0.05, arrived=NOW + 61))
