"""Whom a queue lets in: by its bounds of rows and bytes, and by what waits before."""

import pytest

from service.domain import BatchPolicy
from service.engine.batching import BatchQueue
from service.errors import Overloaded, QueueFull
from tests.service.engine.taught import REF, batch, request, taught

# Time


@pytest.mark.parametrize(
    ("bounds", "queued", "limit", "unit"),
    [({"max_queued_rows": 40}, 32, 40, "rows"), ({"max_queued_bytes": 40}, 32, 40, "bytes")],
)
def test_who_finds_a_queue_full_is_told_how_full_and_for_how_long(
    bounds: dict[str, int], queued: int, limit: int, unit: str
) -> None:
    queue = taught(BatchPolicy(**bounds))
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
