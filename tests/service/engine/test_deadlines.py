"""What a queue does for deadlines: whom it drops, whom it has no time for, and how long it holds rows back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import BatchPolicy
from service.engine.batching import BatchQueue
from service.engine.requests import Request
from service.errors import DeadlineExceeded
from tests.service.engine.asked import NOW
from tests.service.engine.taught import A_ROW, FIXED, REF, batch, request, taught

# Dropped


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
    queue, hurried = taught(BatchPolicy(max_batch_seconds=1.0)), request(seconds=seconds)
    queue.put(hurried)
    queue.put(request(others))
    assert queue.drop_late(NOW) == ([] if stays else [(hurried, 1)])


def test_a_row_that_takes_longer_than_a_batch_should_needs_no_time_for_more() -> None:
    queue = taught(BatchPolicy(max_batch_seconds=0.001))
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


# No time even for its own batches


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


# Holding back


def held_back(*asked: Request, knows_costs: bool = True) -> BatchQueue:
    """A queue that holds rows back for a second."""
    policy = BatchPolicy(max_delay=1.0)
    queue = taught(policy) if knows_costs else BatchQueue(REF, policy)
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
    assert held_back(request(seconds=0.5), knows_costs=False).held(NOW) == pytest.approx(0.35)


def test_who_came_later_and_has_less_time_ends_the_wait_of_all() -> None:
    queue = held_back(request(seconds=10), request(seconds=0.2), knows_costs=False)
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
