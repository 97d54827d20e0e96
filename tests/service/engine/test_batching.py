import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from service.domain import BatchPolicy
from service.engine.backends.buckets import pad_rows, pad_steps
from service.engine.batching import Batch, BatchQueue, Sizes, as_they_are
from service.engine.cost import CostModel
from service.engine.requests import Request
from service.errors import QueueFull
from tests.service.engine.asked import NOW, REF, request

SLACK = 8  # elements of padding that are never worth a batch of their own


def queue_of(policy: BatchPolicy, *requests: Request) -> BatchQueue:
    queue = BatchQueue(REF, policy)
    for each in requests:
        queue.put(each)
    return queue


def batch(queue: BatchQueue, now: float = NOW) -> Batch:
    assert queue.held(now) == 0
    return queue.take(now)


def lengths_of(taken: Batch) -> list[int]:
    return [row.request.length(row.position) for row in taken.rows]


# When rows leave


def test_a_lone_request_leaves_at_once() -> None:
    lone = request()
    assert [row.request for row in batch(queue_of(BatchPolicy(), lone)).rows] == [lone]


def test_an_empty_queue_has_nothing_to_wait_for() -> None:
    assert BatchQueue(REF, BatchPolicy(max_delay=1.0)).held(NOW) == 0


def test_a_delay_holds_rows_back_until_it_ends() -> None:
    queue = queue_of(BatchPolicy(max_delay=0.5), request(arrived=NOW))
    assert queue.held(NOW) == 0.5
    assert queue.held(NOW + 0.25) == 0.25
    assert len(batch(queue, NOW + 0.5)) == 1


def test_the_delay_is_counted_from_the_oldest_row() -> None:
    queue = queue_of(BatchPolicy(max_delay=0.5), request(arrived=NOW), request(arrived=NOW + 0.4))
    assert len(batch(queue, NOW + 0.5)) == 2


def test_a_full_batch_waits_for_no_delay() -> None:
    queue = queue_of(BatchPolicy(max_rows=2, max_delay=0.5), request(), request(), request())
    assert len(batch(queue)) == 2
    assert queue.held(NOW) == 0.5


@pytest.mark.parametrize(("length", "held"), [(49, 0.5), (50, 0.0)])
def test_a_batch_that_is_full_by_its_elements_waits_for_no_delay(length: int, held: float) -> None:
    policy = BatchPolicy(max_elements=100, max_delay=0.5)
    assert queue_of(policy, *(request(lengths=[length]) for _ in range(2))).held(NOW) == held


def test_the_age_of_a_queue_is_that_of_its_oldest_row() -> None:
    queue = queue_of(BatchPolicy(), request(arrived=NOW), request(arrived=NOW + 1))
    assert queue.age(NOW + 3) == 3.0
    assert BatchQueue(REF, BatchPolicy()).age(NOW) == 0.0


# What leaves together


def test_rows_are_counted_not_requests() -> None:
    queue = queue_of(BatchPolicy(max_rows=4), request(3), request(3), request(1))
    assert [len(batch(queue)), len(batch(queue))] == [4, 3]


def test_a_request_larger_than_a_batch_is_split_in_order() -> None:
    large = request(5)
    queue = queue_of(BatchPolicy(max_rows=2), large, request(1))
    taken = [batch(queue) for _ in range(3)]
    assert [row.position for each in taken for row in each.rows if row.request is large] == [0, 1, 2, 3, 4]
    assert [len(each) for each in taken] == [2, 2, 2]


def test_rows_leave_in_the_order_of_arrival() -> None:
    requests = [request() for _ in range(6)]
    queue = queue_of(BatchPolicy(max_rows=4), *requests)
    assert [row.request for row in batch(queue).rows + batch(queue).rows] == requests


# What is refused, taken back, or too late


def test_a_request_enters_whole_or_not_at_all() -> None:
    queue = queue_of(BatchPolicy(max_queued_rows=4), request(3))
    with pytest.raises(QueueFull) as raised:
        queue.put(request(2))
    assert (raised.value.ref, raised.value.queued, raised.value.limit) == (REF, 3, 4)
    assert len(queue) == 3
    queue.put(request(1))
    assert len(queue) == 4


