"""Intervals of areas, by the formulas that they come from, and what codes of scores keep."""

import math

import numpy as np
import pytest

from models import metrics
from models.metrics import Estimate

RNG = np.random.default_rng
Z = 1.959963984540054


def on_logit_scale(value: float, error: float) -> tuple[float, float]:
    """The 95 % interval of an area with this standard error."""
    logit, half = math.log(value / (1 - value)), Z * error / (value * (1 - value))
    return 1 / (1 + math.exp(half - logit)), 1 / (1 + math.exp(-half - logit))


def bounds(one: Estimate) -> tuple[float, float]:
    assert one.low is not None
    assert one.high is not None
    return one.low, one.high


def precision_error(scores: np.ndarray, labels: np.ndarray) -> float:
    """Boyd, Eng and Page 2013: a binomial's of as many as there are positive rows."""
    value = metrics.average_precision(scores, labels).value
    assert value is not None
    return math.sqrt(value * (1 - value) / labels.sum())


def placements(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong 1988: of each positive row the share of negative ones that it beats, and the other way round."""
    positive, negative = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    return np.searchsorted(negative, positive) / len(negative), 1 - np.searchsorted(positive, negative) / len(positive)


def delong_error(scores: np.ndarray, labels: np.ndarray) -> float:
    return math.sqrt(sum(float(one.var()) / len(one) for one in placements(scores, labels)))


def ranked(n: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = RNG(seed)
    labels = (rng.random(n) < share).astype(np.int64)
    return rng.normal(labels * 0.7), labels


def test_average_precision_is_as_sure_as_its_positive_rows_are_many() -> None:
    scores, labels = ranked(500, 0.2, seed=0)
    found = metrics.average_precision(scores, labels)
    assert found.value is not None
    assert bounds(found) == pytest.approx(on_logit_scale(found.value, precision_error(scores, labels)))


def test_a_mean_over_classes_has_the_error_of_a_mean() -> None:
    rng = RNG(1)
    labels = rng.choice(4, 600, p=[0.1, 0.2, 0.3, 0.4])
    scores = rng.random((600, 4)) + 0.5 * np.eye(4)[labels]
    errors = [precision_error(scores[:, index], labels == index) for index in range(4)]
    found = metrics.average_precision(scores, labels)
    assert found.value is not None
    assert bounds(found) == pytest.approx(on_logit_scale(found.value, math.hypot(*errors) / 4))


@pytest.mark.parametrize("n", [800, 20_000, 99_000])
def test_an_areas_interval_is_delongs_of_every_row(n: int) -> None:
    scores, labels = ranked(n, 0.3, seed=2)
    found = metrics.auc(scores, labels)
    assert found.value is not None
    assert bounds(found) == pytest.approx(on_logit_scale(found.value, delong_error(scores, labels)), abs=1e-9)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_of_very_many_rows_enough_are_looked_at(seed: int) -> None:
    scores, labels = ranked(220_000, 0.3, seed=seed)
    found = metrics.auc(scores, labels)
    assert found.value is not None
    low, high = bounds(found)
    expected_low, expected_high = on_logit_scale(found.value, delong_error(scores, labels))
    assert high - low == pytest.approx(expected_high - expected_low, rel=0.015)


def test_one_positive_row_among_very_many_tells_next_to_nothing() -> None:
    labels = np.zeros(400_000, np.int64)
    labels[0] = 1
    found = metrics.average_precision(np.arange(400_000.0), labels)
    assert found.value == pytest.approx(1 / 400_000)
    assert bounds(found) == (0.0, 1.0)


def test_codes_tell_very_sure_scores_apart() -> None:
    rare = np.array([2e-7, 1e-6, 1e-5, 1e-4, 1e-3])
    codes = metrics.codes_of(np.concatenate([rare, 1 - rare[::-1]])).astype(int)
    assert (np.diff(codes) > 0).all()
    # Steps are even on the logit scale, from 1e-7 to 1 - 1e-7.
    assert codes[1] == pytest.approx(65_535 * (1 / 2 - math.log((1 - 1e-6) / 1e-6) / (2 * math.log(1e7))), abs=1)


@pytest.mark.parametrize(("n", "within"), [(400, 1e-3), (20_000, 1e-4)])
def test_the_more_rows_the_less_codes_change_an_area(n: int, within: float) -> None:
    rng = RNG(6)
    labels = rng.integers(0, 2, n)
    scores = 1 / (1 + np.exp(-rng.normal(labels - 0.5, 1)))
    for area in (metrics.auc, metrics.average_precision):
        assert area(metrics.codes_of(scores), labels).value == pytest.approx(area(scores, labels).value, abs=within)
