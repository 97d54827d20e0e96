import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.manifest import WEIGHTS, Manifest
from models.preprocess.tensors import Array
from service.domain import PredictParameters
from service.serving.postprocess import Prediction, interpret, postprocess, sigmoid, softmax
from service.wire.inference import Outputs

PLAIN = PredictParameters()
LABELS = ["ankle boot", "bag", "coat"]


def manifest(task: str, labels: list[str], **more: Any) -> Manifest:
    described = {
        "model": "m",
        "version": 1,
        "architecture": {"family": "mlp", "config": {}},
        "task": task,
        "input": {"kind": "tensor", "shape": [1]},
        "labels": labels,
        "files": {WEIGHTS: {"sha256": "0" * 64, "size": 0}},
        **more,
    }
    return Manifest.model_validate(described)


def predict(outputs: Any, described: Manifest, parameters: PredictParameters = PLAIN) -> list[Prediction]:
    return postprocess(np.array(outputs, np.float32), described, parameters).predictions


def logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))


# multiclass

MULTICLASS = manifest("multiclass", LABELS)
LOG_SHARES = np.log([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]])


def test_multiclass_names_the_likeliest_label_with_its_probability() -> None:
    first, second = predict(LOG_SHARES, MULTICLASS)
    assert first == {"label": "bag", "index": 1, "probability": pytest.approx(0.5)}
    assert second == {"label": "ankle boot", "index": 0, "probability": pytest.approx(0.7)}


def test_top_k_is_ordered_and_begins_with_the_label() -> None:
    (first, _) = predict(LOG_SHARES, MULTICLASS, PredictParameters(top_k=2))
    assert first["top"] == [
        {"label": "bag", "index": 1, "probability": pytest.approx(0.5)},
        {"label": "coat", "index": 2, "probability": pytest.approx(0.3)},
    ]


def test_top_k_beyond_the_labels_gives_all_of_them() -> None:
    (first, _) = predict(LOG_SHARES, MULTICLASS, PredictParameters(top_k=1000))
    assert [item["label"] for item in first["top"]] == ["bag", "coat", "ankle boot"]


def test_equal_probabilities_keep_the_order_of_the_labels() -> None:
    labels = [f"label {index}" for index in range(100)]
    outputs = [[index % 2 for index in range(100)]]
    (only,) = predict(outputs, manifest("multiclass", labels), PredictParameters(top_k=100))
    assert only["label"] == labels[1]
    assert [item["label"] for item in only["top"]] == labels[1::2] + labels[::2]


def test_all_probabilities_come_where_they_are_asked_for() -> None:
    (first, _) = predict(LOG_SHARES, MULTICLASS, PredictParameters(return_probabilities=True))
    assert first["probabilities"] == {
        "ankle boot": pytest.approx(0.2),
        "bag": pytest.approx(0.5),
        "coat": pytest.approx(0.3),
    }


# binary


@pytest.mark.parametrize(
    ("probability", "threshold", "label", "index", "said"),
    [
        (0.9, 0.5, "positive", 1, 0.9),
        (0.1, 0.5, "negative", 0, 0.9),
        (0.6, 0.8, "negative", 0, 0.4),
        (0.3, 0.2, "positive", 1, 0.3),
    ],
)
def test_binary_names_a_label_by_the_threshold_with_that_labels_probability(
    probability: float, threshold: float, label: str, index: int, said: float
) -> None:
    described = manifest("binary", ["negative", "positive"], threshold=threshold)
    (only,) = predict([[logit(probability)]], described)
    assert only == {"label": label, "index": index, "probability": pytest.approx(said, abs=1e-6)}


def test_binary_is_positive_from_its_threshold_on() -> None:
    (only,) = predict([[0.0]], manifest("binary", ["negative", "positive"], threshold=0.5))
    assert only["label"] == "positive"


def test_binary_gives_both_probabilities_where_they_are_asked_for() -> None:
    described = manifest("binary", ["negative", "positive"])
    (only,) = predict([[logit(0.9)]], described, PredictParameters(top_k=5, return_probabilities=True))
    assert only["probabilities"] == {"negative": pytest.approx(0.1), "positive": pytest.approx(0.9)}
    assert [item["label"] for item in only["top"]] == ["positive", "negative"]


# multilabel

