"""What is known of predictions, followed in memory, and the figures that follow from it."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import metrics
from models.metrics import Estimate
from service.learning.live import LiveModel, Selection
from service.store.base import Known
from service.store.feedback import ModelContract
from tests.stores import a_record

LABELS = ("Bag", "Coat", "Boot")
CLASSES = ModelContract("multiclass", LABELS)
EVER = Selection()


def packed(probabilities: Any) -> str:
    return base64.b64encode(np.array(probabilities, "<f4").tobytes()).decode()


def classified(probabilities: Any, label: Any, *, made: float | None = None, **fields: Any) -> Known:
    """A prediction with these probabilities, of which it is known what it should have been."""
    index = int(np.argmax(probabilities))
    outputs = {"label": LABELS[index], "index": index, "probability": float(probabilities[index])}
    return known(label, outputs, scores=packed(probabilities), made=made)._replace(**fields)


def known(label: Any, outputs: Any, *, made: float | None = None, **fields: Any) -> Known:
    identity = a_record(made=made).id
    usual = Known(identity, "fashion", 1, "answered", label, 10**13, None, 1, outputs, None, {})
    return usual._replace(**fields)


def of(contract: ModelContract, *rows: Known) -> LiveModel:
    model = LiveModel(contract)
    model.take(rows)
    return model


def random_rows(count: int, seed: int = 0) -> tuple[list[Known], np.ndarray, np.ndarray]:
    """Rows, the probabilities that they were predicted with, and the indices of their labels."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([0.6] * 3, count).astype(np.float32)
    labels = np.where(rng.random(count) < 0.7, probabilities.argmax(axis=1), rng.integers(0, 3, count))
    rows = [classified(row, LABELS[label]) for row, label in zip(probabilities, labels, strict=True)]
    return rows, probabilities.astype(np.float64), labels


def assert_alike(found: Mapping[str, Estimate], expected: Mapping[str, Estimate]) -> None:
    """Scores are kept in steps and some of what is made of them as float32; resamples are of rows in another order."""
    assert found.keys() == expected.keys()
    for name, estimate in expected.items():
        assert found[name].value == pytest.approx(estimate.value, abs=1e-4), name
        bounds = found[name].low, found[name].high
        assert bounds == pytest.approx((estimate.low, estimate.high), abs=0.02, rel=0.15), name


# Figures


def test_without_labels_everything_is_undefined_with_a_reason() -> None:
    report = LiveModel(CLASSES).report(EVER)
    assert (report.n, report.label_delay, report.rating.value) == (0, {}, None)
    assert all(one.value is None and one.reason for one in report.figures.metrics.values())


def test_classes_are_measured_as_they_are_offline() -> None:
    rows, probabilities, labels = random_rows(400)
    figures = of(CLASSES, *rows).report(EVER).figures
    assert_alike(figures.metrics, metrics.multiclass(probabilities, labels))
    counts = metrics.confusion_matrix(labels, probabilities.argmax(axis=1), 3)
    assert figures.confusion is not None
    assert figures.confusion.tolist() == counts.tolist()
    assert list(figures.per_label) == list(LABELS)
    assert figures.per_label["Coat"]["recall"].value == pytest.approx(counts[1, 1] / counts[1].sum())
    assert sum(one.n for one in figures.reliability) == 400


def test_a_binary_task_is_measured_by_its_positive_label() -> None:
    rng = np.random.default_rng(1)
    positive = rng.random(300)
    labels = (rng.random(300) < positive).astype(int)
    names = ("negative", "positive")
    rows = []
    for probability, label in zip(positive, labels, strict=True):
        index = int(probability >= 0.5)
        outputs = {"label": names[index], "index": index, "probability": max(probability, 1 - probability)}
        rows.append(known(names[label], outputs))
    figures = of(ModelContract("binary", names), *rows).report(EVER).figures
    assert_alike(figures.metrics, metrics.binary(positive, labels))


