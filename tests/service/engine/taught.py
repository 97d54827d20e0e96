"""Queues that know what their batches take, and requests that have so many seconds left."""

import math
from typing import Any

from service.domain import BatchPolicy, Ref
from service.engine.batching import Batch, BatchQueue
from service.engine.requests import Request
from tests.service.engine import asked
from tests.service.engine.asked import NOW

REF = Ref("transformer", 1)
FIXED, A_ROW = 0.01, 0.01
"""What a batch takes, and each of its rows: seconds."""


def request(num_rows: int = 1, *, seconds: float = math.inf, arrived: float = NOW, **more: Any) -> Request:
    return asked.request(num_rows, deadline=arrived + seconds, arrived=arrived, **more)


def taught(policy: BatchPolicy | None = None) -> BatchQueue:
    """A queue that knows that a batch takes 10 ms, and 10 ms a row."""
    queue = BatchQueue(REF, policy or BatchPolicy())
    for num_rows in (1, 2, 4, 8, 16, 32) * 20:
        queue.cost.learn(1, num_rows, FIXED + A_ROW * num_rows, NOW)
    return queue


def batch(queue: BatchQueue, now: float = NOW, **more: float) -> Batch:
    assert queue.held(now) == 0
    return queue.take(now, **more)
