"""Versions on the same labelled rows."""

import numpy as np
import pytest

from models import metrics
from models.metrics import Array
from service.errors import BrokenContract
from service.learning.offline import judge
from service.learning.questions import RowsQuestion

RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 3, 400)


def probabilities(hits: float, seed: int = 1) -> Array:
    """Of three labels, with the right one on top in this share of the rows."""
    rng = np.random.default_rng(seed)
    said = rng.dirichlet([1.0] * 3, len(TRUTH))
    best = np.where(rng.random(len(TRUTH)) < hits, TRUTH, (TRUTH + 1) % 3)
    rows = np.arange(len(TRUTH))
    top = said.argmax(axis=1)
    said[rows, top], said[rows, best] = said[rows, best], said[rows, top]
    return said


def classes(*versions: str) -> RowsQuestion:
    return RowsQuestion("multiclass", ["a", "b", "c"], list(versions), [0.5] * len(versions))


def test_one_version_has_figures_and_no_comparison() -> None:
    said = probabilities(0.8)
    found = judge(classes("3"), [TRUTH, said])
    assert found["comparison"] is None
    [version] = found["versions"]
    assert (version["version"], version["n"]) == ("3", 400)
    expected = metrics.multiclass(said, TRUTH)
    assert version["metrics"] == {name: one.to_dict() for name, one in expected.items()}
    counts = metrics.confusion_matrix(TRUTH, said.argmax(axis=1), 3)
    assert version["confusion_matrix"] == {"labels": ["a", "b", "c"], "counts": counts.tolist()}
    assert set(version["per_label"]) == {"a", "b", "c"}
    assert sum(one["n"] for one in version["reliability"]) == 400


def test_a_version_that_is_better_wins() -> None:
    found = judge(classes("1", "2"), [TRUTH, probabilities(0.6), probabilities(0.9, seed=2)])
    compared = found["comparison"]
    assert compared["winner"] == "2"
    assert compared["p_value"] < 0.001
    assert compared["differences"]["accuracy"]["low"] > 0
    assert compared["verdict"].startswith("Version 2 is better than version 1")
    reverse = judge(classes("1", "2"), [TRUTH, probabilities(0.9, seed=2), probabilities(0.6)])
    assert reverse["comparison"]["winner"] == "1"


def test_binary_tasks_say_yes_from_their_own_threshold() -> None:
    truth, said = np.array([0, 1, 1, 0]), np.array([0.1, 0.3, 0.9, 0.6])
    question = RowsQuestion("binary", ["ham", "spam"], ["1", "2"], [0.5, 0.2])
    first, second = judge(question, [truth, said, said])["versions"]
    assert first["confusion_matrix"]["counts"] == [[1, 1], [1, 1]]
    assert second["confusion_matrix"]["counts"] == [[1, 1], [0, 2]]
    assert first["metrics"]["auc"] == second["metrics"]["auc"]
    assert [one["metrics"]["recall"]["value"] for one in (first, second)] == [0.5, 1.0]


def test_a_probability_as_high_as_the_threshold_says_yes() -> None:
    said = np.array([0.25, 0.75])
    question = RowsQuestion("binary", ["ham", "spam"], ["1"], [0.75])
    [version] = judge(question, [np.array([0, 1]), said])["versions"]
    assert version["confusion_matrix"]["counts"] == [[1, 0], [0, 1]]
    assert version["metrics"]["accuracy"]["value"] == 1.0
    question = RowsQuestion("multilabel", ["a", "b"], ["1"], [0.75])
    [version] = judge(question, [np.array([[False, True]]), said[None]])["versions"]
    assert version["metrics"]["accuracy"]["value"] == 1.0


def test_reliability_of_a_binary_task_is_how_often_the_second_label_was_true() -> None:
    question = RowsQuestion("binary", ["ham", "spam"], ["1"], [0.5])
    [version] = judge(question, [np.array([0, 0, 0, 1, 1]), np.array([0.125] * 4 + [0.875])])["versions"]
    assert [(one["n"], one["confidence"], one["accuracy"]["value"]) for one in version["reliability"]] == [
        (4, 0.125, 0.25),
        (1, 0.875, 1.0),
    ]


def test_reliability_of_classes_is_how_often_the_one_predicted_was_right() -> None:
    said = np.array([[0.8, 0.1, 0.1]] * 4 + [[0.1, 0.3, 0.6]])
    [version] = judge(classes("1"), [np.array([0, 0, 0, 1, 0]), said])["versions"]
    assert [(one["n"], one["confidence"], one["accuracy"]["value"]) for one in version["reliability"]] == [
        (1, 0.6, 0.0),
        (4, pytest.approx(0.8), 0.75),
    ]


def test_multilabel_rows_are_right_where_all_labels_are() -> None:
    truth = np.array([[True, False], [True, True], [False, False]])
    said = np.array([[0.9, 0.1], [0.9, 0.4], [0.2, 0.3]])
    question = RowsQuestion("multilabel", ["a", "b"], ["1", "2"], [0.5, 0.35])
    found = judge(question, [truth, said, said])
    assert [one["metrics"]["accuracy"]["value"] for one in found["versions"]] == [pytest.approx(2 / 3), 1.0]
    assert found["versions"][0]["per_label"]["b"]["recall"]["value"] == 0.0
    assert "confusion_matrix" not in found["versions"][0]


def test_numbers_have_residuals_and_the_nearer_is_right() -> None:
    truth = RNG.normal(size=200)
    question = RowsQuestion("regression", [], ["1", "2"], [0.5, 0.5])
    found = judge(question, [truth, truth + RNG.normal(0, 2, 200), truth + RNG.normal(0, 0.5, 200)])
    assert found["comparison"]["winner"] == "2"
    assert sum(found["versions"][0]["residuals"]["counts"]) == 200


def test_residuals_are_what_was_missing_from_the_prediction() -> None:
    question = RowsQuestion("regression", [], ["1"], [0.5])
    [version] = judge(question, [np.array([3.0, 5.0]), np.array([2.0, 2.0])])["versions"]
    edges = version["residuals"]["edges"]
    assert (edges[0], edges[-1]) == (1.0, 3.0)


def test_many_labels_have_no_table() -> None:
    labels = [str(number) for number in range(201)]
    truth = np.arange(201)
    [version] = judge(RowsQuestion("multiclass", labels, ["1"], [0.5]), [truth, np.eye(201)])["versions"]
    assert "confusion_matrix" not in version
    assert version["metrics"]["accuracy"]["value"] == 1.0


def test_rows_that_do_not_fit_are_a_fault_of_ours() -> None:
    with pytest.raises(BrokenContract):
        judge(classes("1"), [TRUTH, probabilities(0.5)[:-1]])
    with pytest.raises(BrokenContract):
        judge(classes("1", "2"), [TRUTH, probabilities(0.5)])