MULTILABEL = manifest("multilabel", ["hot", "wet", "loud"], threshold=0.6)
SHARES = [[logit(0.7), logit(0.5), logit(0.9)], [logit(0.1)] * 3]


def test_multilabel_names_every_label_from_the_threshold_on() -> None:
    first, second = predict(SHARES, MULTILABEL)
    assert first == {
        "labels": [
            {"label": "hot", "probability": pytest.approx(0.7)},
            {"label": "loud", "probability": pytest.approx(0.9)},
        ]
    }
    assert second == {"labels": []}


def test_multilabel_gives_the_likeliest_and_all_where_asked() -> None:
    (first, _) = predict(SHARES, MULTILABEL, PredictParameters(top_k=2, return_probabilities=True))
    assert [item["label"] for item in first["top"]] == ["loud", "hot"]
    assert list(first["probabilities"]) == ["hot", "wet", "loud"]


# regression and embedding


def test_regression_gives_the_value_in_the_targets_unit() -> None:
    described = manifest("regression", [], target={"name": "price", "mean": 500, "std": 100})
    assert predict([[0.5], [-1]], described, PredictParameters(top_k=2)) == [{"value": 550}, {"value": 400}]


def test_embedding_gives_the_vector() -> None:
    assert predict([[0.5, 1], [2, 3]], manifest("embedding", [])) == [{"embedding": [0.5, 1]}, {"embedding": [2, 3]}]


# Stability

logits = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=6).map(
    lambda row: np.array([row], np.float32)
)


@given(logits)
def test_softmax_sums_to_one_whatever_the_logits(row: Array) -> None:
    with warnings.catch_warnings(action="error"):
        probabilities = np.array(softmax(row))
    assert probabilities.sum() == pytest.approx(1)
    assert probabilities.min() >= 0
    assert probabilities[0, row.argmax()] == probabilities.max()


@given(logits)
def test_sigmoid_is_a_probability_whatever_the_logits(row: Array) -> None:
    with warnings.catch_warnings(action="error"):
        there, back = sigmoid(row), sigmoid(-row)
    assert (there >= 0).all()
    assert (there <= 1).all()
    np.testing.assert_allclose(there + back, 1)


def test_few_labels_and_many_get_the_same_probabilities() -> None:
    few = np.random.default_rng(0).normal(scale=4, size=(5, 32)).astype(np.float32)
    many = np.pad(few, ((0, 0), (0, 32)), constant_values=-1e9)
    np.testing.assert_allclose(np.array(softmax(many))[:, :32], softmax(few), rtol=1e-12)


@pytest.mark.parametrize("num_labels", [3, 100])
def test_a_row_has_the_same_probabilities_alone_and_among_others(num_labels: int) -> None:
    rows = np.random.default_rng(0).normal(scale=4, size=(50, num_labels)).astype(np.float32)
    assert softmax(rows) == [softmax(row[None])[0] for row in rows]


def test_softmax_and_sigmoid_agree_with_their_definitions() -> None:
    x = np.array([[-2.0, 0.5, 3.0]], np.float32)
    np.testing.assert_allclose(softmax(x), np.exp(x) / np.exp(x).sum(), rtol=1e-6)
    np.testing.assert_allclose(sigmoid(x), 1 / (1 + np.exp(-x)), rtol=1e-6)


# Rows that failed


def test_a_failed_row_has_its_reason_in_its_place() -> None:
    values = np.log(np.array([[0.2, 0.5, 0.3], [np.nan] * 3, [0.7, 0.1, 0.2], [np.nan] * 3], np.float32))
    failures = {1: "not finite", 3: "an engine ended while it ran this"}
    outputs = Outputs(values, failures, queue_seconds=0.0, compute_seconds=0.0, quarantined=frozenset({3}))
    predictions, probabilities = interpret(outputs, MULTICLASS, PLAIN)
    assert [prediction.get("label") for prediction in predictions] == ["bag", None, "ankle boot", None]
    assert predictions[1] == {"error": {"type": "prediction_failed", "detail": "not finite"}}
    assert predictions[3] == {
        "error": {"type": "quarantined_input", "detail": "an engine ended while it ran this"},
    }
    assert probabilities is not None
    assert [[round(one, 6) for one in row] for row in probabilities] == [[0.2, 0.5, 0.3], [], [0.7, 0.1, 0.2], []]