def test_what_left_makes_room() -> None:
    queue = queue_of(BatchPolicy(max_rows=2, max_queued_rows=4), request(4))
    batch(queue)
    queue.put(request(2))
    assert len(queue) == 4


@pytest.mark.parametrize("lengths", [(), (5, 5, 5)])
def test_a_removed_request_never_leaves(lengths: tuple[int, ...]) -> None:
    gone, stays = request(3, lengths=lengths), request(3, lengths=lengths)
    queue = queue_of(BatchPolicy(), gone, stays)
    assert queue.remove(gone) == 3
    assert queue.remove(gone) == 0
    assert {row.request for row in batch(queue).rows} == {stays}


def test_only_rows_that_still_wait_are_removed() -> None:
    split = request(5)
    queue = queue_of(BatchPolicy(max_rows=2), split)
    batch(queue)
    assert queue.remove(split) == 3
    assert len(queue) == 0


@pytest.mark.parametrize("lengths", [(), (5, 7)])
def test_requests_past_their_deadline_are_dropped_with_the_rows_that_waited(lengths: tuple[int, ...]) -> None:
    late, soon, last = (request(2, deadline=NOW + s, lengths=lengths) for s in (1.0, 2.0, 9.0))
    queue = queue_of(BatchPolicy(), last, late, soon)
    assert queue.drop_late(NOW + 0.99) == []
    assert queue.drop_late(NOW + 2.0) == [(late, 2), (soon, 2)]
    assert queue.drop_late(NOW + 2.0) == []
    assert {row.request for row in batch(queue).rows} == {last}


def test_a_request_that_has_left_is_not_late() -> None:
    queue = queue_of(BatchPolicy(), request(deadline=NOW + 1))
    batch(queue)
    assert queue.drop_late(NOW + 5) == []


def test_of_a_split_request_only_the_waiting_rows_are_counted_as_late() -> None:
    split = request(5, deadline=NOW + 1)
    queue = queue_of(BatchPolicy(max_rows=2), split)
    batch(queue)
    assert queue.drop_late(NOW + 1) == [(split, 3)]
    assert len(queue) == 0


# Sequences


def test_sequences_of_similar_length_leave_together() -> None:
    queue = queue_of(BatchPolicy(max_rows=3), *(request(lengths=[n]) for n in (100, 10, 102, 11, 98)))
    assert sorted(lengths_of(batch(queue))) == [98, 100, 102]
    assert sorted(lengths_of(batch(queue))) == [10, 11]


def test_those_nearest_to_the_oldest_row_come_first() -> None:
    queue = queue_of(BatchPolicy(max_rows=3), *(request(lengths=[n]) for n in (100, 90, 99, 110, 101)))
    assert sorted(lengths_of(batch(queue))) == [99, 100, 101]


def test_a_few_elements_of_padding_are_never_worth_a_batch() -> None:
    queue = queue_of(BatchPolicy(min_fill=0.75), request(lengths=[1]), request(lengths=[9]), request(lengths=[2]))
    assert sorted(lengths_of(batch(queue))) == [1, 2, 9]


@pytest.mark.parametrize(("longer", "together"), [(12, 2), (13, 1)])
def test_eight_elements_are_a_few(longer: int, together: int) -> None:
    queue = queue_of(BatchPolicy(min_fill=0.75), request(lengths=[1]), request(lengths=[longer]))
    assert len(batch(queue)) == together


def test_rows_of_one_request_leave_with_others_of_their_length() -> None:
    mixed, short = request(lengths=[200, 20]), request(lengths=[20])
    queue = queue_of(BatchPolicy(), mixed, short)
    assert [row.position for row in batch(queue).rows] == [0]
    assert {(row.request, row.position) for row in batch(queue).rows} == {(mixed, 1), (short, 0)}


def test_a_row_larger_than_a_batch_leaves_alone() -> None:
    queue = queue_of(BatchPolicy(max_elements=100), request(lengths=[150]), request(lengths=[150]))
    assert [lengths_of(batch(queue)), lengths_of(batch(queue))] == [[150], [150]]


