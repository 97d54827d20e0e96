import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import metrics
from models.metrics import Estimate, PairedErrors, PairedHits

RNG = np.random.default_rng
COUNTS = st.integers(0, 50)


def bounds(one: Estimate) -> tuple[float, float]:
    assert one.low is not None
    assert one.high is not None
    return one.low, one.high


def score(hits: PairedHits, difference: float) -> float:
    """Tango's statistic, its likeliest chances found by trying them all."""
    chances = np.linspace(max(0.0, -difference), (1 - difference) / 2, 100_003)[1:-1]
    logs = (
        hits.better * np.log(chances + difference)
        + hits.worse * np.log(chances)
        + hits.same * np.log1p(-2 * chances - difference)
    )
    chance = chances[logs.argmax()]
    variance = hits.n * (2 * chance + difference - difference**2)
    return float((hits.better - hits.worse - hits.n * difference) / math.sqrt(variance))


@pytest.mark.parametrize("hits", [PairedHits(12, 80, 5), PairedHits(1, 40, 3), PairedHits(0, 25, 4)])
def test_an_interval_ends_where_the_score_is_the_normal_quantile(hits: PairedHits) -> None:
    low, high = bounds(hits.gain(0.95))
    assert score(hits, low) == pytest.approx(1.96, abs=1e-3)
    assert score(hits, high) == pytest.approx(-1.96, abs=1e-3)


@pytest.mark.parametrize(("better", "worse"), [(0.1, 0.1), (0.05, 0.02), (0.3, 0.1)])
def test_an_interval_holds_the_difference_as_often_as_it_says(better: float, worse: float) -> None:
    n, covered = 60, 0.0
    for up, down in product(range(n + 1), repeat=2):
        if up + down > n:
            continue
        chance = math.comb(n, up) * math.comb(n - up, down) * better**up * worse**down
        chance *= (1 - better - worse) ** (n - up - down)
        if chance > 1e-7:
            low, high = bounds(PairedHits(up, n - up - down, down).gain(0.95))
            covered += chance * (low <= better - worse <= high)
    assert 0.93 < covered < 0.98


@given(COUNTS, COUNTS, COUNTS, st.sampled_from([0.8, 0.95, 0.999]))
def test_an_interval_holds_its_gain_and_is_mirrored_where_versions_are_exchanged(
    better: int, same: int, worse: int, confidence: float
) -> None:
    found = PairedHits(better, same, worse).gain(confidence)
    if found.value is None:
        assert found == Estimate(None, 0, reason="no rows")
        return
    low, high = bounds(found)
    assert -1 <= low <= found.value <= high <= 1
    other = PairedHits(worse, same, better).gain(confidence)
    assert other == Estimate(-found.value, found.n, -high, -low)


def test_more_confidence_makes_wider_intervals() -> None:
    widths = [high - low for low, high in (bounds(PairedHits(9, 80, 4).gain(one)) for one in (0.8, 0.95, 0.99))]
    assert widths == sorted(widths)
    with pytest.raises(ValueError, match="confidence must be between 0 and 1, got 1"):
        PairedHits(1, 1, 1).gain(1)


def test_versions_that_never_differ_are_next_to_equal() -> None:
    z2 = 1.959964**2
    assert bounds(PairedHits(0, 400, 0).gain(0.95)) == pytest.approx((-z2 / (400 + z2), z2 / (400 + z2)), abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), max_size=60))
def test_the_recalls_of_two_versions_differ_by_the_gains_of_each_class(rows: list[tuple[int, int, int]]) -> None:
    labels, first, second = np.array(rows, int).reshape(-1, 3).T
    found = metrics.paired_recalls(labels, first, second, 4)
    recalls = [
        [
            one["recall"].value
            for one in metrics.of_each_class(metrics.Confusion.of(metrics.confusion_matrix(labels, said, 4)))
        ]
        for said in (first, second)
    ]
    for index, hits in enumerate(found):
        assert hits.n == (labels == index).sum()
        before, after = recalls[0][index], recalls[1][index]
        if before is not None and after is not None:
            assert hits.gain(0.95).value == pytest.approx(after - before)


# Errors


def test_the_gain_of_a_regression_is_the_share_of_the_error_that_is_gone() -> None:
    rng = RNG(0)
    first = rng.gamma(2.0, size=500)
    second = first * 0.8 + rng.gamma(1.0, 0.1, size=500)
    found = PairedErrors.of(first, second).gain(0.95)
    low, high = bounds(found)
    assert found.value == pytest.approx(1 - second.mean() / first.mean())
    draws = rng.integers(0, 500, (2000, 500))
    resampled = np.percentile(1 - second[draws].mean(axis=1) / first[draws].mean(axis=1), [2.5, 97.5])
    assert (low, high) == pytest.approx(tuple(resampled), abs=0.1 * (high - low))


def test_a_unit_does_not_change_a_gain() -> None:
    first, second = RNG(0).gamma(2.0, size=(2, 100))
    assert bounds(PairedErrors.of(first, second).gain(0.9)) == pytest.approx(
        bounds(PairedErrors.of(1e6 * first, 1e6 * second).gain(0.9))
    )


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([], Estimate(None, 0, reason="no rows")),
        ([(0.0, 1.0), (0.0, 2.0)], Estimate(None, 2, reason="the first makes no errors")),
        ([(2.0, 1.0)], Estimate(0.5, 1)),
        ([(1e308, 1.0), (1e308, 1.0), (1e308, 1.0)], Estimate(None, 3, reason="it is too large for a float")),
        ([(1.0, 1e308)] * 3, Estimate(None, 3, reason="it is too large for a float")),
    ],
)
def test_where_a_gain_is_not_defined_it_says_why(errors: list[tuple[float, float]], expected: Estimate) -> None:
    first, second = np.array(errors).reshape(-1, 2).T
    assert PairedErrors.of(first, second).gain(0.95) == expected


# Calibration


def test_a_rise_of_the_calibration_error_is_the_difference_of_both() -> None:
    rng = RNG(0)
    chance = rng.uniform(0.5, 1.0, 3000)
    correct = rng.random(3000) < chance
    surer = np.minimum(1.0, chance + 0.1)
    found = metrics.calibration_rise(chance, correct, surer, correct)
    before, after = (metrics.calibration_error(one, correct) for one in (chance, surer))
    low, high = bounds(found)
    assert found.value == pytest.approx(after - before)
    assert 0.03 < low < found.value < high
    other = metrics.calibration_rise(surer, correct, chance, correct)
    assert other.value == pytest.approx(before - after)


@pytest.mark.parametrize("n", [300, 3000])
def test_the_interval_of_a_rise_holds_it_where_there_is_none(n: int) -> None:
    held = 0
    for seed in range(30):
        rng = RNG(seed)
        chance = rng.uniform(0.3, 1.0, n)
        first, second = (np.clip(chance + rng.normal(0, 0.05, n), 0, 1) for _ in range(2))
        correct = rng.random(n) < chance
        low, high = bounds(metrics.calibration_rise(first, correct, second, correct))
        held += low <= 0 <= high
    assert held >= 25


@pytest.mark.parametrize("n", [300, 3000])
def test_the_order_of_rows_changes_nothing_of_a_rise(n: int) -> None:
    rng = RNG(0)
    columns = rng.random((4, n))
    columns[1::2] = columns[1::2] < 0.5
    order = rng.permutation(n)
    assert metrics.calibration_rise(*columns) == metrics.calibration_rise(*columns[:, order])


def test_without_rows_no_calibration_rises() -> None:
    assert metrics.calibration_rise(*[np.empty(0)] * 4) == Estimate(None, 0, reason="no rows")
