import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.cost import CostModel, Line

NOW = 100.0


def learned(*batches: tuple[int, float], longest: int = 1) -> CostModel:
    cost = CostModel()
    for num_rows, seconds in batches:
        cost.learn(longest, num_rows, seconds, NOW)
    return cost


def test_before_any_batch_nothing_is_expected_and_nothing_is_limited() -> None:
    cost = CostModel()
    assert (cost.seconds(1, 32), cost.row_seconds(1, 32), cost.trust(1, NOW)) == (0, 0, 0)
    assert cost.rows_within(0.001) is None


def test_a_line_is_found_from_noisy_batches() -> None:
    noise = random.Random(0)
    batches = [(n, (0.002 + 0.001 * n) * noise.uniform(0.9, 1.1)) for n in noise.choices(range(1, 33), k=200)]
    cost = learned(*batches)
    assert cost.seconds(1, 1) == pytest.approx(0.003, rel=0.25)
    assert cost.seconds(1, 32) == pytest.approx(0.034, rel=0.1)
    assert cost.rows_within(0.018) == pytest.approx(16, abs=2)


def test_one_size_of_batch_is_expected_to_take_what_it_took() -> None:
    cost = learned(*[(8, 0.04)] * 5)
    assert cost.seconds(1, 8) == pytest.approx(0.04)
    assert cost.seconds(1, 1) == pytest.approx(0.005)
    assert cost.seconds(1, 32) == pytest.approx(0.16)
    assert cost.trust(1, NOW) == 0.5


def test_what_a_batch_takes_however_small_is_told_in_elements_once_sizes_differ() -> None:
    of_many_sizes = learned(*[(n, 0.02 + 0.001 * n) for n in (1, 8, 32)] * 20)
    assert of_many_sizes.overhead(1) == pytest.approx(20, rel=0.1)
    assert learned(*[(8, 0.04)] * 5).overhead(1) == 0
    assert CostModel().overhead(1) == 0


def test_one_batch_that_was_held_up_changes_little() -> None:
    usual = [(n, 0.001 * n) for n in (1, 4, 8, 16, 32)] * 10
    assert learned(*usual, (8, 60.0)).seconds(1, 8) < 0.016


def test_a_first_batch_that_was_held_up_is_soon_forgotten() -> None:
    assert learned((1, 5.0), *[(1, 0.001)] * 12).seconds(1, 1) < 0.002


def test_a_device_that_got_slower_is_believed_in_the_end() -> None:
    assert learned(*[(4, 0.01)] * 30, *[(4, 0.1)] * 30).seconds(1, 4) == pytest.approx(0.1, rel=0.15)


def test_each_band_of_lengths_has_its_own_line_and_unseen_ones_expect_no_more_than_shorter_ones() -> None:
    cost = learned(*[(4, 0.01)] * 5, longest=10)
    for _ in range(5):
        cost.learn(1000, 4, 2.0, NOW)
    assert cost.seconds(10, 4) == pytest.approx(0.01)
    assert cost.seconds(1000, 4) == pytest.approx(2.0)
    assert cost.seconds(100, 4) == pytest.approx(0.1)
    assert cost.seconds(2, 4) == 0


def test_what_was_learned_long_ago_is_trusted_less_and_less() -> None:
    cost = learned((1, 1.0), (2, 2.0), (3, 3.0))
    assert cost.trust(1, NOW) == 1
    assert cost.trust(1, NOW + 30) == 0.5
    assert cost.trust(1, NOW + 300) < 0.001


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(0, 100)), min_size=1, max_size=60))
def test_no_coefficient_is_ever_negative_or_undefined(batches: list[tuple[int, float]]) -> None:
    line = Line()
    for num_rows, seconds in batches:
        line.learn(num_rows, seconds, NOW)
        assert 0 <= line.fixed < 1e3
        assert 0 <= line.slope < 1e3


@given(st.integers(1, 64), st.floats(1e-4, 1), st.floats(0, 0.1), st.floats(1e-5, 0.01))
def test_batches_within_a_bound_are_expected_to_keep_it(size: int, bound: float, fixed: float, slope: float) -> None:
    cost = learned(*[(n, fixed + slope * n) for n in (1, size, 2 * size)] * 4)
    rows = cost.rows_within(bound)
    assert rows is not None
    assert rows == 1 or cost.seconds(1, rows) <= bound * (1 + 1e-9)
