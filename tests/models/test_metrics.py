import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import metrics
from models.metrics import Estimate, Undefined

RNG = np.random.default_rng


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

    found, drawn = metrics.auc(scores, labels), metrics.estimate(area, 400)
    assert found.low == pytest.approx(drawn.low, abs=0.01)
    assert found.high == pytest.approx(drawn.high, abs=0.01)


def test_a_perfect_ranking_has_auc_one() -> None:
    assert metrics.auc(np.array([0.1, 0.9]), np.array([0, 1])) == Estimate(1.0, 2, 1.0, 1.0)


def test_the_threshold_decides_what_is_positive() -> None:
    probabilities, labels = np.array([0.2, 0.6, 0.9, 0.4]), np.array([0, 0, 1, 1])
    assert metrics.binary(probabilities, labels, threshold=0.5)["precision"].value == 0.5
    assert metrics.binary(probabilities, labels, threshold=0.9)["precision"].value == 1.0
    assert metrics.binary(probabilities, labels, threshold=0.3)["recall"].value == 1.0


def test_scores_without_positives_are_null_with_the_reason() -> None:
    assert metrics.binary(np.array([0.9]), np.array([0]))["f1"].reason == "no positive row"
    assert metrics.binary(np.array([0.1]), np.array([1]))["precision"].reason == "no row was predicted positive"


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
    by_rows = metrics.estimate(
        lambda i: metrics.macro_scores(metrics.confusion_matrix(labels[i], predicted[i], 3))[2], 300
    )
    found = metrics.multiclass(probabilities, labels)["f1_macro"]
    assert found.value == pytest.approx(by_rows.value)
    assert found.low == pytest.approx(by_rows.low, abs=0.01)
    assert found.high == pytest.approx(by_rows.high, abs=0.01)


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


def test_undefined_resamples_are_left_out() -> None:
    def needs_row_0(rows: np.ndarray) -> float:
        if 0 not in rows:
            raise Undefined("row 0 is missing")
        return 1.0

    assert metrics.estimate(needs_row_0, 3) == Estimate(1.0, 3, 1.0, 1.0)
