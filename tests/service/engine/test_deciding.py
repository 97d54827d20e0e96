"""What queue and scheduler do with deadlines, priorities, bytes, and what they know of the cost."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import BatchPolicy, Ref
from service.engine.batching import Batch, BatchQueue
from service.engine.requests import Request, Row
from service.engine.scheduler import Scheduler, Work
from service.errors import DeadlineExceeded, Overloaded, QueueFull
from tests.service.engine import asked
from tests.service.engine.asked import NOW

REF, OTHER = Ref("transformer", 1), Ref("cnn", 1)
FIXED, A_ROW = 0.01, 0.01


def request(num_rows: int = 1, *, seconds: float = math.inf, arrived: float = NOW, **more: Any) -> Request:
    return asked.request(num_rows, deadline=arrived + seconds, arrived=arrived, **more)


def teach(queue: BatchQueue) -> None:
    for num_rows in (1, 2, 4, 8, 16, 32) * 20:
        queue.cost.learn(1, num_rows, FIXED + A_ROW * num_rows, NOW)


@pytest.fixture
def queue() -> BatchQueue:
    """A queue that knows that a batch takes 10 ms, and 10 ms a row."""
    queue = BatchQueue(REF, BatchPolicy())
    teach(queue)
    return queue


def batch(queue: BatchQueue, now: float = NOW, **more: float) -> Batch:
    assert queue.held(now) == 0
    return queue.take(now, **more)


# Deadlines


def test_what_waits_is_dropped_as_soon_as_it_can_not_be_met(queue: BatchQueue) -> None:
    soon = request(seconds=1.0)
    queue.put(soon)
    assert queue.drop_late(NOW + 0.97) == []
    assert queue.drop_late(NOW + 0.985) == [(soon, 1)]


def test_a_large_request_is_dropped_while_there_is_time_for_some_of_its_rows_only(queue: BatchQueue) -> None:
    large = request(64, seconds=2.0)  # two full batches: 0.66 s
    queue.put(large)
    assert queue.drop_late(NOW + 1.2) == []
    assert queue.drop_late(NOW + 1.4) == [(large, 64)]


def test_rows_that_have_run_need_no_more_time(queue: BatchQueue) -> None:
    large = request(64, seconds=2.0)
    queue.put(large)
    assert len(batch(queue)) == 32
    assert queue.drop_late(NOW + 1.4) == []
    assert queue.drop_late(NOW + 1.7) == [(large, 32)]


def test_a_batch_is_kept_to_what_its_first_row_has_left(queue: BatchQueue) -> None:
    for _ in range(32):
        queue.put(request(seconds=10))
    assert len(batch(queue, NOW + 9.75)) == pytest.approx(19, abs=1)


def test_where_many_wait_those_who_would_need_a_small_batch_are_dropped(queue: BatchQueue) -> None:
    hurried, patient = request(seconds=0.05), request(31, seconds=100)
    for each in (hurried, patient):
        queue.put(each)
    assert queue.drop_late(NOW) == [(hurried, 1)]


def test_a_batch_that_is_long_enough_by_itself_need_not_be_half_of_what_waits(queue: BatchQueue) -> None:
    queue.put(request(seconds=0.15))
    queue.put(request(63))
    assert queue.drop_late(NOW) == []
    assert len(batch(queue)) == pytest.approx(11, abs=1)


def knowing(max_batch_seconds: float) -> BatchQueue:
    """As `queue`, of which a batch of so many seconds is long enough by itself."""
    queue = BatchQueue(REF, BatchPolicy(max_batch_seconds=max_batch_seconds))
    teach(queue)
    return queue


@pytest.mark.parametrize(
    ("others", "seconds", "stays"),
    [
        (31, 0.19, True),  # 16 rows take 0.17 s
        (31, 0.15, False),
        (63, 0.19, True),  # no batch is larger than 32
        (2, 0.0225, True),  # of three rows one is half
        (1, 0.0225, True),
    ],
)
def test_where_many_wait_the_next_one_must_have_time_for_half_of_them(others: int, seconds: float, stays: bool) -> None:
    queue, hurried = knowing(1.0), request(seconds=seconds)
    queue.put(hurried)
    queue.put(request(others))
    assert queue.drop_late(NOW) == ([] if stays else [(hurried, 1)])


def test_a_row_that_takes_longer_than_a_batch_should_needs_no_time_for_more() -> None:
    queue = knowing(0.001)
    queue.put(request(seconds=0.025))  # alone it takes 0.02 s
    queue.put(request(31))
    assert queue.drop_late(NOW) == []


def test_a_row_that_runs_alone_needs_time_for_itself_only(queue: BatchQueue) -> None:
    queue.put(request(seconds=0.025, digest=b"d" * 16))
    queue.put(request(31))
    assert queue.drop_late(NOW) == []


def slower(queue: BatchQueue) -> None:
    for _ in range(40):
        queue.cost.learn(1, 1, 2.0, NOW)


def test_who_waits_alone_is_tried_though_runs_have_become_slower_since_it_came(queue: BatchQueue) -> None:
    queue.put(request(seconds=1.0))
    slower(queue)
    assert queue.drop_late(NOW) == []


def test_of_two_the_one_is_dropped_that_runs_have_become_too_slow_for(queue: BatchQueue) -> None:
    hurried = request(seconds=1.0)
    queue.put(hurried)
    queue.put(request())
    slower(queue)
    assert queue.drop_late(NOW) == [(hurried, 1)]


def test_what_was_learned_long_ago_refuses_nothing(queue: BatchQueue) -> None:
    queue.put(request(arrived=NOW + 3600, seconds=0.015))


def test_who_has_too_little_time_even_alone_is_told_so(queue: BatchQueue) -> None:
    with pytest.raises(DeadlineExceeded) as raised:
        queue.put(request(seconds=0.015))
    assert (raised.value.ref, raised.value.where) == (REF, "the queue")
    assert len(queue) == 0


@pytest.mark.parametrize(
    ("asked", "least"),
    [
        ({"num_rows": 1}, 0.02),
        ({"num_rows": 32}, 0.33),
        ({"num_rows": 33}, 0.35),  # a full batch, and one of one row
        ({"num_rows": 64}, 0.66),
        ({"num_rows": 3, "is_canary": True}, 0.06),  # each by itself
    ],
)
def test_a_request_is_given_no_less_than_its_own_batches_take(
    queue: BatchQueue, asked: dict[str, Any], least: float
) -> None:
    with pytest.raises(DeadlineExceeded):
        queue.put(request(**asked, seconds=0.95 * least))
    queue.put(request(**asked, seconds=1.05 * least))


def test_a_sequence_is_given_no_less_than_its_longest_row_takes() -> None:
    queue = BatchQueue(REF, BatchPolicy())
    for num_rows in (1, 2, 4, 8) * 20:
        queue.cost.learn(100, num_rows, FIXED + A_ROW * num_rows, NOW)
    with pytest.raises(DeadlineExceeded):
        queue.put(request(lengths=[70, 100, 70], seconds=0.019))
    queue.put(request(lengths=[70, 100, 70], seconds=0.021))


@pytest.mark.parametrize(
    ("bounds", "queued", "limit", "unit"),
    [({"max_queued_rows": 40}, 32, 40, "rows"), ({"max_queued_bytes": 40}, 32, 40, "bytes")],
)
def test_who_finds_a_queue_full_is_told_how_full_and_for_how_long(
    bounds: dict[str, int], queued: int, limit: int, unit: str
) -> None:
    queue = BatchQueue(REF, BatchPolicy(**bounds))
    teach(queue)
    queue.put(request(32))
    with pytest.raises(QueueFull) as raised:
        queue.put(request(9), busy=2.0)
    full = raised.value
    assert (full.ref, full.queued, full.limit, full.unit) == (REF, queued, limit, unit)
    assert full.wait == pytest.approx(2.33, rel=0.01)


def test_who_would_be_late_behind_what_waits_is_refused_with_the_time_that_this_takes(queue: BatchQueue) -> None:
    for _ in range(10):
        queue.put(request(32))  # 0.33 s each
    queue.put(request(seconds=4))
    with pytest.raises(Overloaded) as raised:
        queue.put(request(seconds=3))
    assert raised.value.ref == REF
    assert raised.value.wait == pytest.approx(3.3, rel=0.05)
    assert raised.value.retry_after == 4
    with pytest.raises(Overloaded):
        queue.put(request(seconds=4), busy=2.0)


def test_what_left_is_no_backlog(queue: BatchQueue) -> None:
    queue.put(request(32))
    assert queue.backlog == pytest.approx(0.33, rel=0.05)
    batch(queue)
    assert queue.backlog == 0


def test_a_row_that_runs_alone_is_a_whole_batch_of_backlog(queue: BatchQueue) -> None:
    for digest in (b"a" * 16, b"b" * 16):
        queue.put(request(digest=digest))
    assert queue.backlog == pytest.approx(0.04, rel=0.05)


def test_rows_of_any_priority_are_backlog(queue: BatchQueue) -> None:
    for priority in (1, 9):
        queue.put(request(16, priority=priority))
    assert queue.backlog == pytest.approx(0.33, rel=0.05)


# Holding back


def held_back(*asked: Request, taught: bool = True) -> BatchQueue:
    """A queue that holds rows back for a second; it knows that a batch takes 10 ms, and 10 ms a row."""
    queue = BatchQueue(REF, BatchPolicy(max_delay=1.0))
    if taught:
        teach(queue)
    for each in asked:
        queue.put(each)
    return queue


def test_rows_with_time_are_held_back_for_the_whole_delay() -> None:
    assert held_back(request(seconds=10)).held(NOW) == 1.0


def test_rows_are_held_back_no_longer_than_their_deadline_and_their_batch_allow() -> None:
    queue = held_back(request(11, seconds=0.5))  # a batch of 0.12 s, which is given 0.17 s
    assert queue.held(NOW) == pytest.approx(0.33, abs=0.005)
    assert len(batch(queue, NOW + 0.34)) == 11


def test_where_no_cost_is_known_a_share_of_the_time_is_left_for_it() -> None:
    assert held_back(request(seconds=0.5), taught=False).held(NOW) == pytest.approx(0.35)


def test_who_came_later_and_has_less_time_ends_the_wait_of_all() -> None:
    queue = held_back(request(seconds=10), request(seconds=0.2), taught=False)
    assert queue.held(NOW) == pytest.approx(0.14)
    assert len(batch(queue, NOW + 0.15)) == 2


def test_who_has_left_hurries_nobody() -> None:
    hurried = request(seconds=0.2)
    queue = held_back(request(seconds=10), hurried)
    queue.remove(hurried)
    assert queue.held(NOW) == 1.0


def test_a_closed_queue_holds_nothing_back() -> None:
    queue = held_back(request())
    queue.close()
    assert len(batch(queue)) == 1


# What is remembered of requests that were answered


def test_the_deadlines_of_answered_requests_are_forgotten_long_before_they_pass() -> None:
    queue = BatchQueue(REF, BatchPolicy(max_rows=4))
    for _ in range(1000):
        queue.put(request(4, seconds=120))
        batch(queue)
    assert len(queue._deadlines) < 50


def test_most_of_the_deadlines_that_are_remembered_are_of_requests_that_wait() -> None:
    queue, waiting = BatchQueue(REF, BatchPolicy()), [request(seconds=50) for _ in range(10)]
    gone = request(2, seconds=120)
    queue.put(gone)
    for each in waiting:
        queue.put(each)
    queue.remove(gone)
    for _ in range(200):
        answered = request(2, seconds=120)
        queue.put(answered)
        queue.remove(answered)
        assert len(queue._deadlines) <= 2 * (len(waiting) + 1) + 17
    assert [each for each, _ in queue.drop_late(NOW + 50)] == waiting


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 50), st.booleans()), min_size=1, max_size=120))
def test_no_deadline_of_a_waiting_request_is_forgotten(asked: list[tuple[int, int, bool]]) -> None:
    queue, waiting = BatchQueue(REF, BatchPolicy(max_rows=3)), []
    for num_rows, seconds, leaves in asked:
        new = request(num_rows, seconds=seconds)
        queue.put(new)
        if leaves:
            queue.remove(new)
        else:
            waiting.append(new)
        assert len(queue._deadlines) <= 2 * len(waiting) + 20
    assert [each for each, _ in queue.drop_late(NOW + 51)] == sorted(waiting, key=lambda each: each.deadline.at)


# Priorities


def test_a_higher_priority_goes_first_and_the_default_is_the_middle() -> None:
    queue = BatchQueue(REF, BatchPolicy(max_rows=1))
    requests = {priority: request(priority=priority) for priority in (9, 0, 5, 1)}
    for each in requests.values():
        queue.put(each)
    order = [batch(queue).rows[0].request.priority for _ in requests]
    assert order == [1, 0, 5, 9]


def test_a_low_priority_is_late_but_does_not_starve() -> None:
    queue = BatchQueue(REF, BatchPolicy(max_rows=1))
    low = request(priority=9)
    queue.put(low)
    for second in range(20):
        queue.put(request(priority=1, arrived=NOW + second))
        if batch(queue, NOW + second).rows[0].request is low:
            assert second == 8  # the steps of priority between them, in seconds
            return
    pytest.fail("it never left")


def test_who_is_of_the_next_priority_is_not_ahead(queue: BatchQueue) -> None:
    for _ in range(10):
        queue.put(request(32, priority=6))
    queue.put(request(seconds=0.5, priority=5))
    with pytest.raises(Overloaded):
        queue.put(request(seconds=0.5, priority=6))


def test_who_goes_first_has_only_those_before_him_ahead(queue: BatchQueue) -> None:
    for _ in range(10):
        queue.put(request(32, priority=5))
    queue.put(request(seconds=0.5, priority=1))
    with pytest.raises(Overloaded):
        queue.put(request(seconds=0.5, priority=5))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), min_size=1, max_size=30), st.integers(1, 4))
def test_rows_leave_in_the_order_of_their_turns(asked: list[tuple[int, int]], max_rows: int) -> None:
    queue = BatchQueue(REF, BatchPolicy(max_rows=max_rows))
    now, requests = NOW, []
    for priority, later in asked:
        now += later
        requests.append(request(priority=priority, arrived=now))
        queue.put(requests[-1])
    left = []
    while len(queue):
        left += [row.request for row in batch(queue, now).rows]
    assert left == sorted(requests, key=lambda each: each.turn)


# Alone


@pytest.mark.parametrize("lengths", [None, [5]])
def test_a_row_that_runs_alone_shares_its_batch_with_nobody(lengths: list[int] | None) -> None:
    queue = BatchQueue(REF, BatchPolicy())
    requests = [request(lengths=lengths, digest=digest) for digest in (b"", b"d" * 16, b"", b"d" * 16)]
    for each in requests:
        queue.put(each)
    batches = [[requests.index(row.request) for row in batch(queue).rows] for _ in range(3)]
    assert batches == [[0, 2], [1], [3]]
    assert len(queue) == 0


# Bytes


def test_bytes_are_bounded_and_given_back() -> None:
    queue = BatchQueue(REF, BatchPolicy(max_queued_bytes=100))
    queue.put(request(2, row_bytes=40))
    with pytest.raises(QueueFull) as raised:
        queue.put(request(row_bytes=30))
    assert (raised.value.queued, raised.value.limit, raised.value.unit) == (80, 100, "bytes")
    batch(queue)
    queue.put(request(row_bytes=30))


def test_bytes_are_those_of_every_row_that_waits() -> None:
    queue = BatchQueue(REF, BatchPolicy(max_rows=1, max_queued_bytes=100))
    queue.put(request(4, row_bytes=10))
    queue.put(request(2, row_bytes=30))
    batch(queue)
    with pytest.raises(QueueFull) as raised:
        queue.put(request(row_bytes=20))
    assert raised.value.queued == 90
    queue.put(request(row_bytes=10))


def test_a_queue_that_was_emptied_has_all_its_room() -> None:
    queue = BatchQueue(REF, BatchPolicy(max_queued_bytes=100))
    queue.put(request(3, row_bytes=10))
    batch(queue)
    queue.put(request(row_bytes=60, priority=9))
    queue.put(request(row_bytes=40))


def test_a_request_larger_than_the_bound_is_let_in_where_nothing_waits() -> None:
    queue = BatchQueue(REF, BatchPolicy(max_queued_bytes=100))
    queue.put(request(row_bytes=1000))
    with pytest.raises(QueueFull):
        queue.put(request(row_bytes=1))


# Limits of a batch


def test_batches_stay_smaller_for_a_while_where_memory_did_not_suffice() -> None:
    queue = BatchQueue(REF, BatchPolicy(max_rows=8))
    queue.limit_elements(2, until=NOW + 60)
    queue.put(request(16))
    assert [len(batch(queue, NOW + 59)), len(batch(queue, NOW + 60))] == [2, 8]


@pytest.mark.parametrize("limit", [1, 0])
def test_a_batch_of_one_row_is_run_however_little_memory_there_was(limit: int) -> None:
    queue = BatchQueue(REF, BatchPolicy())
    queue.limit_elements(limit, until=NOW + 60)
    queue.put(request(2))
    assert len(batch(queue)) == 1


def test_a_batch_of_sequences_is_kept_to_its_seconds() -> None:
    queue = BatchQueue(REF, BatchPolicy())
    for num_rows in (1, 8, 32) * 10:
        queue.cost.learn(100, num_rows, 0.0001 * 100 * num_rows, NOW)
    for _ in range(32):
        queue.put(request(lengths=[100]))
    assert len(batch(queue, max_seconds=0.1)) == pytest.approx(10, abs=1)


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
