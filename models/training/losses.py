"""What training lowers: one loss a task, and penalties on the weights.

Shapes: B rows, C classes. Logits are (B, C), or (B, 1) for binary tasks and regression.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from models.manifest import Task

Array = np.ndarray[Any, np.dtype[Any]]
_Reduction = Literal["mean", "none"]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Loss(Protocol):
    """The mean loss of a batch."""

    def __call__(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return a scalar. `weights` (B,) multiply each row's loss; the mean is over as many rows as without them."""
        ...


class LossConfig(BaseModel):
    """`cross_entropy` for multiclass tasks, `bce` for binary ones, `mse`, `mae` and `huber` for regression."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["cross_entropy", "bce", "mse", "mae", "huber"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target's probability that is spread evenly over all classes (cross_entropy, bce)."""
    class_weights: Literal["balanced"] | tuple[NonNegative, ...] | None = None
    """One weight a class; "balanced" weighs classes by the inverse of their share (cross_entropy, bce)."""
    huber_delta: Annotated[float, Field(gt=0)] = 1.0
    """Where the Huber loss turns from square to straight, in standardised target units."""

    def check(self, task: Task) -> None:
        """Raise ValueError when this is no loss for `task`."""
        allowed = {"multiclass": ("cross_entropy",), "binary": ("bce",), "regression": ("mse", "mae", "huber")}
        if self.kind not in allowed.get(task, ()):
            raise ValueError(f"loss {self.kind} doesn't fit task {task}; use {' or '.join(allowed.get(task, ()))}")
        if task == "regression" and (self.label_smoothing or self.class_weights):
            raise ValueError("label_smoothing and class_weights are for classes, not for regression")

    def build(self, targets: Array, num_classes: int) -> Loss:
        """Return the loss; `targets` (n,) of the training part are what "balanced" counts."""
        class_weights = self._weights(targets, num_classes)

        def loss(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
            if weights is None:
                return self._of(logits, targets, class_weights, "mean")
            rows = self._of(logits, targets, class_weights, "none")
            counted = len(targets) if class_weights is None else class_weights.to(logits)[targets].sum()
            return (rows * weights).sum() / counted

        return loss

    def _of(self, logits: Tensor, y: Tensor, class_weights: Tensor | None, reduction: _Reduction) -> Tensor:
        """Return the mean, or with "none" each row's loss (B,), times the weight of its class."""
        match self.kind:
            case "cross_entropy":
                return functional.cross_entropy(
                    logits,
                    y,
                    weight=None if class_weights is None else class_weights.to(logits),
                    label_smoothing=self.label_smoothing,
                    reduction=reduction,
                )
            case "bce":
                return self._binary(logits[:, 0], y, class_weights, reduction)
            case "mse":
                return functional.mse_loss(logits[:, 0], y, reduction=reduction)
            case "mae":
                return functional.l1_loss(logits[:, 0], y, reduction=reduction)
            case "huber":
                return functional.huber_loss(logits[:, 0], y, reduction=reduction, delta=self.huber_delta)

    def _binary(self, logits: Tensor, y: Tensor, class_weights: Tensor | None, reduction: _Reduction) -> Tensor:
        smoothed = y.to(logits) * (1 - self.label_smoothing) + self.label_smoothing / 2
        if class_weights is None:
            return functional.binary_cross_entropy_with_logits(logits, smoothed, reduction=reduction)
        row_weights = class_weights.to(logits)[y]
        losses = functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="none") * row_weights
        return losses if reduction == "none" else losses.sum() / row_weights.sum()

    def _weights(self, targets: Array, num_classes: int) -> Tensor | None:
        if self.class_weights is None:
            return None
        if self.class_weights == "balanced":
            counts = np.bincount(targets, minlength=num_classes)
            if not counts.all():
                raise ValueError(f"class {int(counts.argmin())} has no training rows to balance with")
            return torch.tensor(len(targets) / (num_classes * counts), dtype=torch.float32)
        if len(self.class_weights) != num_classes:
            raise ValueError(f"class_weights needs {num_classes} weights, got {len(self.class_weights)}")
        return torch.tensor(self.class_weights, dtype=torch.float32)


def l1_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Return the sum of the absolute weights; biases and norms (fewer than two axes) are left out."""
    return torch.stack([p.abs().sum() for p in parameters if p.dim() > 1]).sum()