def test_a_batch_is_full_by_its_padded_elements_too() -> None:
    queue = queue_of(BatchPolicy(max_elements=100), *(request(lengths=[n]) for n in (33, 30, 30, 30)))
    assert sorted(lengths_of(batch(queue))) == [30, 30, 33]


@pytest.mark.parametrize(
    ("longer", "shorter", "together"),
    [
        (100, 61, 2),  # (64 + 2 * 100) / (100 + 61) is less than (64 + 100) / 100
        (100, 60, 1),
        (64, 32, 2),  # as much either way
    ],
)
def test_where_no_cost_is_known_a_batch_is_taken_to_cost_as_much_as_64_elements(
    longer: int, shorter: int, together: int
) -> None:
    queue = queue_of(BatchPolicy(min_fill=0.0), request(lengths=[longer]), request(lengths=[shorter]))
    assert len(batch(queue)) == together


def test_a_row_that_is_near_but_too_short_keeps_no_longer_one_out() -> None:
    queue = queue_of(BatchPolicy(min_fill=0.75), *(request(lengths=[n]) for n in (100, 60, 141)))
    assert sorted(lengths_of(batch(queue))) == [100, 141]


def test_where_no_cost_is_known_no_bound_of_seconds_keeps_rows_apart() -> None:
    queue = queue_of(BatchPolicy(), request(lengths=[50]), request(lengths=[50]))
    assert len(queue.take(NOW, max_seconds=0.0)) == 2


def test_a_batch_is_as_long_as_its_longest_row() -> None:
    assert batch(queue_of(BatchPolicy(), request(lengths=[100]), request(lengths=[102]))).longest == 102
    assert batch(queue_of(BatchPolicy(), request(3))).longest == 1


def test_padded_elements_may_fill_a_batch_to_its_last() -> None:
    queue = queue_of(BatchPolicy(max_elements=100), *(request(lengths=[n]) for n in (50, 50, 50)))
    assert lengths_of(batch(queue)) == [50, 50]


def few_sizes(num_rows: int, longest: int) -> tuple[int, int]:
    return pad_rows(num_rows), pad_steps(longest)


def test_rows_that_would_only_add_padding_wait_for_the_next_batch() -> None:
    queue = queue_of(BatchPolicy(), *(request(lengths=[n]) for n in (200, 200, 200, 200, 160, 160)))
    assert [lengths_of(batch(queue)), lengths_of(batch(queue))] == [[200] * 4, [160] * 2]


def test_batches_are_of_the_sizes_that_are_run() -> None:
    queue = queue_of(BatchPolicy(), *(request(lengths=[256]) for _ in range(9)))
    queue.fit(queue.cost, few_sizes)  # nine rows would be run as twelve
    assert [len(batch(queue)), len(batch(queue))] == [8, 1]


def test_where_a_batch_costs_much_whatever_its_size_padding_is_the_lesser_evil() -> None:
    cost = CostModel()
    for num_rows in (1, 2, 4, 8) * 5:
        cost.learn(200, num_rows, 0.1 + 1e-6 * num_rows, NOW)
    queue = BatchQueue(REF, BatchPolicy(), cost)
    for n in (200, 200, 200, 200, 160, 160):
        queue.put(request(lengths=[n]))
    assert len(batch(queue)) == 6


policies = st.builds(
    BatchPolicy,
    max_rows=st.integers(1, 6),
    max_delay=st.just(0.0),
    max_queued_rows=st.just(10_000),
    max_elements=st.integers(1, 400),
    min_fill=st.floats(0, 1),
)
many_lengths = st.lists(st.integers(1, 300), min_size=1, max_size=40)
some_sizes = st.sampled_from([few_sizes, as_they_are])