def test_numbers_are_measured_in_their_unit() -> None:
    rng = np.random.default_rng(2)
    predicted = rng.normal(100, 10, 50)
    actual = predicted + rng.normal(0, 3, 50)
    rows = [known(truth, {"value": guess}) for guess, truth in zip(predicted, actual, strict=True)]
    report = of(ModelContract("regression", ()), *rows).report(EVER)
    assert_alike(report.figures.metrics, metrics.regression(predicted, actual))
    assert report.figures.residuals is not None
    assert report.figures.residuals[1].sum() == 50


def test_label_sets_are_measured_by_label_and_together() -> None:
    rng = np.random.default_rng(3)
    probabilities = rng.random((60, 3)).astype(np.float32)
    actual = rng.random((60, 3)) < probabilities
    rows = []
    for row, truth in zip(probabilities, actual, strict=True):
        chosen = [{"label": LABELS[index], "probability": float(row[index])} for index in range(3) if row[index] >= 0.5]
        said = [LABELS[index] for index in np.flatnonzero(truth)]
        rows.append(known(said, {"labels": chosen}, scores=packed(row)))
    figures = of(ModelContract("multilabel", LABELS), *rows).report(EVER).figures
    assert_alike(figures.metrics, metrics.multilabel(probabilities >= 0.5, actual, probabilities.astype(np.float64)))
    assert figures.per_label["Bag"]["precision"].value == pytest.approx(
        (actual[:, 0] & (probabilities[:, 0] >= 0.5)).sum() / (probabilities[:, 0] >= 0.5).sum()
    )


def test_vectors_have_ratings_alone() -> None:
    rows = [known(None, {}, rating=rating) for rating in (1.0, 2.0, 3.0)]
    report = of(ModelContract("embedding", ()), *rows).report(EVER)
    assert (report.n, report.rating.value, report.rating.n, report.figures.metrics) == (0, 2.0, 3, {})


@pytest.mark.parametrize("rating", [0.1, 1e39, 5.0, -1.7e308])
def test_a_rating_is_kept_as_it_was_given(rating: float) -> None:
    found = of(CLASSES, known(None, {}, rating=rating)).report(EVER).rating
    assert found == Estimate(rating, 1)


@pytest.mark.parametrize("label", [1e18, 1e100, 1.7e308, -1e155])
def test_a_number_of_any_size_can_be_measured(label: float) -> None:
    model = of(ModelContract("regression", ()), known(label, {"value": 3.0}, made=10.0))
    report = model.report(EVER)
    assert report.n == 1
    assert report.figures.metrics["mae"].value == pytest.approx(abs(label))
    for name, figure in report.figures.metrics.items():
        assert (figure.value is None) == bool(figure.reason), name
    assert report.figures.residuals is not None
    assert report.figures.residuals[1].sum() == 1
    assert model.over_time(EVER, [0.0, 20.0])[1][0].value == pytest.approx(abs(label))


@pytest.mark.parametrize("label", [10**400, float("inf"), float("nan"), True, "1"])
def test_what_is_no_number_of_a_float_is_an_unknown_label(label: Any) -> None:
    report = of(ModelContract("regression", ()), known(label, {"value": 3.0})).report(EVER)
    assert (report.n, report.unknown_labels) == (0, 1)


def test_an_error_that_is_too_large_says_so_over_time_too() -> None:
    model = of(ModelContract("regression", ()), known(1.7e308, {"value": -1.7e308}, made=10.0))
    _, [found] = model.over_time(EVER, [0.0, 20.0])
    assert found == Estimate(None, 1, reason="it is too large for a float")


def test_where_probabilities_were_not_kept_what_needs_them_is_undefined() -> None:
    row = classified([0.7, 0.2, 0.1], "Bag", scores=None)
    figures = of(CLASSES, row).report(EVER).figures.metrics
    assert figures["accuracy"].value == 1.0
    for name in ("log_loss", "brier", "auc", "pr_auc"):
        assert (figures[name].value, figures[name].reason) == (None, "the probabilities of all labels were not kept")


