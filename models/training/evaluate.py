"""Measuring a network as it will serve: raw rows through the declared steps, answers as clients get them.

Shapes: n rows, C classes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import metrics
from models.architectures import Network
from models.manifest import Target, Task
from models.training.batches import Rows

Array = np.ndarray[Any, np.dtype[Any]]

BATCH_SIZE = 256


@dataclass(frozen=True, slots=True)
class Answers:
    """What the network says of n rows: `predicted` (n,) label indices, or values in the target's unit.

    `probabilities` is (n, C), for binary tasks (n,) that of the positive label, None for regression;
    `confidence` (n,) is the probability of the label predicted.
    """

    predicted: Array
    probabilities: Array | None = None
    confidence: Array | None = None


def outputs(network: Network, rows: Rows, device: torch.device) -> Array:
    """Return the network's (n, outputs) float32 for the rows in their order."""
    network.eval().to(device)
    found: Array = np.empty((len(rows), network.outputs), np.float32)
    with torch.inference_mode():
        for indices, batch in rows.in_order_of_length(BATCH_SIZE):
            here = batch.to(device)
            found[indices] = network(here.x, here.lengths).cpu().numpy()
    return found


def answers(logits: Array, task: Task, threshold: float, target: Target | None) -> Answers:
    """Turn outputs (n, outputs) into answers."""
    if task == "regression":
        assert target is not None  # the manifest has one for every regression
        return Answers(logits[:, 0].astype(np.float64) * target.std + target.mean)
    if task == "binary":
        positive = 1 / (1 + np.exp(-logits[:, 0].astype(np.float64)))
        predicted = (positive >= threshold).astype(np.int64)
        return Answers(predicted, positive, np.where(predicted == 1, positive, 1 - positive))
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    return Answers(probabilities.argmax(axis=1), probabilities, probabilities.max(axis=1))


def measure(found: Answers, truth: Array, task: Task, threshold: float) -> dict[str, metrics.Estimate]:
    """Return the task's metrics; `truth` (n,) holds class indices, or values in the target's unit."""
    if found.probabilities is None:
        return metrics.regression(found.predicted, truth)
    if task == "binary":
        return metrics.binary(found.probabilities, truth, threshold=threshold)
    return metrics.multiclass(found.probabilities, truth)


def validation_metric(task: Task, logits: Tensor, targets: Tensor, threshold: float = 0.5) -> float:
    """Return the figure by which an epoch is chosen: accuracy (of a binary task at `threshold`), or for regression R2.

    An R2 that is undefined counts as 0.
    """
    if task == "multiclass":
        return float((logits.argmax(dim=1) == targets).float().mean())
    if task == "binary":
        return float(((torch.sigmoid(logits[:, 0]) >= threshold) == (targets == 1)).float().mean())
    try:
        return metrics.r2(logits[:, 0].cpu().numpy(), targets.cpu().numpy())
    except metrics.Undefined:
        return 0.0
