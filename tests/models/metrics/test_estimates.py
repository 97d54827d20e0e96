"""Where an interval has no bounds, and a figure no value."""

import math
from collections.abc import Mapping

import numpy as np
import pytest

from models import metrics
from models.metrics import Estimate

RNG = np.random.default_rng


def assert_no_width(figures: Mapping[str, Estimate]) -> None:
    for name, one in figures.items():
        assert one.low is None or one.high is None or one.low < one.high, name


@pytest.mark.parametrize("values", [[0.1], [0.1] * 7, [4.0] * 3000, [-1e100] * 30])
def test_a_mean_of_rows_that_do_not_differ_has_no_bounds(values: list[float]) -> None:
    found = metrics.mean(np.array(values))
    assert found == Estimate(found.value, len(values))
    assert found.value == pytest.approx(values[0])


def test_one_row_has_no_interval_but_that_of_its_share() -> None:
    found = metrics.binary(np.array([0.7]), np.array([1]))
    assert_no_width(found)
    assert found["accuracy"] == metrics.proportion(1, 1)
    for name in ("log_loss", "brier", "ece", "balanced_accuracy", "f1_macro", "f1", "pr_auc"):
        assert found[name].value is not None, name
        assert (found[name].low, found[name].high) == (None, None), name


def test_two_right_rows_do_not_show_that_all_will_be() -> None:
    found = metrics.multiclass(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
    assert_no_width(found)
    for name in ("balanced_accuracy", "f1_macro", "f1_weighted", "auc", "pr_auc"):
        assert found[name] == Estimate(1.0, 2), name
    sets = np.array([[1, 0], [0, 1]], bool)
    several = metrics.multilabel(sets, sets, np.where(sets, 0.9, 0.1))
    assert_no_width(several)
    assert several["f1_macro"] == several["auc"] == Estimate(1.0, 2)
    assert metrics.of_each_class(metrics.Confusion.of(np.array([[0, 0], [0, 3]])))[1]["f1"] == Estimate(1.0, 3)


def test_who_is_sure_and_was_never_checked_has_no_interval() -> None:
    found = metrics.estimated_accuracy(np.ones(5), metrics.Calibrator.identity(), None)
    assert found == Estimate(1.0, 5)


def test_what_a_float_does_not_hold_is_undefined_with_the_reason() -> None:
    assert metrics.mean(np.array([1.7e308, 1.7e308])).to_dict() == {
        "value": None,
        "n": 2,
        "reason": "it is too large for a float",
    }
    # Sums of some resamples are no floats: there is a mean, but no interval.
    found = metrics.mean(np.array([1.7e308, -1.7e308, 0.0]))
    assert found == Estimate(pytest.approx(0.0), 3)


@pytest.mark.parametrize("size", [1e76, 1e154, 1e155, 1e308])
def test_of_many_rows_one_may_be_of_any_size(size: float) -> None:
    values = np.append(RNG(0).random(2500), size)
    found = metrics.mean(values)
    assert found.value == pytest.approx(size / 2501)
    assert (found.low is None) == (size > 1e154)
    assert found.low is None or math.isfinite(found.low)


def test_of_very_large_numbers_rounding_does_not_warn() -> None:
    actual = RNG(0).normal(1e60, 1e60, 3000)
    for figure in metrics.regression(actual * 1.01, actual).values():
        assert figure.value is not None
        assert figure.low is not None
