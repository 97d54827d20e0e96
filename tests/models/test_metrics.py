import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import metrics
from models.metrics import Estimate

RNG = np.random.default_rng


def resampled(statistic: Callable[[np.ndarray], float], n: int) -> tuple[float, float]:
    """The 95 % interval by drawing rows, which is what every interval here stands for."""
    rng = RNG(0)
    low, high = np.percentile([statistic(rng.integers(0, n, n)) for _ in range(1000)], [2.5, 97.5])
    return float(low), float(high)


def test_accuracy_has_wilsons_interval() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662.
    found = metrics.proportion(81, 263)
    assert found.value == pytest.approx(81 / 263)
    assert found.low == pytest.approx(0.2553, abs=5e-5)
    assert found.high == pytest.approx(0.3662, abs=5e-5)


@given(n=st.integers(1, 500), data=st.data())
def test_a_proportions_interval_holds_it_and_stays_in_0_to_1(n: int, data: st.DataObject) -> None:
    found = metrics.proportion(data.draw(st.integers(0, n)), n)
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_an_estimate_is_reported_with_its_interval_or_its_reason() -> None:
    assert Estimate(0.5, 4, 0.2, 0.8).to_dict() == {"value": 0.5, "low": 0.2, "high": 0.8, "n": 4}
    assert Estimate(None, 0, reason="no rows").to_dict() == {"value": None, "n": 0, "reason": "no rows"}


def test_the_confusion_matrix_counts_true_rows_by_predicted_columns() -> None:
    counts = metrics.confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_macro_scores_by_hand() -> None:
    counts = np.array([[8, 2, 0], [4, 6, 0], [0, 0, 0]])  # the third class never occurs: it doesn't count
    precision, recall, f1 = metrics.macro_scores(counts)
    assert precision == pytest.approx((8 / 12 + 6 / 8) / 2)
    assert recall == pytest.approx((0.8 + 0.6) / 2)
    assert f1 == pytest.approx((16 / 22 + 12 / 18) / 2)


def test_a_class_that_was_never_predicted_has_precision_zero() -> None:
    assert metrics.macro_scores(np.array([[5, 0], [5, 0]])) == pytest.approx((0.25, 0.5, 1 / 3))


def test_log_loss_and_brier_by_hand() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3]])
    found = metrics.multiclass(probabilities, np.array([0, 2]))
    assert found["log_loss"].value == pytest.approx(-(math.log(0.7) + math.log(0.3)) / 2)
    assert found["brier"].value == pytest.approx(((0.09 + 0.04 + 0.01) + (0.09 + 0.16 + 0.49)) / 2)
    assert found["accuracy"].value == 0.5


def test_log_loss_of_a_certain_mistake_is_large_but_finite() -> None:
    found = metrics.binary(np.array([0.0, 1.0]), np.array([1, 1]))["log_loss"].value
    assert found is not None
    assert 10 < found < 100


def test_calibration_error_is_the_gap_between_confidence_and_hits() -> None:
    confidence = np.array([0.9] * 10 + [0.6] * 10)
    correct = np.array([True] * 7 + [False] * 3 + [True] * 6 + [False] * 4)
    assert metrics.calibration_error(confidence, correct) == pytest.approx(0.5 * 0.2)


def test_auc_counts_ties_half() -> None:
    found = metrics.auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1]))
    assert found.value == pytest.approx((1 + 1 + 0.5 + 1) / 4)


def test_auc_of_one_class_is_null_with_the_reason() -> None:
    found = metrics.binary(np.array([0.2, 0.7]), np.array([1, 1]))
    assert found["auc"].to_dict() == {"value": None, "n": 2, "reason": "needs rows of every class"}


def test_macro_auc_is_the_mean_over_classes() -> None:
    rng = RNG(0)
    scores, labels = rng.random((60, 3)), np.arange(60) % 3
    one_by_one = [metrics.auc(scores[:, c], (labels == c).astype(int)).value for c in range(3)]
    assert metrics.auc(scores, labels).value == pytest.approx(np.mean(one_by_one))


