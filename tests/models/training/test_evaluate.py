import numpy as np
import pytest
import torch

from models.architectures import build
from models.manifest import Target
from models.preprocess import Preprocessor
from models.training import evaluate
from models.training.batches import Rows


def test_outputs_come_in_the_rows_own_order() -> None:
    network = build("recurrent", {"cell": "lstm", "features": 1, "hidden": 4, "outputs": 2})
    rows = [np.full((n, 1), n, np.float32) for n in (5, 1, 3)]
    found = evaluate.outputs(network, Rows(rows, np.zeros(3), Preprocessor([], {}.__getitem__)), torch.device("cpu"))
    with torch.inference_mode():
        alone = [network(torch.from_numpy(row)[None]).numpy()[0] for row in rows]
    np.testing.assert_allclose(found, alone, atol=1e-6)


def test_multiclass_answers_are_a_softmax() -> None:
    logits = np.array([[0.0, np.log(3.0)], [1000.0, -1000.0]], np.float32)
    found = evaluate.answers(logits, "multiclass", 0.5, None)
    np.testing.assert_allclose(found.probabilities, [[0.25, 0.75], [1.0, 0.0]], atol=1e-6)
    assert found.predicted.tolist() == [1, 0]
    assert found.confidence is not None
    np.testing.assert_allclose(found.confidence, [0.75, 1.0], atol=1e-6)


def test_binary_answers_follow_the_threshold() -> None:
    logits = np.log(np.array([[0.6 / 0.4], [0.2 / 0.8]], np.float32))
    found = evaluate.answers(logits, "binary", 0.7, None)
    assert found.predicted.tolist() == [0, 0]
    assert found.confidence is not None
    np.testing.assert_allclose(found.confidence, [0.4, 0.8], atol=1e-6)


def test_regression_answers_are_in_the_targets_unit() -> None:
    found = evaluate.answers(np.array([[0.0], [2.0]], np.float32), "regression", 0.5, Target(name="p", mean=10, std=3))
    assert found.predicted.tolist() == [10.0, 16.0]
    assert found.confidence is None


def test_the_validation_metric_of_each_task() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    assert evaluate.validation_metric("multiclass", logits, labels) == 0.5
    scores, truth = torch.tensor([[1.0], [-1.0]]), torch.tensor([1, 0])
    assert evaluate.validation_metric("binary", scores, truth) == 1.0
    assert evaluate.validation_metric("binary", scores, truth, threshold=0.8) == 0.5
    values = torch.tensor([[1.0], [2.0], [3.0]])
    assert evaluate.validation_metric("regression", values, values[:, 0]) == 1.0
    assert evaluate.validation_metric("regression", values, torch.ones(3)) == 0.0


def test_each_task_is_measured_with_its_metrics() -> None:
    binary = evaluate.answers(np.array([[1.0], [-1.0]], np.float32), "binary", 0.5, None)
    assert evaluate.measure(binary, np.array([1, 0]), "binary", 0.5)["f1"].value == pytest.approx(1.0)
    classes = evaluate.answers(np.eye(3, dtype=np.float32), "multiclass", 0.5, None)
    assert evaluate.measure(classes, np.arange(3), "multiclass", 0.5)["accuracy"].value == 1.0
    values = evaluate.answers(np.array([[1.0], [2.0]], np.float32), "regression", 0.5, Target(name="p"))
    assert evaluate.measure(values, np.array([1.0, 3.0]), "regression", 0.5)["mae"].value == 0.5
