"""Streams of labelled predictions whose true figures are known: how often does a 95 % interval hold the truth?

Shapes: n rows, C labels.
"""

import base64
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from uuid_utils import uuid7

from models import metrics
from models.metrics import Array, Estimate
from service.learning.live import LiveModel, Selection
from service.store.base import Known
from service.store.feedback import ModelContract

LOWEST, HIGHEST = 0.93, 0.97
"""The share of intervals that shall hold the truth lies between these."""

_LARGE = 2_000_000
_LEAST_PROBABILITY = 1e-9


class Process(Protocol):
    """What makes rows, and what is true of all that it could ever make."""

    @property
    def contract(self) -> ModelContract: ...

    @property
    def truth(self) -> Mapping[str, float]: ...

    def draw(self, rng: np.random.Generator, count: int) -> list[Known]: ...


class Classes:
    """Four labels, some of them rare, and a model that is right eight times in ten and surer than it should be.

    The probabilities of a row's labels are drawn from a Dirichlet distribution; the model says them sharpened.
    """

    contract = ModelContract("multiclass", ("often", "as often", "seldom", "as seldom"))
    _weights = (0.2, 0.2, 0.1, 0.1)
    _sharpened = 1.3

    def rows(self, rng: np.random.Generator, count: int) -> tuple[Array, Array]:
        """Predicted probabilities (n, C) as they are kept, and labels (n,)."""
        true = np.maximum(rng.dirichlet(self._weights, count), _LEAST_PROBABILITY)
        true /= true.sum(axis=1, keepdims=True)
        labels = (true.cumsum(axis=1) < rng.random(count)[:, None]).sum(axis=1).clip(0, len(self._weights) - 1)
        said = true**self._sharpened
        return (said / said.sum(axis=1, keepdims=True)).astype(np.float32), labels

    def draw(self, rng: np.random.Generator, count: int) -> list[Known]:
        probabilities, labels = self.rows(rng, count)
        names = self.contract.labels
        indices = probabilities.argmax(axis=1).tolist()
        return [
            _known(
                names[label],
                {"label": names[index], "index": index, "probability": float(row[index])},
                base64.b64encode(row.astype("<f4").tobytes()).decode(),
            )
            for row, index, label in zip(probabilities, indices, labels.tolist(), strict=True)
        ]

    @cached_property
    def truth(self) -> Mapping[str, float]:
        """Of two million rows: their own standard error is less than a fortieth of that of a thousand rows."""
        probabilities, labels = self.rows(np.random.default_rng(_LARGE), _LARGE)
        rows = np.arange(_LARGE)
        counts = metrics.confusion_matrix(labels, probabilities.argmax(axis=1), len(self._weights))
        of_truth = probabilities[rows, labels].astype(np.float64)
        squared = np.square(probabilities, dtype=np.float64).sum(axis=1) - 2 * of_truth + 1
        codes = metrics.codes_of(probabilities)
        return {
            "accuracy": float(np.trace(counts) / _LARGE),
            "balanced_accuracy": float(metrics.Margins.of(counts).balanced_accuracy),
            "f1_macro": metrics.macro_scores(counts)[2],
            "auc": metrics.auc(codes, labels).value or math.nan,
            "pr_auc": metrics.average_precision(codes, labels).value or math.nan,
            "log_loss": float(-np.log(np.maximum(of_truth, 1e-12)).mean()),
            "brier": float(squared.mean()),
        }


class Numbers:
    """A regression whose errors are Laplace's: many are small, and a few are large."""

    contract = ModelContract("regression", ())
    _spread, _scale = 10.0, 5.0

    def draw(self, rng: np.random.Generator, count: int) -> list[Known]:
        predicted = rng.normal(100.0, self._spread, count)
        actual = predicted + rng.laplace(0.0, self._scale, count)
        return [
            _known(truth, {"value": guess}) for guess, truth in zip(predicted.tolist(), actual.tolist(), strict=True)
        ]

    @property
    def truth(self) -> Mapping[str, float]:
        """Sizes of errors are exponential: their mean is the scale, the mean of their squares twice its square."""
        squared = 2 * self._scale**2
        return {
            "mae": self._scale,
            "mse": squared,
            "rmse": math.sqrt(squared),
            "r2": 1 - squared / (self._spread**2 + squared),
        }


@dataclass
class Coverage:
    """Of how many streams a figure's interval held the truth, and on which side of it the truth lay else."""

    held: int = 0
    above: int = 0
    below: int = 0
    undefined: int = 0

    def take(self, estimate: Estimate, truth: float) -> None:
        if estimate.low is None or estimate.high is None:
            self.undefined += 1
        elif truth > estimate.high:
            self.above += 1
        elif truth < estimate.low:
            self.below += 1
        else:
            self.held += 1

    @property
    def share(self) -> float:
        """Of the streams whose interval is defined."""
        return self.held / max(self.held + self.above + self.below, 1)


def streams(process: Process, rows: int, count: int, seed: int) -> Iterator[Mapping[str, Estimate]]:
    """What a live model says of each of so many streams."""
    for number in range(count):
        live = LiveModel(process.contract)
        live.take(process.draw(np.random.default_rng([seed, rows, number]), rows))
        yield live.report(Selection()).figures.metrics


def coverage_of_wilson(share: float, n: int) -> float:
    """With how much probability Wilson's interval holds this share, exactly."""
    held = 0.0
    for hits in range(n + 1):
        estimate = metrics.proportion(hits, n)
        assert estimate.low is not None
        assert estimate.high is not None
        if estimate.low <= share <= estimate.high:
            chosen = math.lgamma(n + 1) - math.lgamma(hits + 1) - math.lgamma(n - hits + 1)
            held += math.exp(chosen + hits * math.log(share) + (n - hits) * math.log1p(-share))
    return held


def _known(label: Any, outputs: Mapping[str, Any], scores: str | None = None) -> Known:
    return Known(str(uuid7()), "simulated", 1, "answered", label, 10**13, None, 1, outputs, scores, {})
