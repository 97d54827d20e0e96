import math
from collections.abc import Callable

import numpy as np
import pytest

from models import metrics
from models.metrics import Undefined

RNG = np.random.default_rng
EVEN = np.full(20, 500)
Measure = Callable[[np.ndarray, np.ndarray], float]


def skewed(n: int, strength: float) -> np.ndarray:
    """Counts of n rows whose share rises over 20 bins."""
    shares = np.exp(np.linspace(0, strength, 20))
    return RNG(0).multinomial(n, shares / shares.sum())


# Counts


def test_the_stability_index_by_hand() -> None:
    # Half a row each: 8 and 4 of 12 against 3 and 9 of 12.
    found = metrics.psi(np.array([7.5, 3.5]), np.array([2.5, 8.5]))
    assert found == pytest.approx((3 / 12 - 8 / 12) * math.log(3 / 8) + (9 / 12 - 4 / 12) * math.log(9 / 4))


def test_the_stability_index_is_the_same_both_ways_and_0_of_the_same_shares() -> None:
    first, second = np.array([40, 30, 30]), np.array([10, 10, 80])
    assert metrics.psi(first, second) == pytest.approx(metrics.psi(second, first))
    assert metrics.psi(first, first) == 0.0


def test_empty_bins_leave_the_stability_index_finite() -> None:
    assert 1 < metrics.psi(np.array([100, 0, 0]), np.array([0, 100, 0])) < 20


def test_the_divergence_by_hand() -> None:
    found = metrics.jensen_shannon(np.array([3, 1]), np.array([1, 3]))
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert found == pytest.approx(1 - entropy)


def test_the_divergence_is_0_of_the_same_shares_and_1_of_those_with_nothing_in_common() -> None:
    assert metrics.jensen_shannon(np.array([1, 2, 3]), np.array([10, 20, 30])) == pytest.approx(0, abs=1e-12)
    assert metrics.jensen_shannon(np.array([5, 5, 0]), np.array([0, 0, 7])) == 1.0


@pytest.mark.parametrize("measure", [metrics.psi, metrics.jensen_shannon])
def test_measures_refuse_what_does_not_fit_and_are_not_defined_without_rows(measure: Measure) -> None:
    with pytest.raises(ValueError, match=r"shape \(k,\), got \(2,\) and \(3,\)"):
        measure(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match=r"shape \(k,\)"):
        measure(np.ones(0), np.ones(0))
    with pytest.raises(Undefined, match=r"^no rows$"):
        measure(np.ones(2), np.zeros(2))
    with pytest.raises(Undefined, match="the reference has no rows"):
        measure(np.zeros(2), np.ones(2))


# What chance gives


@pytest.mark.parametrize(
    ("degrees", "level", "quantile"),
    [
        (1, 0.95, 3.841),
        (2, 0.95, 5.991),
        (3, 0.95, 7.815),
        (5, 0.95, 11.070),
        (10, 0.95, 18.307),
        (19, 0.95, 30.144),
        (1, 0.99, 6.635),
        (2, 0.99, 9.210),
        (3, 0.99, 11.345),
        (5, 0.99, 15.086),
        (10, 0.99, 23.209),
        (19, 0.99, 36.191),
        (100, 0.99, 135.807),
        (1, 0.999, 10.828),
        (2, 0.999, 13.816),
        (6, 0.999, 22.458),
        (10, 0.999, 29.588),
        (19, 0.999, 43.820),
        (100, 0.999, 149.449),
        (1, 0.05, 0.00393),
    ],
)
def test_noise_is_chi_squared(degrees: int, level: float, quantile: float) -> None:
    # NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.4; two groups of two rows have a factor of 1.
    assert metrics.psi_noise(degrees + 1, 2, 2, level=level) == pytest.approx(quantile, rel=0.01)


@pytest.mark.parametrize(("degrees", "quantile"), [(3, 16.266), (4, 18.467), (5, 20.515)])
def test_noise_of_few_bins_is_never_too_low(degrees: int, quantile: float) -> None:
    assert quantile < metrics.psi_noise(degrees + 1, 2, 2, level=0.999) < 1.02 * quantile


def test_noise_falls_with_the_rows_of_both() -> None:
    assert metrics.psi_noise(20, 1000, 1000, level=0.999) == pytest.approx(2 / 1000 * 43.82, rel=0.01)
    assert metrics.psi_noise(20, 10**9, 200, level=0.999) == pytest.approx(43.82 / 200, rel=0.01)
    assert metrics.psi_noise(1, 10, 10, level=0.999) == 0.0


@pytest.mark.parametrize("n", [200, 500, 2000])
def test_rows_that_did_not_drift_exceed_the_noise_about_as_often_as_it_says(n: int) -> None:
    rng, shares = RNG(n), np.full(20, 1 / 20)
    trials = 5000
    references, samples = rng.multinomial(1000, shares, trials), rng.multinomial(n, shares, trials)
    noise = metrics.psi_noise(20, 1000, n, level=0.999)
    alarms = sum(metrics.psi(*both) > noise for both in zip(references, samples, strict=True))
    assert alarms <= 0.003 * trials


