import math
from collections.abc import Callable
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import metrics
from models.metrics import Estimate, bets

RNG = np.random.default_rng
CHANCES = st.floats(0.0, 1.0)
BOUNDS = st.floats(-0.9, 0.9)
COUNTS = st.integers(0, 60)
GROUPS = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda parts: (parts[0], sum(parts)))
# What the search for a least value, and sums of floats, may be off by.
ROUNDING = 1e-7


def bounds(one: Estimate) -> tuple[float, float]:
    assert one.low is not None
    assert one.high is not None
    return one.low, one.high


@st.composite
def pair_chances(draw: st.DrawFn, mean: float) -> tuple[float, float, float]:
    """Of 1, 0 and -1, so that the mean is this."""
    apart = draw(st.floats(abs(mean), 1.0))
    return (apart + mean) / 2, 1 - apart, (apart - mean) / 2


# Under the hypothesis an e-value is 1 on average at most


@given(n=st.integers(0, 9), bound=BOUNDS, data=st.data())
def test_pairs_whose_mean_is_the_bound_win_nothing_on_average(n: int, bound: float, data: st.DataObject) -> None:
    chances = data.draw(pair_chances(bound))
    total = 0.0
    for better in range(n + 1):
        for worse in range(n - better + 1):
            same = n - better - worse
            ways = math.comb(n, better) * math.comb(n - better, worse)
            chance = ways * chances[0] ** better * chances[1] ** same * chances[2] ** worse
            total += chance * math.exp(metrics.paired_evidence(better, same, worse, bound=bound))
    assert total == pytest.approx(1.0, abs=ROUNDING)


@given(counts=st.tuples(COUNTS, COUNTS, COUNTS), bound=BOUNDS, mean=st.floats(0.0, 1.0), data=st.data())
def test_the_next_pair_wins_nothing_whatever_came_before(
    counts: tuple[int, int, int], bound: float, mean: float, data: st.DataObject
) -> None:
    chances = data.draw(pair_chances(bound - mean * (1 + bound)))
    now = metrics.paired_evidence(*counts, bound=bound)
    gained = 0.0
    for chance, step in zip(chances, np.eye(3, dtype=int).tolist(), strict=True):
        after = [count + one for count, one in zip(counts, step, strict=True)]
        gained += chance * math.exp(metrics.paired_evidence(*after, bound=bound) - now)
    assert gained <= 1 + ROUNDING


def most_that_groups_win(p: float, q: float, bound: float, rows: int) -> float:
    """What a gambler wins at most on average who chooses each row's group and when to stop, by all that he saw."""
    cells = list(product(range(rows + 1), repeat=4))
    there = [one for one in cells if one[0] <= one[1] and one[2] <= one[3] and one[1] + one[3] <= rows]
    worth = dict(zip(there, np.exp(bets.on_groups(*np.array(there).T, bound)).tolist(), strict=True))

    @cache
    def most(hits: int, n: int, other_hits: int, other_n: int) -> float:
        now: float = worth[hits, n, other_hits, other_n]
        if n + other_n == rows:
            return now
        one = p * most(hits + 1, n + 1, other_hits, other_n) + (1 - p) * most(hits, n + 1, other_hits, other_n)
        other = q * most(hits, n, other_hits + 1, other_n + 1) + (1 - q) * most(hits, n, other_hits, other_n + 1)
        return max(now, one, other)

    return most(0, 0, 0, 0)


@settings(deadline=None, max_examples=25)
@given(q=CHANCES, bound=BOUNDS, lower=st.sampled_from([0.0, 0.0, 0.1, 0.5, 1.0]))
def test_no_way_to_assign_rows_and_to_stop_makes_groups_win(q: float, bound: float, lower: float) -> None:
    p = min(1.0, max(0.0, q + bound)) * (1 - lower)
    q = max(q, p - bound)
    assert most_that_groups_win(p, q, bound, rows=7) <= 1 + ROUNDING


def test_groups_win_where_the_hypothesis_does_not_hold() -> None:
    assert most_that_groups_win(0.9, 0.3, 0.0, rows=10) > 1.2


def test_skewed_errors_seldom_seem_better_however_often_one_looks() -> None:
    runs, rows, looks = 400, 3000, np.arange(100, 3001, 50)
    values = RNG(0).lognormal(size=(runs, rows)) - math.exp(0.5)
    means = values.cumsum(axis=1)[:, looks - 1] / looks
    variances = np.square(values).cumsum(axis=1)[:, looks - 1] / looks - np.square(means)
    for sign in (1, -1):
        rejected = (bets.on_means(looks, sign * means, variances, 0.0) >= metrics.threshold(0.05)).any(axis=1)
        assert rejected.mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


# How it moves