def test_aucs_interval_agrees_with_the_bootstraps() -> None:
    rng = RNG(1)
    labels = rng.integers(0, 2, 400)
    scores = labels + rng.normal(0, 1.2, 400)

    def area(rows: np.ndarray) -> float:
        value = metrics.auc(scores[rows], labels[rows]).value
        assert value is not None
        return value

    found, (low, high) = metrics.auc(scores, labels), resampled(area, 400)
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(high, abs=0.01)


def test_a_perfect_ranking_has_auc_one() -> None:
    # What does not vary says nothing of how sure it is: of two rows, an interval of 1 to 1 would be untrue.
    assert metrics.auc(np.array([0.1, 0.9]), np.array([0, 1])) == Estimate(1.0, 2)
    assert metrics.auc(np.array([0.9, 0.1]), np.array([0, 1])) == Estimate(0.0, 2)
    assert metrics.auc(np.array([0.5, 0.5, 0.5]), np.array([0, 1, 1])) == Estimate(0.5, 3)


def test_the_threshold_decides_what_is_positive() -> None:
    probabilities, labels = np.array([0.2, 0.6, 0.9, 0.4]), np.array([0, 0, 1, 1])
    assert metrics.binary(probabilities, labels, threshold=0.5)["precision"].value == 0.5
    assert metrics.binary(probabilities, labels, threshold=0.9)["precision"].value == 1.0
    assert metrics.binary(probabilities, labels, threshold=0.3)["recall"].value == 1.0


def test_scores_without_positives_are_null_with_the_reason() -> None:
    assert metrics.binary(np.array([0.9]), np.array([0]))["f1"].reason == "no row of this class"
    assert metrics.binary(np.array([0.1]), np.array([1]))["precision"].reason == "no row was predicted so"


def test_regression_figures_by_hand() -> None:
    found = metrics.regression(np.array([1.0, 2.0, 5.0]), np.array([1.0, 3.0, 3.0]))
    assert found["rmse"].value == pytest.approx(math.sqrt(5 / 3))
    assert found["mae"].value == pytest.approx(1.0)
    assert found["r2"].value == pytest.approx(1 - 5 / (8 / 3))


def test_r2_of_equal_targets_is_null_with_the_reason() -> None:
    found = metrics.regression(np.array([1.0, 2.0]), np.array([3.0, 3.0]))["r2"]
    assert (found.value, found.reason) == (None, "all targets are equal")


def test_a_bootstrap_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    hits = 0
    for trial in range(100):
        found = metrics.mean(RNG(trial).normal(2.0, 1.0, 80), seed=trial)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 2.0 <= found.high
    assert hits >= 87  # 95 expected; fewer than 87 has a chance of 1 in 1000


def test_the_same_seed_gives_the_same_interval() -> None:
    values = RNG(0).random(50)
    assert metrics.mean(values, seed=3) == metrics.mean(values, seed=3)
    assert metrics.mean(values, seed=3) != metrics.mean(values, seed=4)


def test_resampling_the_matrix_equals_resampling_the_rows() -> None:
    rng = RNG(0)
    labels = rng.integers(0, 3, 300)
    predicted = np.where(rng.random(300) < 0.7, labels, rng.integers(0, 3, 300))
    probabilities = np.eye(3)[predicted] * 0.7 + 0.1

    def f1(rows: np.ndarray) -> float:
        return metrics.macro_scores(metrics.confusion_matrix(labels[rows], predicted[rows], 3))[2]

    found, (low, high) = metrics.multiclass(probabilities, labels)["f1_macro"], resampled(f1, 300)
    assert found.value == pytest.approx(f1(np.arange(300)))
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(high, abs=0.01)


