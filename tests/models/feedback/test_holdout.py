import pytest

from models.feedback.holdout import is_held_out

ROWS = [f"row {number}".encode() for number in range(4000)]


def held_out(share: float, salt: str = "clothes") -> set[bytes]:
    return {row for row in ROWS if is_held_out(row, share, salt)}


def test_the_share_is_kept() -> None:
    assert 0.17 < len(held_out(0.2)) / len(ROWS) < 0.23
    assert held_out(0.0) == set()
    assert held_out(1.0) == set(ROWS)


def test_the_part_is_the_same_for_ever() -> None:
    assert [number for number, row in enumerate(ROWS[:20]) if row in held_out(0.2)] == [2, 5, 11, 12, 13, 14, 16]


def test_a_larger_share_holds_the_smaller_one() -> None:
    assert held_out(0.1) < held_out(0.3)


def test_another_salt_draws_independently() -> None:
    both = held_out(0.2) & held_out(0.2, "shoes")
    assert 0.02 < len(both) / len(ROWS) < 0.06


def test_a_share_beyond_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.1, got 1.5"):
        is_held_out(b"", 1.5, "")
