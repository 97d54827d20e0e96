import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import metrics
from models.metrics import Comparison, Estimate

RNG = np.random.default_rng


def bounds(one: Estimate) -> tuple[float, float]:
    assert one.low is not None
    assert one.high is not None
    return one.low, one.high


def resampled(statistic: Callable[[np.ndarray], float], n: int) -> tuple[float, float]:
    """The 95 % interval by drawing rows, which is what a paired interval stands for."""
    rng = RNG(0)
    low, high = np.percentile([statistic(rng.integers(0, n, n)) for _ in range(1000)], [2.5, 97.5])
    return float(low), float(high)


def classified(*rows: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and what the first and the second said, of so many rows each."""
    counts, *columns = np.array(rows).T
    labels, first, second = (np.repeat(column, counts) for column in columns)
    return labels, first, second


# The exact test


def test_the_exact_test_by_hand() -> None:
    assert metrics.mcnemar(1, 5) == pytest.approx(2 * (1 + 6) / 64)
    assert metrics.mcnemar(5, 1) == metrics.mcnemar(1, 5)
    assert metrics.mcnemar(0, 6) == pytest.approx(2 / 64)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_exact_test_sums_the_binomials_tail(first: int, second: int) -> None:
    n = first + second
    tail = sum(math.comb(n, hits) for hits in range(min(first, second) + 1))
    assert metrics.mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail / 2**n), rel=1e-10)


@pytest.mark.parametrize("same", [0, 1, 30, 10**6])
def test_as_many_on_both_sides_are_no_difference(same: int) -> None:
    assert metrics.mcnemar(same, same) == 1.0


def test_many_rows_neither_overflow_nor_underflow() -> None:
    tail = sum(math.comb(3000, hits) for hits in range(1401))
    assert metrics.mcnemar(1400, 1600) == pytest.approx(tail / 2**2999, rel=1e-9)
    with_continuity = math.erfc((1000 - 1) / math.sqrt(2 * 1_001_000))
    assert metrics.mcnemar(500_000, 501_000) == pytest.approx(with_continuity, rel=1e-4)
    assert metrics.mcnemar(0, 100_000) == 0.0


def test_counts_below_0_are_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative, got -1 and 3"):
        metrics.mcnemar(-1, 3)


# Differences on the same rows


def test_a_paired_difference_is_the_seconds_mean_minus_the_firsts() -> None:
    first, second = np.array([True, False, False, True]), np.array([True, True, True, True])
    found = metrics.paired_difference(first, second)
    assert (found.value, found.n) == (0.5, 4)
    low, high = bounds(found)
    assert 0 <= low < 0.5 < high <= 1


@pytest.mark.parametrize("n", [300, 5000])
def test_pairing_takes_out_what_both_have_in_common(n: int) -> None:
    hardness = RNG(0).normal(0, 10, n)
    first, second = hardness + RNG(1).normal(0, 1, n), hardness + RNG(2).normal(0.5, 1, n)
    low, high = bounds(metrics.paired_difference(first, second))
    assert low < 0.5 < high
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(2 / n), rel=0.15)


def test_the_difference_of_macro_f1_by_hand() -> None:
    labels, first, second = classified((8, 0, 0, 0), (2, 0, 1, 0), (4, 1, 0, 1), (6, 1, 1, 1))
    found = metrics.paired_macro_f1_difference(labels, first, second, 3)
    assert found.value == pytest.approx(1 - (16 / 22 + 12 / 18) / 2)
    assert found.n == 20


def test_resampling_cells_equals_resampling_rows() -> None:
    rng = RNG(0)
    labels = rng.integers(0, 3, 300)
    first = np.where(rng.random(300) < 0.6, labels, rng.integers(0, 3, 300))
    second = np.where(rng.random(300) < 0.5, first, labels)

    def f1(predicted: np.ndarray, rows: np.ndarray) -> float:
        return metrics.macro_scores(metrics.confusion_matrix(labels[rows], predicted[rows], 3))[2]

    expected = resampled(lambda rows: f1(second, rows) - f1(first, rows), 300)
    found = metrics.paired_macro_f1_difference(labels, first, second, 3)
    assert found.value == pytest.approx(f1(second, np.arange(300)) - f1(first, np.arange(300)))
    assert bounds(found) == pytest.approx(expected, abs=0.01)


def test_too_many_cells_have_a_difference_and_no_bounds() -> None:
    labels, first = np.divmod(np.arange(150 * 150), 150)
    found = metrics.paired_macro_f1_difference(labels, first, labels, 150)
    assert (found.value, found.low, found.high) == (pytest.approx(1 - 1 / 150), None, None)


def test_what_does_not_fit_is_refused() -> None:
    three, four = np.zeros(3, int), np.zeros(4, int)
    with pytest.raises(ValueError, match=r"shape \(n,\)"):
        metrics.paired_difference(three, four)
    with pytest.raises(ValueError, match=r"shape \(n,\)"):
        metrics.compare_classified(three, three, four, 2)
    with pytest.raises(ValueError, match=r"0\.\.1, got 2\.\.2"):
        metrics.paired_macro_f1_difference(three, three, three + 2, 2)
    with pytest.raises(ValueError, match=r"shape \(n,\)"):
        metrics.compare_numbers(three, three, four)
    with pytest.raises(ValueError, match=r"shape \(n, C\)"):
        metrics.compare_label_sets(three, three, three)


# Differences of two groups of rows


@pytest.mark.parametrize(
    ("hits", "n", "other_hits", "other_n", "low", "high"),
    [
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (6, 7, 2, 7, 0.0582, 0.8062),
        (5, 56, 0, 29, -0.0381, 0.1926),
        (0, 10, 0, 20, -0.1611, 0.2775),
        (0, 10, 0, 10, -0.2775, 0.2775),
        (10, 10, 0, 20, 0.6791, 1.0),
        (10, 10, 0, 10, 0.6075, 1.0),
    ],
)
def test_shares_differ_by_newcombes_interval(
    hits: int, n: int, other_hits: int, other_n: int, low: float, high: float
) -> None:
    # Newcombe 1998, Statistics in Medicine 17:873, table II, method 10.
    found = metrics.difference_of_proportions(hits, n, other_hits, other_n)
    assert (found.value, found.n) == (hits / n - other_hits / other_n, n + other_n)
    assert bounds(found) == pytest.approx((low, high), abs=6e-5)


def test_more_confidence_is_a_wider_interval() -> None:
    usual = bounds(metrics.difference_of_proportions(56, 70, 48, 80))
    surer = bounds(metrics.difference_of_proportions(56, 70, 48, 80, confidence=0.999))
    assert surer[0] < usual[0] < usual[1] < surer[1]
    with pytest.raises(ValueError, match="between 0 and 1, got 95"):
        metrics.difference_of_proportions(56, 70, 48, 80, confidence=95)


def test_a_group_without_rows_has_no_difference() -> None:
    expected = Estimate(None, 5, reason="no rows in one of the groups")
    assert metrics.difference_of_proportions(0, 0, 3, 5) == expected
    assert metrics.difference_of_proportions(3, 5, 0, 0) == expected
    assert metrics.difference_of_means(np.zeros(0), np.zeros(5)) == expected


def test_means_differ_by_welchs_interval() -> None:
    values, others = np.tile([1.0, 3.0], 50), np.tile([0.0, 0.0, 3.0], 20)
    found = metrics.difference_of_means(values, others)
    half = 1.959964 * math.sqrt((100 / 99) / 100 + (2 * 60 / 59) / 60)
    assert (found.value, found.n) == (1.0, 160)
    assert bounds(found) == pytest.approx((1 - half, 1 + half), rel=1e-6)


def test_means_of_few_rows_are_resampled() -> None:
    covered = 0
    for trial in range(200):
        rng = RNG(trial)
        values, others = rng.normal(1, 1, 20), rng.normal(0, 2, 60)
        low, high = bounds(metrics.difference_of_means(values, others, seed=trial))
        covered += low <= 1 <= high
    assert 176 <= covered <= 199  # of so few a little less than 190
    surer = bounds(metrics.difference_of_means(values, others, confidence=0.99, seed=trial))
    assert surer[0] < low < high < surer[1]


@pytest.mark.parametrize(("n", "is_resampled"), [(29, True), (30, False)])
def test_groups_of_fewer_than_30_rows_are_resampled(n: int, is_resampled: bool) -> None:
    values, others = np.arange(100.0), np.arange(float(n))
    for pair in ((values, others), (others, values)):
        one, other = (bounds(metrics.difference_of_means(*pair, seed=seed)) for seed in (0, 2))
        assert (one != other) is is_resampled


def test_equal_groups_of_few_rows_are_not_resampled_alike() -> None:
    values = np.arange(10.0)
    low, high = bounds(metrics.difference_of_means(values, values))
    assert low < -1 < 1 < high


def test_one_row_says_nothing_of_its_spread() -> None:
    assert metrics.difference_of_means(np.array([2.0]), np.arange(50.0)) == Estimate(2.0 - 24.5, 51)


# Two versions


BETTER = classified((863, 1, 1, 1), (57, 1, 0, 1), (20, 0, 0, 1), (60, 0, 1, 1))


def test_versions_are_compared_on_the_same_rows() -> None:
    found = metrics.compare_classified(*BETTER, 2)
    assert (found.rows, found.only_first_right, found.only_second_right) == (1000, 20, 57)
    assert found.p_value == metrics.mcnemar(20, 57)
    assert found.differences["accuracy"] == metrics.paired_difference(BETTER[1] == BETTER[0], BETTER[2] == BETTER[0])
    assert found.differences["f1_macro"] == metrics.paired_macro_f1_difference(*BETTER, 2)
    assert found.winner == "second"
    assert found.to_dict() == {
        "rows": 1000,
        "only_first_right": 20,
        "only_second_right": 57,
        "p_value": found.p_value,
        "differences": {name: one.to_dict() for name, one in found.differences.items()},
        "winner": "second",
    }


def test_the_order_of_versions_changes_names_only() -> None:
    labels, first, second = BETTER
    one, other = (
        metrics.compare_classified(labels, first, second, 2),
        metrics.compare_classified(labels, second, first, 2),
    )
    assert other.winner == "first"
    assert (other.p_value, other.only_first_right) == (one.p_value, one.only_second_right)
    assert (other.differences["f1_macro"].value or 0) == -(one.differences["f1_macro"].value or 0)


def test_versions_that_are_equally_good_seldom_win() -> None:
    wins = 0
    for trial in range(200):
        rng = RNG(trial)
        first, second = (rng.random((2500, 1)) < 0.2 for _ in range(2))
        wins += metrics.compare_label_sets(np.zeros((2500, 1), bool), first, second, seed=trial).winner is not None
    assert wins <= 20  # 10 is one in twenty


def test_a_row_of_labels_is_right_where_all_are() -> None:
    actual = np.array([[1, 0], [0, 1], [1, 1]], bool)
    first = np.array([[1, 0], [0, 0], [1, 0]], bool)
    second = np.array([[0, 0], [0, 1], [1, 1]], bool)
    found = metrics.compare_label_sets(actual, first, second)
    assert (found.rows, found.only_first_right, found.only_second_right) == (3, 1, 2)
    assert found.differences["accuracy"].value == pytest.approx(1 / 3)


def test_of_numbers_the_nearer_is_right_and_ties_are_not_counted() -> None:
    actual, first, second = np.zeros(4), np.array([1.0, -2.0, 3.0, 1.0]), np.array([-1.0, 1.0, 1.0, 4.0])
    found = metrics.compare_numbers(actual, first, second)
    assert (found.rows, found.only_first_right, found.only_second_right) == (4, 1, 2)
    assert found.differences["mae"].value == pytest.approx(0)
    assert found.differences["mse"].value == pytest.approx((1 + 1 + 1 + 16 - 1 - 4 - 9 - 1) / 4)


def test_of_numbers_the_one_with_smaller_errors_wins() -> None:
    rng = RNG(0)
    actual = rng.normal(0, 5, 800)
    good, bad = actual + rng.normal(0, 1, 800), actual + rng.normal(0, 1.4, 800)
    assert metrics.compare_numbers(actual, good, bad).winner == "first"
    assert metrics.compare_numbers(actual, bad, good).winner == "second"
    assert metrics.compare_numbers(actual, bad, bad).winner is None


@pytest.mark.parametrize(("first", "second", "p_value", "winner"), [(4, 13, 0.0490, "second"), (10, 22, 0.0501, None)])
def test_a_winner_is_seen_by_chance_less_often_than_once_in_twenty(
    first: int, second: int, p_value: float, winner: str | None
) -> None:
    found = metrics.compare_classified(*classified((300, 0, 0, 0), (first, 0, 0, 1), (second, 0, 1, 0)), 2)
    assert found.p_value == pytest.approx(p_value, abs=5e-5)
    assert bounds(found.differences["accuracy"])[0] > 0
    assert found.winner == winner


def nearer_with_outliers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The second is nearer on most rows, and much further off on some."""
    rng = RNG(1)
    first, second = rng.normal(0, 1, 600), rng.normal(0, 0.6, 600)
    second[:60] += 20
    return np.zeros(600), first, second


def test_none_wins_where_the_measures_do_not_agree() -> None:
    actual, first, second = nearer_with_outliers()
    found, other = metrics.compare_numbers(actual, first, second), metrics.compare_numbers(actual, second, first)
    assert found.p_value < 0.05
    assert found.only_second_right > found.only_first_right
    assert bounds(found.differences["mae"])[0] > 0
    assert bounds(other.differences["mae"])[1] < 0
    assert (found.winner, other.winner) == (None, None)


def test_without_rows_nothing_is_compared() -> None:
    none = np.zeros(0, int)
    for found in (
        metrics.compare_classified(none, none, none, 2),
        metrics.compare_numbers(none, none, none),
        metrics.compare_label_sets(*[np.zeros((0, 2), bool)] * 3),
    ):
        assert (found.rows, found.p_value, found.winner) == (0, 1.0, None)
        assert {one.reason for one in found.differences.values()} == {"no rows"}
        assert metrics.verdict(found, "version 1", "version 2") == "There are no labelled rows to compare on."


# In words


def comparison(
    first: int, second: int, rows: int, winner: str | None, **differences: tuple[float, float, float]
) -> Comparison:
    return Comparison(
        rows,
        first,
        second,
        metrics.mcnemar(first, second),
        {name: Estimate(value, rows, low, high) for name, (value, low, high) in differences.items()},
        winner,  # type: ignore[arg-type]
    )


def test_a_winner_is_named_with_the_evidence() -> None:
    found = comparison(20, 57, 1000, "second", accuracy=(0.037, 0.0189, 0.0551), f1_macro=(0.01, -0.02, 0.04))
    assert metrics.verdict(found, "version 1", "version 2") == (
        "Version 2 is better than version 1: it was right on 57 rows where version 1 was wrong, and wrong on 20 where "
        "version 1 was right (exact McNemar p < 0.0001); its accuracy differs by +3.7 points (95 %: +1.9 to +5.5)."
    )


def test_the_evidence_is_told_from_the_winners_side() -> None:
    found = comparison(31, 12, 1000, "first", accuracy=(-0.019, -0.031, -0.007))
    assert metrics.verdict(found, "version 1", "version 2") == (
        "Version 1 is better than version 2: it was right on 31 rows where version 2 was wrong, and wrong on 12 where "
        "version 2 was right (exact McNemar p = 0.0054); its accuracy differs by +1.9 points (95 %: +0.7 to +3.1)."
    )


def test_a_winner_that_is_worse_in_another_figure_is_told_of() -> None:
    found = comparison(20, 57, 1000, "second", accuracy=(0.037, 0.019, 0.055), f1_macro=(-0.08, -0.12, -0.04))
    assert metrics.verdict(found, "a", "b").endswith(" But its macro F1 differs by -8.0 points (95 %: -12.0 to -4.0).")


def test_a_figure_without_bounds_is_not_held_against_a_winner() -> None:
    labels, first = np.divmod(np.arange(150 * 150), 150)
    found = metrics.compare_classified(labels, first, labels, 150)
    assert (found.winner, found.differences["f1_macro"].low) == ("second", None)
    assert "macro F1" not in metrics.verdict(found, "version 1", "version 2")


def test_a_winner_by_few_rows_needs_more_of_them() -> None:
    found = comparison(0, 7, 200, "second", accuracy=(0.035, 0.01, 0.06))
    assert metrics.verdict(found, "version 1", "version 2").endswith(
        " Only 7 rows tell them apart: more labelled rows are needed to say by how much."
    )


def test_no_difference_says_how_large_a_one_would_have_been_seen() -> None:
    found = comparison(10, 12, 500, None, accuracy=(0.004, -0.0144, 0.0224))
    # 2.8 standard errors, of which the interval has 3.92.
    assert metrics.verdict(found, "version 1", "version 2") == (
        "No difference is shown: version 2 was right on 12 rows where version 1 was wrong, and wrong on 10 where "
        "version 1 was right (exact McNemar p = 0.83); its accuracy differs by +0.4 points (95 %: -1.4 to +2.2). "
        "With so many rows, a difference of less than about 2.6 points would often not be seen."
    )


def test_a_difference_of_the_size_that_is_said_to_be_seen_is_found_four_times_in_five() -> None:
    rng = RNG(0)

    def found(gain: float) -> Comparison:
        drawn = rng.random((2500, 1))
        first, second = drawn < 0.1, (drawn >= 0.1) & (drawn < 0.2 - gain)
        return metrics.compare_label_sets(np.zeros((2500, 1), bool), first, second, seed=1)

    shown = metrics.verdict(found(0.0), "version 1", "version 2")
    points = float(shown.split("less than about ")[1].split(" points")[0])
    wins = sum(found(points / 100).winner == "second" for _ in range(200))
    assert 140 <= wins <= 180


@pytest.mark.parametrize(
    ("first", "second", "ending"),
    [
        (1, 3, " Only 4 rows of 200 tell them apart: more labelled rows are needed."),
        (1, 0, " Only 1 row of 200 tells them apart: more labelled rows are needed."),
        (0, 0, " Only 0 rows of 200 tell them apart: more labelled rows are needed."),
    ],
)
def test_versions_that_seldom_differ_need_more_rows(first: int, second: int, ending: str) -> None:
    share = (second - first) / 200
    found = comparison(first, second, 200, None, accuracy=(share, share - 0.02, share + 0.02))
    shown = metrics.verdict(found, "version 1", "version 2")
    assert shown.startswith(f"No difference is shown: version 2 was right on {second} row")
    assert shown.endswith(ending)


def test_numbers_are_told_of_in_their_own_unit() -> None:
    found = comparison(20, 57, 1000, "second", mae=(-1234.5, -1900.0, -600.0), mse=(1.0, -2.0, 4.0))
    assert metrics.verdict(found, "version 1", "version 2") == (
        "Version 2 is better than version 1: it was nearer on 57 rows, version 1 on 20 (exact sign test p < 0.0001); "
        "its mean absolute error differs by -1234 (95 %: -1900 to -600)."
    )
    small = comparison(20, 57, 1000, "second", mae=(-0.00123, -0.0019, -0.0006))
    assert "by -0.0012 (95 %: -0.0019 to -0.0006)" in metrics.verdict(small, "a", "b")


def test_measures_that_do_not_agree_are_told_of() -> None:
    shown = metrics.verdict(metrics.compare_numbers(*nearer_with_outliers()), "version 1", "version 2")
    assert shown.startswith("Neither is shown to be better: version 2 was nearer on ")
    assert shown.endswith(
        "(exact sign test p = 0.0022); its mean absolute error differs by +1.70 (95 %: +1.21 to +2.17)."
    )


def test_versions_that_answer_alike_are_told_of() -> None:
    labels = np.arange(50) % 2
    shown = metrics.verdict(metrics.compare_classified(labels, labels, labels, 2), "version 1", "version 2")
    assert shown == (
        "No difference is shown: version 2 was right on 0 rows where version 1 was wrong, and wrong on 0 where version "
        "1 was right (exact McNemar p = 1); its accuracy differs by +0.0 points (95 %: +0.0 to +0.0). "
        "Only 0 rows of 50 tell them apart: more labelled rows are needed."
    )