@pytest.mark.parametrize(
    "report", [metrics.multiclass(np.zeros((0, 3)), np.zeros(0, int)), metrics.binary(*[np.zeros(0)] * 2)]
)
def test_without_rows_everything_is_null_with_a_reason(report: dict[str, Estimate]) -> None:
    assert all(figure.value is None and figure.reason for figure in report.values())


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=12))
def test_no_figure_is_ever_nan(rows: list[tuple[float, int]]) -> None:
    report = metrics.binary(np.array([p for p, _ in rows]), np.array([label for _, label in rows]))
    for figure in report.values():
        for number in (figure.value, figure.low, figure.high):
            assert number is None or math.isfinite(number)
        assert figure.value is not None or figure.reason


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="don't fit together"):
        metrics.multiclass(np.zeros((3, 2)), np.zeros(4, int))
    with pytest.raises(ValueError, match=r"0\.\.1, got 0\.\.2"):
        metrics.binary(np.array([0.1, 0.2]), np.array([0, 2]))
    with pytest.raises(ValueError, match=r"shape \(n,\)"):
        metrics.regression(np.zeros((2, 1)), np.zeros((2, 1)))


# Averages over classes, as scikit-learn defines them


COUNTS = np.array([[8, 2, 0], [4, 6, 0], [1, 1, 0]])


def test_averages_by_hand() -> None:
    found = {name: one.value for name, one in metrics.averages(metrics.Confusion.of(COUNTS)).items()}
    precision, recall = np.array([8 / 13, 6 / 9, 0.0]), np.array([0.8, 0.6, 0.0])
    f1 = np.array([16 / 23, 12 / 19, 0.0])
    shares = np.array([10, 10, 2]) / 22
    assert found == pytest.approx(
        {
            "balanced_accuracy": recall.mean(),
            "precision_micro": 14 / 22,
            "recall_micro": 14 / 22,
            "f1_micro": 14 / 22,
            "precision_macro": precision.mean(),
            "recall_macro": recall.mean(),
            "f1_macro": f1.mean(),
            "precision_weighted": precision @ shares,
            "recall_weighted": recall @ shares,
            "f1_weighted": f1 @ shares,
        }
    )


def test_balanced_accuracy_counts_only_classes_that_have_rows() -> None:
    assert metrics.averages(metrics.Confusion.of(np.array([[3, 1], [0, 0]])))["balanced_accuracy"].value == 0.75


def test_each_class_has_its_own_figures() -> None:
    first, _, third = metrics.of_each_class(metrics.Confusion.of(COUNTS))
    assert (first["precision"], first["recall"]) == (metrics.proportion(8, 13), metrics.proportion(8, 10))
    assert first["f1"].value == pytest.approx(16 / 23)
    assert first["f1"].low is not None
    assert first["f1"].low < 16 / 23 < (first["f1"].high or 0)
    assert (third["precision"].value, third["precision"].reason) == (None, "no row was predicted so")
    assert (third["recall"].value, third["f1"].value) == (0.0, 0.0)
    never = metrics.of_each_class(metrics.Confusion.of(np.array([[1, 0], [0, 0]])))[1]
    assert {one.value for one in never.values()} == {None}
    assert never["recall"].reason == "no row of this class"


def test_a_matrix_of_very_many_cells_has_values_and_no_resamples() -> None:
    found = metrics.averages(metrics.Confusion.of(np.ones((150, 150), np.int64)))["f1_macro"]
    assert (found.value, found.low) == (pytest.approx(1 / 150), None)


# Ranking


def test_average_precision_is_the_mean_precision_at_each_positive() -> None:
    scores, labels = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([1, 0, 1, 0, 0])
    assert metrics.average_precision(scores, labels).value == pytest.approx((1 + 2 / 3) / 2)


def test_average_precision_takes_equal_scores_together() -> None:
    # As scikit-learn: one step, at which all of the tied rows are taken.
    found = metrics.average_precision(np.array([0.9, 0.5, 0.5, 0.1]), np.array([0, 1, 0, 0]))
    assert found.value == pytest.approx(1 / 3)


def test_average_precision_without_positives_is_null_with_the_reason() -> None:
    assert metrics.average_precision(np.array([0.9]), np.array([0])).reason == "no positive row"
    assert metrics.average_precision(np.zeros((2, 2)), np.array([0, 0])).reason == "needs rows of every class"
    assert metrics.average_precision(np.zeros(0), np.zeros(0)).reason == "no rows"