@given(st.tuples(COUNTS, COUNTS, COUNTS), BOUNDS, BOUNDS)
def test_pairs_say_less_against_a_higher_bound(counts: tuple[int, int, int], one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert metrics.paired_evidence(*counts, bound=high) <= metrics.paired_evidence(*counts, bound=low) + ROUNDING


@given(GROUPS, GROUPS, BOUNDS, BOUNDS)
def test_groups_say_less_against_a_higher_bound(
    group: tuple[int, int], others: tuple[int, int], one: float, other: float
) -> None:
    low, high = sorted((one, other))
    said = [metrics.separate_evidence(*group, *others, bound=bound) for bound in (low, high)]
    assert said[1] <= said[0] + ROUNDING


@given(st.integers(100, 10**6), st.floats(-5, 5), st.floats(0, 5), st.floats(-5, 5), st.floats(-5, 5))
def test_means_say_less_against_a_higher_bound(n: int, mean: float, variance: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    said = [metrics.mean_evidence(n, mean, variance, bound=bound) for bound in (low, high)]
    assert said[1] <= said[0] + ROUNDING * max(1.0, abs(said[0]))


@given(GROUPS, GROUPS, BOUNDS)
def test_misses_of_the_one_are_as_good_as_hits_of_the_other(
    group: tuple[int, int], others: tuple[int, int], bound: float
) -> None:
    (hits, n), (other_hits, other_n) = group, others
    mirrored = metrics.separate_evidence(other_n - other_hits, other_n, n - hits, n, bound=bound)
    assert metrics.separate_evidence(*group, *others, bound=bound) == pytest.approx(mirrored, abs=ROUNDING)


@given(st.tuples(COUNTS, COUNTS, COUNTS))
def test_exchanging_the_versions_mirrors_the_interval_of_pairs(counts: tuple[int, int, int]) -> None:
    one, other = metrics.paired_interval(*counts), metrics.paired_interval(*counts[::-1])
    if one.value is not None:
        assert other == Estimate(-one.value, one.n, *(-bound for bound in bounds(one)[::-1]))


def test_exchanging_the_groups_mirrors_their_interval() -> None:
    one, other = metrics.separate_interval(45, 50, 160, 200), metrics.separate_interval(160, 200, 45, 50)
    assert bounds(other) == pytest.approx([-bound for bound in bounds(one)[::-1]])


@pytest.mark.parametrize("apart", [30, 100, 300, 1000, 3000])
def test_pairs_say_about_what_a_sequential_sign_test_does(apart: int) -> None:
    better = round(apart / 2 + 1.6 * math.sqrt(apart))
    # A uniform prior of the chance above 1/2 that a row on which they differ is better.
    chances = np.linspace(0.5, 1.0, 200_001)[1:-1]
    logs = better * np.log(2 * chances) + (apart - better) * np.log(2 * (1 - chances))
    sign_test = math.log(np.exp(logs).mean())
    assert sign_test > 1
    assert metrics.paired_evidence(better, 5000, apart - better) > sign_test - 0.8


def test_rows_on_which_nothing_differs_say_nothing_of_who_is_better_and_that_neither_is_worse() -> None:
    assert metrics.paired_evidence(0, 5000, 0) == pytest.approx(0.0, abs=1e-12)
    assert metrics.paired_evidence(0, 5000, 0, bound=-0.01) > metrics.threshold(0.001)
    assert metrics.mean_evidence(5000, 0.0, 0.0) <= 0
    assert metrics.mean_evidence(5000, 0.0, 0.0, bound=-0.01) > metrics.threshold(0.001)


# The ends


def test_no_rows_are_no_evidence() -> None:
    assert metrics.paired_evidence(0, 0, 0) == 0.0
    assert metrics.separate_evidence(0, 0, 0, 0) == 0.0
    assert metrics.mean_evidence(0, 0.0, 0.0) == 0.0
    assert metrics.paired_interval(0, 0, 0) == Estimate(None, 0, reason="no rows")
    assert metrics.separate_interval(0, 0, 3, 4) == Estimate(None, 4, reason="no rows in one of the groups")
    assert metrics.mean_interval(0, 0.0, 0.0) == Estimate(None, 0, reason="no rows")


def test_rows_of_one_group_alone_speak_for_nothing() -> None:
    assert metrics.separate_evidence(0, 0, 3, 100) < 0
    assert metrics.separate_evidence(97, 100, 0, 0) < 0


def test_few_numbers_speak_against_a_bound_but_never_for_one() -> None:
    least = metrics.LEAST_ROWS_OF_MEANS
    assert metrics.mean_evidence(least - 1, 5.0, 1.0) == 0.0
    assert metrics.mean_evidence(least, 5.0, 1.0) > 100
    assert metrics.mean_evidence(least - 1, -5.0, 1.0) < 0
    assert metrics.mean_interval(least - 1, 5.0, 1.0) == Estimate(5.0, least - 1)


@pytest.mark.parametrize("bound", [-0.99, -0.01, 0.0, 0.01, 0.99])
def test_a_million_rows_neither_overflow_nor_underflow(bound: float) -> None:
    many = 10**6
    for counts in ((many, 0, 0), (0, many, 0), (0, 0, many), (many // 2, 0, many // 2)):
        assert math.isfinite(metrics.paired_evidence(*counts, bound=bound))
    for hits, other_hits in product((0, many // 2, many), repeat=2):
        assert math.isfinite(metrics.separate_evidence(hits, many, other_hits, many, bound=bound))
        assert math.isfinite(metrics.separate_evidence(hits, many, min(other_hits, 1), 1, bound=bound))
    for mean in (-1e100, 0.0, 1e-100, 1e100):
        assert math.isfinite(metrics.mean_evidence(many, mean, 1.0, bound=bound))


# Intervals


@settings(deadline=None)
@given(st.tuples(COUNTS, COUNTS, COUNTS), st.sampled_from([0.01, 0.05, 0.2]))
def test_an_interval_of_pairs_ends_where_bounds_are_rejected(counts: tuple[int, int, int], alpha: float) -> None:
    found = metrics.paired_interval(*counts, alpha=alpha)
    if found.value is None:
        return
    low, high = bounds(found)
    assert -1 <= low <= found.value <= high <= 1
    for end, sign, ordered in ((low, 1, counts), (high, -1, counts[::-1])):
        if abs(end) < 1:
            beyond = metrics.paired_evidence(*ordered, bound=sign * end)
            inside = metrics.paired_evidence(*ordered, bound=sign * end + 2e-7)
            assert inside < metrics.threshold(alpha / 2) <= beyond


@settings(deadline=None, max_examples=20)
@given(GROUPS, GROUPS)
def test_an_interval_of_groups_ends_where_bounds_are_rejected(group: tuple[int, int], others: tuple[int, int]) -> None:
    found = metrics.separate_interval(*group, *others)
    if found.value is None:
        return
    low, high = bounds(found)
    assert -1 <= low <= found.value <= high <= 1
    if low > -1:
        assert metrics.separate_evidence(*group, *others, bound=low) >= metrics.threshold(0.025)
        assert metrics.separate_evidence(*group, *others, bound=low + 2e-7) < metrics.threshold(0.025)


@given(st.integers(100, 10**4), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_an_interval_of_means_ends_where_bounds_are_rejected(n: int, mean: float, variance: float) -> None:
    low, high = bounds(metrics.mean_interval(n, mean, variance))
    assert high - mean == pytest.approx(mean - low)
    for sign, end in ((1, low), (-1, high)):
        evidence = metrics.mean_evidence(n, sign * mean, variance, bound=sign * end)
        assert evidence == pytest.approx(metrics.threshold(0.025), abs=5e-4)


@pytest.mark.parametrize("n", [1_000, 10_000, 100_000])
def test_intervals_for_all_looks_are_about_twice_as_wide_as_for_one(n: int) -> None:
    apart, hits = n // 10, n * 9 // 10

    def times(found: Estimate, variance_of_mean: float) -> float:
        low, high = bounds(found)
        return (high - low) / (2 * 1.96 * math.sqrt(variance_of_mean))

    of_pairs = times(metrics.paired_interval(apart // 2, n - apart, apart // 2), apart / n**2)
    of_groups = times(metrics.separate_interval(hits, n, hits, n), 2 * 0.09 / n)
    of_means = times(metrics.mean_interval(n, 0.0, 1.0), 1 / n)
    assert 1.5 < of_pairs < 1.9
    assert 1.7 < of_groups < 2.2
    assert 1.5 < of_means < 1.9


def test_values_that_are_all_the_same_have_bounds_without_width() -> None:
    assert metrics.mean_interval(200, 1.5, 0.0) == Estimate(1.5, 200, 1.5, 1.5)


# Putting evidence together


def test_disjoint_rows_add_their_evidence() -> None:
    assert metrics.combined() == 0.0
    assert metrics.combined(1.0, -0.5, 2.0) == pytest.approx(2.5)


def test_a_hypothesis_is_rejected_from_its_threshold_on() -> None:
    assert metrics.threshold(0.05) == pytest.approx(math.log(20))
    assert metrics.is_rejected(math.log(20) + 1e-9, 0.05)
    assert not metrics.is_rejected(math.log(20) - 1e-9, 0.05)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: metrics.paired_evidence(1, -1, 2), "counts must not be negative, got 1, -1, 2"),
        (lambda: metrics.paired_evidence(1, 1, 2, bound=-1.0), "bound must be between -1 and 1, got -1.0"),
        (lambda: metrics.separate_evidence(5, 4, 1, 1), "hits must be in 0..4, got 5"),
        (lambda: metrics.separate_evidence(3, 4, -1, 1), "hits must be in 0..1, got -1"),
        (lambda: metrics.separate_evidence(3, 4, 1, 1, bound=math.nan), "bound must be between -1 and 1, got nan"),
        (lambda: metrics.mean_evidence(-1, 0.0, 1.0), "n must not be negative, got -1"),
        (lambda: metrics.mean_evidence(5, math.inf, 1.0), "must be finite"),
        (lambda: metrics.mean_evidence(5, 0.0, -1.0), "the variance not negative"),
        (lambda: metrics.mean_evidence(5, 0.0, 1.0, bound=math.inf), "bound must be finite, got inf"),
        (lambda: metrics.threshold(0.0), "alpha must be between 0 and 1, got 0.0"),
        (lambda: metrics.paired_interval(1, 1, 1, alpha=2.0), "alpha must be between 0 and 1, got 1.0"),
    ],
)
def test_what_can_not_be_is_refused(call: Callable[[], float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()
