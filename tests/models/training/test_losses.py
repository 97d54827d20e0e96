import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.training.losses import LossConfig, l1_norm

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
LABELS = torch.tensor([0, 2])
NONE = np.zeros(0, np.int64)


def test_cross_entropy_by_hand() -> None:
    loss = LossConfig(kind="cross_entropy").build(NONE, 3)
    by_hand = -(LOGITS[0].log_softmax(0)[0] + LOGITS[1].log_softmax(0)[2]) / 2
    assert loss(LOGITS, LABELS).item() == pytest.approx(by_hand.item())


def test_label_smoothing_spreads_a_share_over_all_classes() -> None:
    loss = LossConfig(kind="cross_entropy", label_smoothing=0.3).build(NONE, 3)
    targets = functional.one_hot(LABELS, 3) * 0.7 + 0.1
    by_hand = -(targets * LOGITS.log_softmax(1)).sum(1).mean()
    assert loss(LOGITS, LABELS).item() == pytest.approx(by_hand.item())


def test_class_weights_weigh_rows() -> None:
    loss = LossConfig(kind="cross_entropy", class_weights=(1.0, 1.0, 3.0)).build(NONE, 3)
    rows = functional.cross_entropy(LOGITS, LABELS, reduction="none")
    assert loss(LOGITS, LABELS).item() == pytest.approx(((rows[0] + 3 * rows[1]) / 4).item())


def test_balanced_weights_are_the_inverse_of_each_classs_share() -> None:
    labels = np.array([0, 0, 0, 1])
    balanced = LossConfig(kind="bce", class_weights="balanced").build(labels, 2)
    stated = LossConfig(kind="bce", class_weights=(4 / 6, 4 / 2)).build(labels, 2)
    logits = torch.tensor([[0.5], [-1.0]])
    assert balanced(logits, torch.tensor([0, 1])).item() == pytest.approx(stated(logits, torch.tensor([0, 1])).item())


def test_binary_cross_entropy_with_smoothing_by_hand() -> None:
    loss = LossConfig(kind="bce", label_smoothing=0.2).build(NONE, 2)
    probability = 1 / (1 + math.exp(-1.5))
    by_hand = -(0.9 * math.log(probability) + 0.1 * math.log(1 - probability))
    assert loss(torch.tensor([[1.5]]), torch.tensor([1])).item() == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LossConfig(kind="mse"), (1 + 9) / 2),
        (LossConfig(kind="mae"), (1 + 3) / 2),
        (LossConfig(kind="huber", huber_delta=2.0), (0.5 + 2 * (3 - 1)) / 2),
    ],
)
def test_regression_losses_by_hand(config: LossConfig, expected: float) -> None:
    loss = config.build(NONE, 0)
    assert loss(torch.tensor([[1.0], [5.0]]), torch.tensor([2.0, 2.0])).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("config", "task", "problem"),
    [
        (LossConfig(kind="mse"), "multiclass", "loss mse doesn't fit task multiclass; use cross_entropy"),
        (LossConfig(kind="cross_entropy"), "binary", "use bce"),
        (LossConfig(kind="bce"), "regression", "use mse or mae or huber"),
        (LossConfig(kind="mse", label_smoothing=0.1), "regression", "for classes, not for regression"),
    ],
)
def test_a_loss_of_another_task_is_refused(config: LossConfig, task: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        config.check(task)  # type: ignore[arg-type]


def test_weights_must_match_the_classes() -> None:
    with pytest.raises(ValueError, match="needs 3 weights, got 2"):
        LossConfig(kind="cross_entropy", class_weights=(1.0, 2.0)).build(NONE, 3)
    with pytest.raises(ValueError, match="class 1 has no training rows"):
        LossConfig(kind="bce", class_weights="balanced").build(np.array([0, 0]), 2)


def test_l1_leaves_biases_out() -> None:
    layer = torch.nn.Linear(2, 1)
    layer.weight.data = torch.tensor([[-2.0, 3.0]])
    layer.bias.data = torch.tensor([100.0])
    assert l1_norm(layer.parameters()).item() == 5.0


@pytest.mark.parametrize(
    ("config", "logits", "targets"),
    [
        (LossConfig(kind="cross_entropy", label_smoothing=0.1), LOGITS, LABELS),
        (LossConfig(kind="cross_entropy", class_weights=(1.0, 1.0, 3.0)), LOGITS, LABELS),
        (LossConfig(kind="bce", class_weights=(1.0, 2.0)), torch.tensor([[0.5], [-1.0]]), torch.tensor([0, 1])),
        (LossConfig(kind="huber"), torch.tensor([[0.5], [-4.0]]), torch.tensor([0.0, 1.0])),
    ],
)
def test_a_rows_weight_multiplies_its_loss(config: LossConfig, logits: torch.Tensor, targets: torch.Tensor) -> None:
    loss = config.build(NONE, 3 if len(logits[0]) == 3 else 2)
    plain = loss(logits, targets).item()
    assert loss(logits, targets, torch.ones(len(targets))).item() == pytest.approx(plain)
    first, second = (loss(logits, targets, torch.tensor(weights)).item() for weights in ([1.0, 0.0], [0.0, 2.0]))
    assert first + second / 2 == pytest.approx(plain)
