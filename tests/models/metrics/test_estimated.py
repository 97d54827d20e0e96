import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import metrics
from models.metrics import Calibrator, Estimate, Undefined

RNG = np.random.default_rng


def overconfident(rng: np.random.Generator, n: int, mean: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """What a network with too large logits says (n,), and which rows are right (n,)."""
    logits = np.abs(rng.normal(mean, 2.0, n))
    return 1 / (1 + np.exp(-logits)), rng.random(n) < 1 / (1 + np.exp(-logits / 2.5))


def nearest_rising(correct: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Isotonic regression by trying every way to cut the rows into levels."""
    n = len(correct)
    best, least = correct, math.inf
    for cuts in itertools.product([False, True], repeat=n - 1):
        level = np.concatenate([[0], np.cumsum(cuts)]).astype(int)
        means = np.bincount(level, correct * weights) / np.bincount(level, weights)
        loss = float((weights * np.square(correct - means[level])).sum())
        if (np.diff(means) >= 0).all() and loss < least - 1e-12:
            best, least = means[level], loss
    return best


# The calibrator


def test_neighbours_in_the_wrong_order_are_pooled() -> None:
    # Ayer et al. 1955: 1, 0 become a half each.
    found = Calibrator.fit(np.array([0.1, 0.4, 0.6, 0.9]), np.array([0, 1, 0, 1]))
    assert found.of(np.array([0.1, 0.4, 0.5, 0.6, 0.9])).tolist() == [0.0, 0.5, 0.5, 0.5, 1.0]


def test_equal_confidences_are_one_point() -> None:
    found = Calibrator.fit(np.array([0.5, 0.5, 0.5, 0.8]), np.array([1, 0, 0, 1]))
    assert found.of(np.array([0.5, 0.8])) == pytest.approx([1 / 3, 1.0])


def test_between_points_it_is_a_line_and_beyond_them_flat() -> None:
    found = Calibrator.fit(np.array([0.5, 0.7]), np.array([0.2, 0.6]))
    assert found.of(np.array([0.0, 0.5, 0.6, 0.7, 1.0])) == pytest.approx([0.2, 0.2, 0.4, 0.6, 0.6])


def test_shares_of_rows_count_as_the_rows_themselves() -> None:
    rng = RNG(0)
    confidence, correct = np.round(rng.random(400), 1), rng.integers(0, 2, 400)
    points, places = np.unique(confidence, return_inverse=True)
    rows = np.bincount(places)
    by_share = Calibrator.fit(points, np.bincount(places, correct) / rows, rows)
    assert by_share.of(points) == pytest.approx(Calibrator.fit(confidence, correct).of(points))


def test_rows_without_weight_do_not_count() -> None:
    found = Calibrator.fit(np.array([0.2, 0.5, 0.8]), np.array([0.1, 0.9, 0.3]), np.array([1.0, 0.0, 1.0]))
    assert found.of(np.array([0.5])) == pytest.approx([0.2])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3)), min_size=1, max_size=8))
def test_it_is_the_nearest_rising_function(rows: list[tuple[int, int]]) -> None:
    correct, weights = np.array([hits / 4 for hits, _ in rows]), np.array([float(weight) for _, weight in rows])
    confidence = np.arange(len(rows)) / 10
    found = Calibrator.fit(confidence, correct, weights).of(confidence)
    assert found == pytest.approx(nearest_rising(correct, weights))


@pytest.mark.parametrize("n", [150, 5000])
def test_the_mean_over_the_rows_fitted_is_kept(n: int) -> None:
    confidence, correct = overconfident(RNG(0), n)
    assert Calibrator.fit(confidence, correct).of(confidence).mean() == pytest.approx(correct.mean())


def test_many_rows_are_fitted_fast_and_well() -> None:
    confidence, correct = overconfident(RNG(0), 100_000)
    start = time.process_time()
    found = Calibrator.fit(confidence, correct)
    assert time.process_time() - start < 1.0  # about 0.02 s
    assert len(found.confidence) <= 400
    assert (np.diff(found.confidence) > 0).all()
    assert (np.diff(found.correct) >= 0).all()
    at = np.array([0.6, 0.75, 0.9, 0.97])
    assert found.of(at) == pytest.approx(1 / (1 + ((1 - at) / at) ** 0.4), abs=0.03)


def test_a_confidence_that_most_rows_share_leaves_the_others_apart() -> None:
    confidence = np.concatenate([np.linspace(0.5, 0.9, 1000), np.ones(100_000)])
    correct = np.concatenate([np.zeros(1000), np.ones(100_000)])
    assert Calibrator.fit(confidence, correct).of(np.array([0.5, 0.9, 1.0])).tolist() == [0.0, 0.0, 1.0]


def test_without_calibration_confidence_is_taken_at_its_word() -> None:
    values = np.array([0.0, 0.3, 1.0])
    assert Calibrator.identity().of(values).tolist() == values.tolist()
    assert Calibrator.identity().of(np.array([-0.1, 1.1])).tolist() == [0.0, 1.0]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(n,\), got \(2,\), \(3,\) and \(2,\)"):
        Calibrator.fit(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        Calibrator.fit(np.array([0.5, np.nan]), np.zeros(2))
    with pytest.raises(ValueError, match="not negative"):
        Calibrator.fit(np.zeros(2), np.zeros(2), np.array([1.0, -1.0]))
    with pytest.raises(Undefined, match="no rows"):
        Calibrator.fit(np.zeros(0), np.zeros(0))
    with pytest.raises(Undefined, match="no rows"):
        Calibrator.fit(np.zeros(2), np.zeros(2), np.zeros(2))


# The estimate


def test_the_estimate_by_hand() -> None:
    found = metrics.estimated_accuracy(np.array([0.9, 0.6]), Calibrator.identity(), None)
    half = 1.959964 * math.sqrt(0.9 * 0.1 + 0.6 * 0.4) / 2
    assert (found.value, found.n, found.high) == (pytest.approx(0.75), 2, 1.0)
    assert found.low == pytest.approx(0.75 - half)


def test_the_fewer_rows_are_behind_the_calibrator_the_wider_the_interval() -> None:
    confidence = RNG(0).uniform(0.5, 1, 1000)
    widths = []
    for calibration_n in (100, 10_000, None):
        found = metrics.estimated_accuracy(confidence, Calibrator.identity(), calibration_n)
        assert found.low is not None
        assert found.high is not None
        widths.append(found.high - found.low)
    assert widths[0] > 2 * widths[1] > 2 * widths[2]


def test_few_rows_without_an_error_do_not_show_that_there_are_none() -> None:
    calibrator = Calibrator.fit(np.linspace(0.9, 1, 50), np.ones(50))
    found = metrics.estimated_accuracy(np.full(1000, 0.99), calibrator, 50)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low is not None
    assert 0.9 < found.low < 0.97


def test_nothing_is_estimated_without_rows() -> None:
    expected = Estimate(None, 0, reason="no rows")
    assert metrics.estimated_accuracy(np.zeros(0), Calibrator.identity(), None) == expected
    with pytest.raises(ValueError, match="calibration_n must be positive, got 0"):
        metrics.estimated_accuracy(np.ones(1), Calibrator.identity(), 0)


def test_a_calibrator_mends_the_estimate_of_an_overconfident_network() -> None:
    rng = RNG(0)
    calibrator = Calibrator.fit(*overconfident(rng, 5000))
    confidence, correct = overconfident(rng, 20_000)
    naive = metrics.estimated_accuracy(confidence, Calibrator.identity(), None)
    mended = metrics.estimated_accuracy(confidence, calibrator, 5000)
    assert (naive.low or 0) > correct.mean() + 0.05
    assert mended.value == pytest.approx(correct.mean(), abs=0.015)
    assert (mended.low or 0) <= correct.mean() <= (mended.high or 0)


def test_the_estimate_follows_rows_that_become_harder() -> None:
    rng = RNG(1)
    usual = overconfident(rng, 5000)
    calibrator = Calibrator.fit(*usual)
    confidence, correct = overconfident(rng, 5000, mean=0.0)
    assert correct.mean() < usual[1].mean() - 0.04
    assert metrics.estimated_accuracy(confidence, calibrator, 5000).value == pytest.approx(correct.mean(), abs=0.02)


@pytest.mark.parametrize("n", [200, 2000])
def test_the_interval_holds_the_accuracy_that_labels_show_as_often_as_it_says(n: int) -> None:
    held = 0
    for trial in range(300):
        rng = RNG(trial)
        calibrator = Calibrator.fit(*overconfident(rng, 1000))
        confidence, correct = overconfident(rng, n)
        found = metrics.estimated_accuracy(confidence, calibrator, 1000)
        held += (found.low or 0) <= correct.mean() <= (found.high or 0)
    assert 0.93 * 300 <= held <= 0.99 * 300