@pytest.mark.parametrize(("reference_n", "n"), [(1000, 200), (1000, 100_000), (10_000, 200)])
def test_many_rare_labels_raise_no_false_alarms(reference_n: int, n: int) -> None:
    # Half a row for each of them would be a tenth of the smaller sample and nothing of the larger one.
    rng, shares = RNG(0), np.full(1000, 1e-5)
    shares[0] += 1 - shares.sum()
    trials = 500
    alarms = sum(
        bool(metrics.drift(rng.multinomial(reference_n, shares), rng.multinomial(n, shares), psi_threshold=0.0).drifted)
        for _ in range(trials)
    )
    assert alarms <= 0.01 * trials


# Drift


def test_rows_that_are_distributed_as_before_did_not_drift() -> None:
    found = metrics.drift(EVEN, skewed(1000, 0.0))
    assert found.drifted is False
    assert (found.n, found.reference_n, found.psi_threshold, found.reason) == (1000, 10_000, 0.2, None)
    assert 0 < (found.psi or 0) < 0.2


def test_rows_that_are_distributed_otherwise_drifted() -> None:
    counts = skewed(1000, 2.5)
    found = metrics.drift(EVEN, counts)
    assert found.drifted is True
    assert (found.psi, found.jensen_shannon) == (metrics.psi(EVEN, counts), metrics.jensen_shannon(EVEN, counts))


def test_a_change_below_the_threshold_is_no_drift_however_sure_it_is() -> None:
    found = metrics.drift(EVEN * 1000, skewed(1_000_000, 0.8))
    assert 0.01 < (found.psi or 0) < 0.2
    assert found.drifted is False
    assert metrics.drift(EVEN * 1000, skewed(1_000_000, 0.8), psi_threshold=0.01).drifted is True


def test_few_rows_drift_only_above_what_chance_gives() -> None:
    reference, counts = np.full(20, 10), skewed(200, 1.4)
    found = metrics.drift(reference, counts)
    noise = metrics.psi_noise(20, 200, 200, level=0.999)
    assert (found.psi_noise, found.drifted) == (pytest.approx(noise), False)
    assert 0.2 < (found.psi or 0) < noise
    assert metrics.drift(reference * 1000, counts).drifted is True


def test_more_comparisons_ask_for_more() -> None:
    one, many = (metrics.drift(np.full(20, 10), skewed(200, 0.0), comparisons=number) for number in (1, 50))
    assert (one.psi_noise or 0) < (many.psi_noise or 0)
    assert many.psi_noise == pytest.approx(metrics.psi_noise(20, 200, 200, level=1 - 0.001 / 50))


def test_the_divergence_alone_can_tell() -> None:
    counts = skewed(1000, 2.5)
    divergence = metrics.jensen_shannon(EVEN, counts)
    assert metrics.drift(EVEN, counts, psi_threshold=50.0, jensen_shannon_threshold=divergence - 0.01).drifted is True
    assert metrics.drift(EVEN, counts, psi_threshold=50.0, jensen_shannon_threshold=divergence + 0.01).drifted is False


def test_the_divergence_of_chance_alone_is_no_drift() -> None:
    found = metrics.drift(np.full(20, 10), skewed(200, 0.0), jensen_shannon_threshold=0.0)
    assert (found.jensen_shannon or 0) > 0
    assert found.drifted is False


def test_a_label_that_the_reference_never_had_is_drift() -> None:
    found = metrics.drift(np.array([500, 500, 0, 0]), np.array([250, 250, 250, 0]))
    assert found.drifted is True
    assert found.jensen_shannon == pytest.approx(metrics.jensen_shannon(np.array([2, 2, 0]), np.array([1, 1, 1])))


def test_many_labels_that_the_reference_never_had_are_drift_together() -> None:
    reference, counts = np.zeros(1001), np.zeros(1001)
    reference[0], counts[0], counts[1:401] = 100_000, 800, 1
    found = metrics.drift(reference, counts)
    assert found.drifted is True
    assert found.psi == pytest.approx(metrics.psi(np.array([100_000, 0]), np.array([800, 400])))


def test_a_single_bin_cannot_drift() -> None:
    found = metrics.drift(np.array([300]), np.array([400]))
    assert (found.psi, found.jensen_shannon, found.drifted) == (0.0, 0.0, False)


def test_too_few_rows_say_nothing_yet() -> None:
    found = metrics.drift(EVEN, skewed(199, 2.5))
    assert (found.n, found.drifted, found.reason) == (199, None, "fewer than 200 rows")
    assert (found.psi or 0) > 0
    assert metrics.drift(EVEN, skewed(199, 2.5), minimum_n=100).drifted is True


def test_without_rows_nothing_is_said_and_why() -> None:
    found = metrics.drift(EVEN, np.zeros(20))
    assert found.to_dict() == {
        "psi": None,
        "jensen_shannon": None,
        "n": 0,
        "reference_n": 10_000,
        "psi_threshold": 0.2,
        "jensen_shannon_threshold": 0.1,
        "psi_noise": None,
        "drifted": None,
        "reason": "no rows",
    }
    assert metrics.drift(np.zeros(20), EVEN).reason == "the reference has no rows"
    with pytest.raises(ValueError, match=r"shape \(k,\)"):
        metrics.drift(EVEN, np.ones(19))


def test_a_reason_is_reported_only_where_there_is_one() -> None:
    found = metrics.drift(EVEN, skewed(1000, 0.0))
    assert "reason" not in found.to_dict()
    assert metrics.drift(EVEN, skewed(10, 0.0)).to_dict()["reason"] == "fewer than 200 rows"
