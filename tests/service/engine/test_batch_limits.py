"""What keeps a batch small although more rows wait: a row that runs alone, memory, seconds."""

import pytest

from service.domain import BatchPolicy
from service.engine.batching import BatchQueue
from tests.service.engine.asked import NOW
from tests.service.engine.taught import REF, batch, request


@pytest.mark.parametrize("lengths", [None, [5]])
def test_a_row_that_runs_alone_shares_its_batch_with_nobody(lengths: list[int] | None) -> None:
    queue = BatchQueue(REF, BatchPolicy())
    requests = [request(lengths=lengths, digest=digest) for digest in (b"", b"d" * 16, b"", b"d" * 16)]
    for each in requests:
        queue.put(each)
    batches = [[requests.index(row.request) for row in batch(queue).rows] for _ in range(3)]
    assert batches == [[0, 2], [1], [3]]
    assert len(queue) == 0


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
