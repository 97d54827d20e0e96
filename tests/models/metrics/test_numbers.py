"""Errors of predicted numbers, of any size."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models import metrics
from models.metrics import Undefined

LARGEST = float(np.finfo(np.float64).max)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def assert_sound(predicted: np.ndarray, actual: np.ndarray) -> None:
    for name, figure in metrics.regression(predicted, actual).items():
        assert (figure.value is None) == bool(figure.reason), name
        assert all(one is None or math.isfinite(one) for one in (figure.value, figure.low, figure.high)), name
        if figure.low is not None:
            assert figure.high is not None
            assert figure.low < figure.high, name
    edges, counts = metrics.residuals(predicted, actual)
    assert np.isfinite(edges).all()
    assert (np.diff(edges) > 0).all()
    assert counts.sum() == len(actual)


@given(st.integers(1, 6).flatmap(lambda n: arrays.arrays(np.float64, (2, n), elements=FINITE)))
@example(np.array([[0.0], [1e18]]))
@example(np.array([[0.0], [1.7e308]]))
@example(np.array([[0.0, 0.0], [1e6, 1e6 + 1e-10]]))
@example(np.array([[LARGEST, -LARGEST], [-LARGEST, LARGEST]]))
@example(np.array([[0.0, 0.0], [0.0, 5e-324]]))
@example(np.array([[1e200, 2e200], [1e200, 2e200]]))
def test_numbers_of_any_size_have_figures_or_a_reason(rows: np.ndarray) -> None:
    assert_sound(*rows)


@pytest.mark.parametrize("size", [1e77, 1e100, 1e154, 1e155, 1e300, LARGEST])
def test_of_many_rows_one_may_be_of_any_size(size: float) -> None:
    predicted = np.random.default_rng(0).normal(size=2500)
    for actual in (np.append(predicted[1:], size), np.append(predicted[1:], -size)):
        assert_sound(predicted, actual)


@given(st.integers(1, 6).flatmap(lambda n: arrays.arrays(np.float64, (3, n), elements=FINITE)))
def test_numbers_of_any_size_are_compared(rows: np.ndarray) -> None:
    found = metrics.compare_numbers(*rows)
    for difference in found.differences.values():
        bounds = difference.value, difference.low, difference.high
        assert all(one is None or math.isfinite(one) for one in bounds)
        assert difference.value is not None or difference.reason
    assert metrics.verdict(found, "version 1", "version 2")
    both = metrics.difference_of_means(rows[0], rows[1])
    assert all(one is None or math.isfinite(one) for one in (both.value, both.low, both.high))


def test_a_figure_that_is_too_large_says_so() -> None:
    found = metrics.regression(np.array([0.0, 1.0]), np.array([1e200, 1.0]))
    for name in ("mse", "rmse", "r2"):
        assert (found[name].value, found[name].reason) == (None, "it is too large for a float"), name
    assert found["mae"].value == pytest.approx(5e199)
    with pytest.raises(Undefined, match="too large"):
        metrics.r2(np.array([0.0, 1.0]), np.array([1e200, 1.0]))


def test_residuals_that_differ_by_rounding_are_the_same() -> None:
    edges, counts = metrics.residuals(np.zeros(2), np.array([1e6, 1e6 + 1e-10]))
    assert (edges[0], edges[-1], counts.max()) == (pytest.approx(1e6 - 0.5), pytest.approx(1e6 + 0.5), 2)
    edges, counts = metrics.residuals(np.zeros(1), np.array([1e18]))
    assert edges[0] < 1e18 < edges[-1]
    assert (counts.sum(), len(counts)) == (1, 20)