def test_average_precision_of_several_classes_is_their_mean() -> None:
    rng = RNG(0)
    scores, labels = rng.random((60, 3)), np.arange(60) % 3
    one_by_one = [metrics.average_precision(scores[:, c], (labels == c).astype(int)).value for c in range(3)]
    found = metrics.average_precision(scores, labels)
    assert found.value == pytest.approx(np.mean(one_by_one))
    assert found.low is not None
    assert found.low < (found.value or 0) < (found.high or 0)


def test_a_perfect_order_has_average_precision_one() -> None:
    assert metrics.average_precision(np.array([0.1, 0.9]), np.array([0, 1])) == Estimate(1.0, 2)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_codes_keep_the_order_of_scores(scores: list[float]) -> None:
    ordered = np.sort(np.array(scores))
    assert (np.diff(metrics.codes_of(ordered).astype(int)) >= 0).all()


def test_codes_reach_from_one_end_to_the_other() -> None:
    assert metrics.codes_of(np.array([0.0, 0.5, 1.0])).tolist() == [0, 32768, 65535]


def test_areas_of_codes_are_those_of_scores() -> None:
    rng = RNG(2)
    labels = rng.integers(0, 2, 2000)
    scores = 1 / (1 + np.exp(-(labels * 2 - 1 + rng.normal(0, 2, 2000))))
    for area in (metrics.auc, metrics.average_precision):
        by_code, by_score = area(metrics.codes_of(scores), labels), area(scores, labels)
        for found, expected in zip(
            (by_code.value, by_code.low, by_code.high), (by_score.value, by_score.low, by_score.high), strict=True
        ):
            assert found == pytest.approx(expected, abs=1e-4)


# Calibration


def test_reliability_tells_of_each_bin_that_holds_rows() -> None:
    confidence, correct = np.array([0.95, 0.97, 0.3]), np.array([True, False, True])
    low, high = metrics.reliability(confidence, correct)
    assert (low.n, low.low, low.high, low.confidence, low.accuracy.value) == (1, 4 / 15, 5 / 15, 0.3, 1.0)
    assert (high.n, high.high, high.confidence, high.accuracy) == (2, 1.0, 0.96, metrics.proportion(1, 2))


def test_the_calibration_error_has_an_interval_that_holds_it() -> None:
    rng = RNG(0)
    confidence = rng.uniform(0.5, 1, 500)
    correct = rng.random(500) < confidence - 0.2
    found = metrics.calibration(confidence, correct)
    assert found.value == pytest.approx(metrics.calibration_error(confidence, correct))
    assert found.low is not None
    assert 0 <= found.low <= (found.value or 0) <= (found.high or 0)
    assert found.low > 0.1


# Several labels a row


def test_several_labels_by_hand() -> None:
    predicted = np.array([[1, 0], [1, 1], [0, 0]], bool)
    labels = np.array([[1, 0], [0, 1], [0, 1]], bool)
    found = {name: one.value for name, one in metrics.multilabel(predicted, labels).items()}
    assert found == {
        "accuracy": pytest.approx(1 / 3),
        "precision_micro": pytest.approx(2 / 3),
        "recall_micro": pytest.approx(2 / 3),
        "f1_micro": pytest.approx(2 / 3),
        "precision_macro": pytest.approx((0.5 + 1) / 2),
        "recall_macro": pytest.approx((1 + 0.5) / 2),
        "f1_macro": pytest.approx((2 / 3 + 2 / 3) / 2),
        "precision_weighted": pytest.approx((1 * 0.5 + 2 * 1) / 3),
        "recall_weighted": pytest.approx((1 * 1 + 2 * 0.5) / 3),
        "f1_weighted": pytest.approx(2 / 3),
        "log_loss": None,
        "brier": None,
        "auc": None,
        "pr_auc": None,
    }