# Which rows


def test_a_label_that_the_model_does_not_have_is_counted_apart() -> None:
    model = of(CLASSES, classified([1, 0, 0], "Bag"), classified([1, 0, 0], "Hat"), classified([1, 0, 0], 7))
    report = model.report(EVER)
    assert (report.n, report.unknown_labels) == (1, 2)


def test_a_row_that_failed_has_nothing_to_be_right() -> None:
    failed = known("Bag", {"error": {"type": "prediction_failed", "detail": ""}})
    report = of(CLASSES, failed, classified([1, 0, 0], "Bag")).report(EVER)
    assert (report.n, report.unknown_labels) == (1, 0)


def test_what_is_known_anew_replaces_what_was() -> None:
    row = classified([1, 0, 0], "Coat")
    model = of(CLASSES, row)
    assert model.report(EVER).figures.metrics["accuracy"].value == 0.0
    model.take([row._replace(label="Boot"), row._replace(label="Bag")])
    report = model.report(EVER)
    assert (report.n, report.figures.metrics["accuracy"].value) == (1, 1.0)


@pytest.mark.parametrize("gone", [{"label": None}, {"label": None, "outputs": None, "scores": None, "tags": None}])
def test_what_is_known_no_more_counts_no_more(gone: dict[str, Any]) -> None:
    row, other = classified([1, 0, 0], "Bag"), classified([0, 1, 0], "Bag")
    model = of(CLASSES, row, other)
    model.take([row._replace(**gone)])
    assert (len(model), model.report(EVER).n) == (1, 1)
    model.take([row])
    assert len(model) == 2
    model.take([row, row._replace(**gone)])
    assert len(model) == 1


def test_predictions_are_chosen_by_what_they_are() -> None:
    model = of(
        CLASSES,
        classified([1, 0, 0], "Bag", made=100.0),
        classified([1, 0, 0], "Bag", made=200.0, version=2),
        classified([1, 0, 0], "Bag", made=300.0, role="shadow"),
        classified([1, 0, 0], "Bag", made=400.0, tags={"tier": "a", "país": "España"}),
    )

    def n(**selection: Any) -> int:
        return model.report(Selection(**selection)).n

    assert (n(), n(role=None), n(role="shadow")) == (3, 4, 1)
    assert (n(version=1), n(version=2), n(version=3)) == (2, 1, 0)
    assert (n(since=200.0), n(until=200.0), n(since=200.0, until=200.001)) == (2, 1, 1)
    assert (n(slice="tier:a"), n(slice="país:España"), n(slice="tier:b"), n(slice="tier")) == (1, 1, 0, 0)
    assert model.slices == ["país:España", "tier:a"]


def test_of_very_many_tags_only_the_first_are_told_apart() -> None:
    rows = [classified([1, 0, 0], "Bag", tags={"user": str(number), "tier": "a"}) for number in range(300)]
    model = of(CLASSES, *rows)
    assert len(model.slices) == 256
    assert model.report(Selection(slice="user:0")).n == 1
    assert model.report(Selection(slice="user:299")).n == 0
    assert model.report(Selection(slice="tier:a")).n == 300


def test_old_predictions_are_let_go() -> None:
    model = of(CLASSES, classified([1, 0, 0], "Bag", made=100.0), classified([1, 0, 0], "Bag", made=200.0))
    model.forget_before(150.0)
    assert len(model) == 1


# When labels come


def test_the_delay_of_labels_is_told_and_what_is_mature_by_it() -> None:
    model = LiveModel(CLASSES)
    assert model.maturity is None
    model.take(
        [classified([1, 0, 0], "Bag", made=1000.0, received_at=1_000_000 + 1000 * delay) for delay in range(101)]
    )
    report = model.report(EVER)
    assert report.label_delay == pytest.approx({"p50": 50.0, "p90": 90.0, "p99": 99.0})
    assert model.maturity == pytest.approx(95.0)


