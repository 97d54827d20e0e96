import numpy as np
import pytest

from models.preprocess import Tensors
from service.domain import Ref
from service.errors import QueueFull
from service.serving.held import Bounds

BUSY, QUIET = Ref("mood", 1), Ref("rent", 1)
ROWS = Tensors(np.zeros((3, 2), np.float32))


def test_one_versions_backlog_refuses_nothing_of_another() -> None:
    bounds = Bounds(max_rows=4, max_bytes=1000)
    bounds.enter(BUSY, ROWS)
    with pytest.raises(QueueFull) as raised:
        bounds.enter(BUSY, ROWS)
    assert (raised.value.ref, raised.value.queued, raised.value.limit) == (BUSY, 3, 4)
    bounds.enter(QUIET, ROWS)
    bounds.leave(BUSY, ROWS)
    bounds.enter(BUSY, ROWS)


def test_bytes_count_by_version_too() -> None:
    bounds = Bounds(max_rows=100, max_bytes=30)
    bounds.enter(BUSY, ROWS)
    with pytest.raises(QueueFull) as raised:
        bounds.enter(BUSY, ROWS)
    assert (raised.value.queued, raised.value.limit, raised.value.unit) == (24, 30, "bytes")
    bounds.enter(QUIET, ROWS)
