import pytest

from service.domain import Ref
from service.errors import QueueFull
from service.serving.admission import Admission

RENT, MOOD = Ref("rent", 1), Ref("mood", 1)


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