def test_several_labels_have_losses_and_areas_by_their_probabilities() -> None:
    labels = np.array([[1, 0], [0, 1], [0, 1]], bool)
    probabilities = np.array([[0.9, 0.2], [0.6, 0.7], [0.1, 0.4]])
    found = metrics.multilabel(probabilities >= 0.5, labels, probabilities)
    of_truth = np.array([[0.9, 0.8], [0.4, 0.7], [0.9, 0.4]])
    assert found["log_loss"].value == pytest.approx(-np.log(of_truth).mean())
    assert found["brier"].value == pytest.approx(np.square(1 - of_truth).mean())
    assert found["auc"].value == pytest.approx(1.0)


def test_several_labels_without_rows_or_labels_are_null_with_a_reason() -> None:
    empty = metrics.multilabel(np.zeros((0, 2), bool), np.zeros((0, 2), bool))
    assert all(one.value is None and one.reason for one in empty.values())
    nothing = metrics.multilabel(np.zeros((3, 2), bool), np.zeros((3, 2), bool))
    assert (nothing["accuracy"].value, nothing["f1_macro"].reason) == (1.0, "no label was true or predicted")
    with pytest.raises(ValueError, match=r"shape \(n, C\)"):
        metrics.multilabel(np.zeros(3, bool), np.zeros(3, bool))


# Numbers


def test_errors_by_hand() -> None:
    found = metrics.errors(np.array([1.0, 2.0, 5.0]), np.array([1.0, 3.0, 3.0]))
    assert found["mse"].value == pytest.approx(5 / 3)
    assert found["huber"].value == pytest.approx((0 + 0.5 + 1.5) / 3)
    assert metrics.errors(np.array([0.0]), np.array([3.0]), delta=2.0)["huber"].value == pytest.approx(2 * (3 - 1))


def test_residuals_are_what_was_missed() -> None:
    edges, counts = metrics.residuals(np.array([1.0, 1.0]), np.array([0.0, 3.0]))
    assert (edges[0], edges[-1], counts.sum(), counts[0], counts[-1]) == (-1.0, 2.0, 2, 1, 1)
    assert [part.tolist() for part in metrics.residuals(np.empty(0), np.empty(0))] == [[], []]


# Intervals


@pytest.mark.parametrize("n", [40, 5000])
def test_means_of_few_and_of_many_rows_cover_the_truth_alike(n: int) -> None:
    hits = 0
    for trial in range(200):
        found = metrics.mean(RNG(trial).exponential(2.0, n), seed=trial)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 2.0 <= found.high
    assert 170 <= hits <= 200  # 190 expected, a few less of few skewed rows


def test_r2_has_the_interval_that_resampling_rows_gives() -> None:
    rng = RNG(3)
    actual = rng.normal(0, 2, 300)
    predicted = actual + rng.normal(0, 1, 300)
    low, high = resampled(lambda rows: metrics.r2(predicted[rows], actual[rows]), 300)
    found = metrics.errors(predicted, actual)["r2"]
    assert found.value == pytest.approx(metrics.r2(predicted, actual))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)


def test_of_very_many_rows_an_areas_interval_is_that_of_all() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 150_000)
    scores = rng.normal(labels * 0.7)
    found = metrics.auc(scores, labels)
    q1, q2 = (found.value / (2 - found.value), 2 * found.value**2 / (1 + found.value))
    positive = int(labels.sum())
    negative = len(labels) - positive
    # Hanley and McNeil 1982, which is near where scores are normal.
    square = (
        found.value * (1 - found.value)
        + (positive - 1) * (q1 - found.value**2)
        + (negative - 1) * (q2 - found.value**2)
    )
    error = (square / positive / negative) ** 0.5
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.03)


def test_the_precision_of_what_has_no_negative_row_is_one_and_its_area_undefined() -> None:
    scores, labels = np.array([0.2, 0.9]), np.array([1, 1])
    assert metrics.auc(scores, labels) == Estimate(None, 2, reason="needs rows of every class")
    assert metrics.average_precision(scores, labels) == Estimate(1.0, 2)
    assert metrics.average_precision(scores, np.array([0, 0])).reason == "no positive row"
