"""How well scores rank: areas under the curves of ROC and of precision and recall.

Where there are millions of rows, scores are kept as codes: 65,536 steps of their logit. A step is 0.0005 wide, so that
areas of codes and of scores agree to about 1e-4; and ranking codes needs no sorting. Shapes: n rows, C classes, K
different scores.
"""

import math
from collections.abc import Iterator

import numpy as np

from models.metrics.estimates import Z95, Array, Estimate

NUM_CODES = 1 << 16
_EDGE = 1e-7
_MOST = math.log((1 - _EDGE) / _EDGE)


def codes_of(probabilities: Array) -> Array:
    """Return probabilities as codes, uint16 of the same shape: their order is kept, as far as a step tells it."""
    clipped = np.clip(np.asarray(probabilities, np.float64), _EDGE, 1 - _EDGE)
    steps = (np.log(clipped / (1 - clipped)) + _MOST) / (2 * _MOST) * (NUM_CODES - 1)
    return np.rint(steps).astype(np.uint16)


def auc(scores: Array, labels: Array) -> Estimate:
    """Return the probability that a positive row scores above a negative one, ties counting half (Mann-Whitney).

    `scores` (n,) with binary labels (n,), or (n, C) with class labels (n,): then the mean of each class against the
    rest; or with booleans (n, C): the mean of each label. They are probabilities, or codes of them. The interval is
    DeLong's (1988) on the logit scale.
    """
    n = len(labels)
    if n == 0:
        return Estimate(None, 0, reason="no rows")
    areas, influence = [], np.zeros(n)
    for ranks, positive in _each(scores, labels):
        if not 0 < int(positive.sum()) < n:
            return Estimate(None, n, reason="needs rows of every class")
        area, parts = _area(ranks, positive)
        areas.append(area)
        influence += parts
    spread = math.sqrt(float(np.square(influence / len(areas)).mean()) / n)
    return _on_logit_scale(float(np.mean(areas)), n, spread)


def average_precision(scores: Array, labels: Array) -> Estimate:
    """Return the mean precision at each positive row, which is the area under precision and recall.

    As scikit-learn's average_precision_score; `scores` and `labels` as those of `auc`. The interval is on the logit
    scale, from the number of positive rows (Boyd, Eng and Page 2013).
    """
    n = len(labels)
    if n == 0:
        return Estimate(None, 0, reason="no rows")
    values, variances = [], []
    for ranks, positive in _each(scores, labels):
        num_positive = int(positive.sum())
        if num_positive == 0:
            return Estimate(None, n, reason="no positive row" if scores.ndim == 1 else "needs rows of every class")
        value = _average_precision(ranks, positive)
        values.append(value)
        variances.append(value * (1 - value) / num_positive)
    return _on_logit_scale(float(np.mean(values)), n, math.sqrt(sum(variances)) / len(values))


def _each(scores: Array, labels: Array) -> Iterator[tuple[Array, Array]]:
    """Of each column, whole numbers (n,) in the order of its scores, and which rows are positive."""
    columns = scores[:, None] if scores.ndim == 1 else scores
    for index in range(columns.shape[1]):
        column = columns[:, index]
        ranks = column if column.dtype == np.uint16 else np.unique(column, return_inverse=True)[1]
        yield ranks, labels[:, index] if labels.ndim == 2 else labels == (1 if scores.ndim == 1 else index)


def _area(ranks: Array, positive: Array) -> tuple[float, Array]:
    """Return the area and each row's influence on it, (n,): DeLong's placement values, centred and weighted."""
    of_all = np.bincount(ranks)
    of_positive = np.bincount(ranks[positive], minlength=len(of_all))
    of_negative = of_all - of_positive
    num_positive, num_negative = int(of_positive.sum()), int(of_negative.sum())
    n = num_positive + num_negative
    beaten = (np.cumsum(of_negative) - of_negative / 2) / num_negative
    beaten_by = (num_positive - np.cumsum(of_positive) + of_positive / 2) / num_positive
    area = float((of_positive * beaten).sum() / num_positive)
    influence = np.where(
        positive, (beaten - area)[ranks] * (n / num_positive), (beaten_by - area)[ranks] * (n / num_negative)
    )
    return area, influence


def _average_precision(ranks: Array, positive: Array) -> float:
    of_all = np.bincount(ranks)
    of_positive = np.bincount(ranks[positive], minlength=len(of_all))
    hits, taken = np.cumsum(of_positive[::-1]), np.cumsum(of_all[::-1])
    return float((of_positive[::-1] * hits / np.maximum(taken, 1)).sum() / hits[-1])


def _on_logit_scale(value: float, n: int, spread: float) -> Estimate:
    """A figure in 0 to 1 with its standard error."""
    if not 0.0 < value < 1.0:
        return Estimate(value, n, value, value)
    logit, half = math.log(value / (1 - value)), Z95 * spread / (value * (1 - value))
    return Estimate(value, n, _sigmoid(logit - half), _sigmoid(logit + half))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