@given(policy=policies, lengths=many_lengths, sizes=some_sizes)
def test_no_batch_of_sequences_breaks_its_bounds(policy: BatchPolicy, lengths: list[int], sizes: Sizes) -> None:
    queue = queue_of(policy, *(request(lengths=[n]) for n in lengths))
    queue.fit(queue.cost, sizes)
    left = []
    while len(queue):
        together = lengths_of(batch(queue))
        left += together
        longest = max(together)
        assert len(together) <= policy.max_rows
        assert len(together) * longest <= policy.max_elements or len(together) == 1
        assert min(together) >= policy.min_fill * longest - SLACK
    assert sorted(left) == sorted(lengths)


@given(
    policy=policies,
    lengths=many_lengths,
    newcomers=st.lists(st.integers(1, 300), min_size=1, max_size=5),
    sizes=some_sizes,
)
def test_no_length_starves_another(policy: BatchPolicy, lengths: list[int], newcomers: list[int], sizes: Sizes) -> None:
    """However many arrive after it, a row has left after as many takes as there were rows up to it."""
    waiting = [request(lengths=[n]) for n in lengths]
    queue = queue_of(policy, *waiting)
    queue.fit(queue.cost, sizes)
    for taken in range(len(waiting)):
        oldest = next(each for each in waiting if each is not None)
        together = {row.request for row in batch(queue).rows}
        assert oldest in together
        waiting = [each for each in waiting if each not in together]
        if not waiting:
            break
        for n in newcomers:
            queue.put(request(lengths=[n], arrived=NOW + taken))
    assert not waiting


class QueueMachine(RuleBasedStateMachine):
    """Any interleaving of what may happen to a queue, compared with a plain list of what waits."""

    requests: Bundle[Request] = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.policy = BatchPolicy(max_rows=3, max_queued_rows=12, max_elements=60, min_fill=0.5)
        self.queue = BatchQueue(REF, self.policy)
        self.waiting: list[tuple[Request, int]] = []
        self.ragged: bool | None = None
        self.now = NOW

    @rule(target=requests, num_rows=st.integers(1, 7), ragged=st.booleans(), seconds=st.integers(0, 9), data=st.data())
    def put(self, num_rows: int, ragged: bool, seconds: int, data: st.DataObject) -> Request:
        self.ragged = ragged if self.ragged is None else self.ragged  # a version's rows are all of one kind
        lengths = data.draw(st.lists(st.integers(1, 80), min_size=num_rows, max_size=num_rows)) if self.ragged else ()
        new = request(num_rows, deadline=self.now + seconds, arrived=self.now, lengths=lengths)
        if len(self.waiting) + num_rows > self.policy.max_queued_rows:
            with pytest.raises(QueueFull):
                self.queue.put(new)
        else:
            self.queue.put(new)
            self.waiting += [(new, index) for index in range(num_rows)]
        return new

    @precondition(lambda self: self.waiting)
    @rule()
    def take(self) -> None:
        taken = batch(self.queue, self.now)
        rows = [(row.request, row.position) for row in taken.rows]
        assert len(set(rows)) == len(rows) <= self.policy.max_rows
        assert self.waiting[0] in rows
        assert set(rows) <= set(self.waiting)
        if not self.ragged:
            assert rows == self.waiting[: len(rows)]
        self.waiting = [row for row in self.waiting if row not in rows]

    @rule(gone=consumes(requests))
    def remove(self, gone: Request) -> None:
        if gone.first_row < 0:
            return  # it was refused
        rows = [row for row in self.waiting if row[0] is gone]
        assert self.queue.remove(gone) == len(rows)
        self.waiting = [row for row in self.waiting if row[0] is not gone]

    @rule(seconds=st.integers(0, 5))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        late: dict[Request, int] = {}
        for each, _ in self.waiting:
            if each.deadline.expired(self.now):
                late[each] = late.get(each, 0) + 1
        assert dict(self.queue.drop_late(self.now)) == late
        self.waiting = [row for row in self.waiting if row[0] not in late]

    @invariant()
    def as_many_wait_as_should(self) -> None:
        assert len(self.queue) == len(self.waiting)
        if not self.waiting:
            assert self.queue.held(self.now) == 0

    def teardown(self) -> None:
        while self.waiting:
            self.take()
        assert len(self.queue) == 0


TestAnyInterleaving = QueueMachine.TestCase
TestAnyInterleaving.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