def test_a_label_that_came_before_its_prediction_was_not_waited_for() -> None:
    model = of(CLASSES, *(classified([1, 0, 0], "Bag", made=1000.0, received_at=990_000) for _ in range(3)))
    assert model.report(EVER).label_delay == {"p50": 0.0, "p90": 0.0, "p99": 0.0}
    assert model.maturity == 0.0


def test_what_is_mature_is_told_by_what_came_lately() -> None:
    early = [classified([1, 0, 0], "Bag", made=1.0, received_at=2_000) for _ in range(2000)]
    late = [classified([1, 0, 0], "Bag", made=1000.0, received_at=1_050_000) for _ in range(10_000)]
    assert of(CLASSES, *early, *late).maturity == pytest.approx(50.0)


def test_how_sure_it_was_and_whether_that_was_right_is_told_of_the_latest() -> None:
    sure = [0.5, 0.9, 0.7, 0.8]
    rows = [
        classified([one, 1 - one, 0], "Bag" if one > 0.6 else "Boot", made=made)
        for one, made in zip(sure, [10.0, 40.0, 20.0, 30.0], strict=True)
    ]
    model = of(CLASSES, *rows)
    judged = model.judged(1, 0.0, 100.0)
    assert judged is not None
    confidence, correct = judged
    assert sorted(confidence) == pytest.approx([0.5, 0.7, 0.8, 0.9])
    assert not correct[np.argmin(confidence)]
    assert correct.sum() == 3
    latest = model.judged(1, 0.0, 100.0, most=2)
    assert latest is not None
    assert sorted(latest[0]) == pytest.approx([0.8, 0.9])


@pytest.mark.parametrize("apart", [0.001, 1.0, 86_400.0])
def test_the_latest_are_told_from_those_right_before_them(apart: float) -> None:
    sure = [0.5, 0.6, 0.7, 0.8]
    rows = [classified([one, 1 - one, 0], "Bag", made=10.0 + at * apart) for at, one in enumerate(sure)]
    latest = of(CLASSES, *rows).judged(1, 0.0, 1e6, most=2)
    assert latest is not None
    assert sorted(latest[0]) == pytest.approx([0.7, 0.8])


def test_what_is_mature_follows_labels_that_come() -> None:
    model = of(CLASSES, classified([1, 0, 0], "Bag", made=1000.0, received_at=1_010_000))
    assert model.maturity == pytest.approx(10.0)
    model.take([classified([1, 0, 0], "Bag", made=1000.0, received_at=1_110_000) for _ in range(99)])
    assert model.maturity == pytest.approx(110.0)


# All of it


@given(data=st.data())
def test_what_was_followed_step_by_step_equals_what_is_taken_at_once(data: st.DataObject) -> None:
    rows, _, _ = random_rows(8, seed=data.draw(st.integers(0, 5)))
    steps = data.draw(
        st.lists(st.tuples(st.integers(0, 7), st.sampled_from([None, *LABELS, "Hat"])), min_size=1, max_size=25)
    )
    followed, last = LiveModel(CLASSES), dict[str, Known]()
    for index, label in steps:
        row = rows[index]._replace(label=label)
        followed.take([row])
        last[row.prediction_id] = row
    anew = of(CLASSES, *last.values())
    first, second = followed.report(EVER), anew.report(EVER)
    assert (first.n, first.unknown_labels) == (second.n, second.unknown_labels)
    assert first.figures.confusion is not None
    assert second.figures.confusion is not None
    assert first.figures.confusion.tolist() == second.figures.confusion.tolist()
    for name, estimate in second.figures.metrics.items():
        assert first.figures.metrics[name] == estimate, name
