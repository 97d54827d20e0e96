import pytest

from service.domain import DEFAULT_PRIORITY, LOWEST_PRIORITY, BatchPolicy, Deadline, Ref, priority_level


def test_versions_compare_as_numbers() -> None:
    assert sorted([Ref("b", 1), Ref("a", 10), Ref("a", 9)]) == [Ref("a", 9), Ref("a", 10), Ref("b", 1)]


def test_a_ref_reads_like_its_folder() -> None:
    assert str(Ref("fashion", 3)) == "fashion/3"


def test_a_deadline_is_an_instant() -> None:
    deadline = Deadline.after(0.5, now=100.0)
    assert deadline.remaining(100.25) == 0.25
    assert deadline.remaining(101.0) == -0.5


def test_a_deadline_has_expired_from_its_instant_on() -> None:
    deadline = Deadline(100.0)
    assert not deadline.expired(99.999)
    assert deadline.expired(100.0)
    assert deadline.expired(100.001)


def test_who_says_no_priority_has_the_middle_one() -> None:
    assert priority_level(DEFAULT_PRIORITY) == priority_level(5) == (1 + LOWEST_PRIORITY) / 2


@pytest.mark.parametrize("bound", ["max_rows", "max_queued_rows", "max_elements"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_batch_queue_needs_positive_bounds(bound: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"bounds must be positive.*{bound}={value}"):
        BatchPolicy(**{bound: value})


def test_a_delay_is_not_negative() -> None:
    with pytest.raises(ValueError, match=r"max_delay must not be negative, got -0\.1"):
        BatchPolicy(max_delay=-0.1)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_min_fill_is_a_share(value: float) -> None:
    with pytest.raises(ValueError, match=r"min_fill must lie in 0\.\.1"):
        BatchPolicy(min_fill=value)


def test_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Ref("a", 1).version = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        BatchPolicy().max_rows = 2  # type: ignore[misc]
