import numpy as np
import pytest

from models.preprocess import Tensors
from service.domain import Ref
from service.errors import QueueFull
from service.serving.admission import Admission, PendingBounds

RENT, MOOD = Ref("rent", 1), Ref("mood", 1)
ROWS = Tensors(np.zeros((3, 2), np.float32))


def test_what_is_beyond_the_bound_is_refused() -> None:
    admission = Admission(max_requests=2)
    with admission.of(RENT), admission.of(RENT):
        with pytest.raises(QueueFull) as refused:
            admission.check(RENT)
        with pytest.raises(QueueFull), admission.of(RENT):
            pass
    assert (refused.value.queued, refused.value.limit, refused.value.unit) == (2, 2, "requests")
    assert refused.value.retry_after == 1


def test_whoever_is_done_makes_room_however_it_ended() -> None:
    admission = Admission(max_requests=1)
    with pytest.raises(KeyError), admission.of(RENT):
        raise KeyError
    admission.check(RENT)


def test_of_several_who_is_done_makes_room_for_one() -> None:
    admission = Admission(max_requests=2)
    with admission.of(RENT):
        with admission.of(RENT):
            pass
        with admission.of(RENT), pytest.raises(QueueFull):
            admission.check(RENT)


def test_each_version_has_its_own_bound() -> None:
    admission = Admission(max_requests=1)
    with admission.of(RENT):
        admission.check(MOOD)


# What waits for an engine


def test_one_versions_backlog_refuses_nothing_of_another() -> None:
    bounds = PendingBounds(max_rows=4, max_bytes=1000)
    bounds.enter(MOOD, ROWS)
    with pytest.raises(QueueFull) as raised:
        bounds.enter(MOOD, ROWS)
    assert (raised.value.ref, raised.value.queued, raised.value.limit) == (MOOD, 3, 4)
    bounds.enter(RENT, ROWS)
    bounds.leave(MOOD, ROWS)
    bounds.enter(MOOD, ROWS)


def test_bytes_count_by_version_too() -> None:
    bounds = PendingBounds(max_rows=100, max_bytes=30)
    bounds.enter(MOOD, ROWS)
    with pytest.raises(QueueFull) as raised:
        bounds.enter(MOOD, ROWS)
    assert (raised.value.queued, raised.value.limit, raised.value.unit) == (24, 30, "bytes")
    bounds.enter(RENT, ROWS)
