import pytest

from service.store.record_queue import LogPolicy, Offer, Pace, RecordQueue
from tests.fakes import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def queue_of(clock: ManualClock, **bounds: int) -> RecordQueue:
    return RecordQueue(LogPolicy(**bounds), clock)


def taken(queue: RecordQueue) -> list[tuple[int, list[bytes]]]:
    return [(group.number, [offer.record for offer in group.offers]) for group in queue.take()]


def test_what_is_offered_is_taken_once_in_order(clock: ManualClock) -> None:
    queue = queue_of(clock)
    assert all(queue.offer(Offer(record)) for record in (b"a", b"b", b"c"))
    assert taken(queue) == [(1, [b"a", b"b", b"c"])]
    assert taken(queue) == []


def test_no_more_records_are_held_than_the_bound_until_some_are_durable(clock: ManualClock) -> None:
    queue = queue_of(clock, max_records=2)
    assert [queue.offer(Offer(b"a")), queue.offer(Offer(b"b")), queue.offer(Offer(b"c"))] == [True, True, False]
    taken(queue)
    assert not queue.offer(Offer(b"c"))
    queue.acknowledge(1)
    assert len(queue) == 0
    assert queue.offer(Offer(b"c"))


def test_no_more_bytes_are_held_than_the_bound(clock: ManualClock) -> None:
    queue = queue_of(clock, max_bytes=10)
    assert [queue.offer(Offer(bytes(6))), queue.offer(Offer(bytes(5))), queue.offer(Offer(bytes(4)))] == [
        True,
        False,
        True,
    ]
    assert len(queue) == 2
    assert not queue.offer(Offer(b"c"))
    taken(queue)
    queue.acknowledge(1)
    assert [queue.offer(Offer(bytes(11))), queue.offer(Offer(bytes(10))), queue.offer(Offer(b"c"))] == [
        False,
        True,
        False,
    ]


def test_a_group_holds_so_many_records_and_so_many_groups_are_under_way(clock: ManualClock) -> None:
    queue = queue_of(clock, max_group_records=2, max_groups_sent=2)
    for record in (b"a", b"b", b"c", b"d", b"e"):
        queue.offer(Offer(record))
    assert taken(queue) == [(1, [b"a", b"b"]), (2, [b"c", b"d"])]
    assert taken(queue) == []
    queue.acknowledge(2)
    assert taken(queue) == [(3, [b"e"])]


def test_a_group_that_is_worth_a_commit_is_known_until_as_many_are_under_way_as_may_be(clock: ManualClock) -> None:
    queue = queue_of(clock, full_group_records=2, max_groups_sent=1)
    queue.offer(Offer(b"a"))
    assert not queue.has_full_group
    queue.offer(Offer(b"b"))
    assert queue.has_full_group
    taken(queue)
    assert not queue.has_full_group
    queue.offer(Offer(b"c"))
    queue.offer(Offer(b"d"))
    assert not queue.has_full_group
    queue.acknowledge(1)
    assert queue.has_full_group


def test_what_was_under_way_when_the_connection_was_lost_is_sent_again_first(clock: ManualClock) -> None:
    queue = queue_of(clock, max_group_records=1, max_groups_sent=2)
    for record in (b"a", b"b", b"c"):
        queue.offer(Offer(record))
    before = taken(queue)
    queue.lose()
    assert len(queue) == 3
    assert taken(queue) == before == [(1, [b"a"]), (2, [b"b"])]
    queue.lose()
    assert taken(queue) == before


def test_an_acknowledgement_of_what_is_not_under_way_means_nothing(clock: ManualClock) -> None:
    queue = queue_of(clock)
    queue.offer(Offer(b"a"))
    [group] = queue.take()
    queue.lose()
    assert queue.acknowledge(group.number) is None
    assert len(queue) == 1
    list(queue.take())
    assert queue.acknowledge(group.number) == group
    assert queue.acknowledge(group.number) is None


def test_a_group_knows_when_its_oldest_record_was_offered(clock: ManualClock) -> None:
    queue = queue_of(clock)
    queue.offer(Offer(b"a"))
    clock.advance(3.0)
    queue.offer(Offer(b"b"))
    [group] = queue.take()
    assert group.offered == clock() - 3.0


@pytest.mark.parametrize(
    "bound", ["max_records", "max_bytes", "max_group_records", "full_group_records", "max_groups_sent"]
)
def test_a_bound_must_be_positive(bound: str) -> None:
    with pytest.raises(ValueError, match="positive"):
        LogPolicy(**{bound: 0})


@pytest.mark.parametrize(("took", "gathers"), [(0.01, 0.035), (0.05, 0.02), (0.3, 0.005)])
def test_the_longer_a_group_took_the_shorter_the_next_ones_gather(
    clock: ManualClock, took: float, gathers: float
) -> None:
    pace = Pace(clock)
    assert pace.seconds == 0.035
    pace.sent(1)
    clock.advance(took)
    pace.acknowledged(1)
    assert pace.seconds == pytest.approx(gathers)


def test_a_group_that_is_sent_again_is_timed_anew(clock: ManualClock) -> None:
    pace = Pace(clock)
    pace.sent(1)
    clock.advance(9.0)
    pace.lost()
    pace.sent(1)
    pace.acknowledged(1)
    assert pace.seconds == 0.035
