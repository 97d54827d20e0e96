"""How long a load that failed is not tried again."""

from dataclasses import replace

import pytest

from service.domain import Precision, Ref
from service.reconciling.failures import LoadFailures, attempt_of
from service.reconciling.placement import Claim

CLAIM = Claim(Ref("m", 1), 40, identity="abc", generation=2, precision=Precision.BFLOAT16)


def test_it_waits_twice_as_long_each_time_but_five_minutes_at_most() -> None:
    failures, now, waits = LoadFailures(), 0.0, []
    for _ in range(8):
        failures.note(CLAIM, "the disk is away", now)
        seconds = 0.0
        while failures.known(now + seconds) == {attempt_of(CLAIM): "the disk is away"}:
            seconds += 1.0
        waits.append(seconds)
        now += seconds
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]


def test_a_success_starts_the_waits_anew() -> None:
    failures = LoadFailures()
    failures.note(CLAIM, "no", 0.0)
    failures.note_success(CLAIM)
    assert failures.known(0.0) == {}
    failures.note(CLAIM, "again", 0.0)
    assert failures.known(4.9)
    assert not failures.known(5.0)


@pytest.mark.parametrize(
    "change", [{"identity": "def"}, {"generation": 3}, {"precision": Precision.FLOAT32}, {"ref": Ref("m", 2)}]
)
def test_a_load_of_anything_else_is_another_attempt(change: dict[str, object]) -> None:
    failures = LoadFailures()
    failures.note(CLAIM, "no", 0.0)
    assert attempt_of(replace(CLAIM, **change)) not in failures.known(0.0)
    assert attempt_of(replace(CLAIM, num_bytes=50, last_used=9.0, is_pinned=True)) in failures.known(0.0)


def test_what_failed_of_one_version_is_forgotten_where_that_is_asked_for() -> None:
    failures, other = LoadFailures(), replace(CLAIM, ref=Ref("m", 2))
    for claim in (CLAIM, other):
        failures.note(claim, "no", 0.0)
    failures.forget(CLAIM.ref)
    assert failures.known(0.0).keys() == {attempt_of(other)}
    failures.clear()
    assert not failures.known(0.0)
