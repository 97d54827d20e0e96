"""In which order rows leave a queue, and who is ahead of whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import BatchPolicy
from service.engine.batching import BatchQueue
from service.errors import Overloaded
from tests.service.engine.asked import NOW
from tests.service.engine.taught import REF, batch, request


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
