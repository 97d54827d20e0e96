"""How well scores rank: areas under the curves of ROC and of precision and recall.

Where there are millions of rows, scores are kept as codes: 65,536 steps of their logit. A step is 0.0005 wide, so that
areas of codes and of scores agree: of thousands of rows to less than 1e-4, of some hundred to some 1e-4, as each of
their pairs counts for more. Ranking codes needs no sorting. Shapes: n rows, C classes, K different scores.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from models.metrics.estimates import Z95, Array, Estimate, measured

NUM_CODES = 1 << 16
_EDGE = 1e-7
_MOST = math.log((1 - _EDGE) / _EDGE)
# Of at least so many rows, the standard deviation is known to half a percent.
_SPREAD_ROWS = 50_000


def codes_of(probabilities: Array) -> Array:
    """Return probabilities as codes, uint16 of the same shape: their order is kept, as far as a step tells it."""
    clipped = np.clip(np.asarray(probabilities, np.float64), _EDGE, 1 - _EDGE)
    steps = (np.log(clipped / (1 - clipped)) + _MOST) / (2 * _MOST) * (NUM_CODES - 1)
    return np.rint(steps).astype(np.uint16)


def areas(scores: Array, labels: Array) -> tuple[Estimate, Estimate]:
    """Return `auc` and `average_precision`, which count the same."""
    n = len(labels)
    if n == 0:
        nothing = Estimate(None, 0, reason="no rows")
        return nothing, nothing
    looked_at = slice(None, None, max(1, n // _SPREAD_ROWS))
    influence = np.zeros(len(range(n)[looked_at]))
    ranked, precise, variances = [], [], []
    lacks_negative = lacks_positive = False
    for column in _columns(scores, labels, looked_at):
        num_positive = int(column.of_positive.sum())
        if num_positive == 0:
            lacks_positive = True
            break
        precision = _average_precision(column)
        precise.append(precision)
        variances.append(precision * (1 - precision) / num_positive)
        lacks_negative |= num_positive == n
        if not lacks_negative:
            area, parts = _area(column)
            ranked.append(area)
            influence += parts
    of_every_class = Estimate(None, n, reason="needs rows of every class")
    if lacks_positive:
        return of_every_class, Estimate(None, n, reason="no positive row") if scores.ndim == 1 else of_every_class
    precision = float(np.mean(precise))
    found = _on_logit_scale(precision, n, math.sqrt(sum(variances)) / len(precise))
    if lacks_negative:
        return of_every_class, found
    spread = math.sqrt(float(np.square(influence / len(ranked)).mean()) / n)
    return _on_logit_scale(float(np.mean(ranked)), n, spread), found


def auc(scores: Array, labels: Array) -> Estimate:
    """Return the probability that a positive row scores above a negative one, ties counting half (Mann-Whitney).

    `scores` (n,) with binary labels (n,), or (n, C) with class labels (n,): then the mean of each class against the
    rest; or with booleans (n, C): the mean of each label. They are probabilities, or codes of them. The interval is
    DeLong's (1988) on the logit scale; of very many rows its spread is found from a part of them.
    """
    return areas(scores, labels)[0]


def average_precision(scores: Array, labels: Array) -> Estimate:
    """Return the mean precision at each positive row, which is the area under precision and recall.

    As scikit-learn's average_precision_score; `scores` and `labels` as those of `auc`. The interval is on the logit
    scale, from the number of positive rows (Boyd, Eng and Page 2013).
    """
    return areas(scores, labels)[1]


class _Column(NamedTuple):
    """One label's rows, their scores as whole numbers in the same order: how many there are of each number (K,), in all
    and of the positive, and of m rows that are looked at, which number they have and whether they are positive."""

    of_all: Array
    of_positive: Array
    ranks: Array
    positive: Array


def _columns(scores: Array, labels: Array, looked_at: slice) -> Iterator[_Column]:
    columns = scores[:, None] if scores.ndim == 1 else scores
    for index, (positives, positive) in enumerate(_positives(labels, columns.shape[1], looked_at)):
        column = np.ascontiguousarray(columns[:, index])
        ranks = column if column.dtype == np.uint16 else np.unique(column, return_inverse=True)[1]
        of_all = np.bincount(ranks)
        yield _Column(of_all, np.bincount(ranks[positives], minlength=len(of_all)), ranks[looked_at], positive)


def _positives(labels: Array, num_columns: int, looked_at: slice) -> Iterator[tuple[Array, Array]]:
    """Of each column, the places of its positive rows, and which of the rows that are looked at are positive."""
    if labels.ndim == 2:
        for index in range(num_columns):
            yield np.flatnonzero(labels[:, index]), labels[looked_at, index]
        return
    classes = [1] if num_columns == 1 else range(num_columns)
    # Small whole numbers are sorted in one go, which is sooner than a look for each class.
    order = np.argsort(labels.astype(np.min_scalar_type(max(num_columns, 1))), kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=max(num_columns, 2)))
    for index in classes:
        yield order[ends[index - 1] if index else 0 : ends[index]], labels[looked_at] == index


def _area(column: _Column) -> tuple[float, Array]:
    """Return the area, and the influence on it of some rows: DeLong's placement values, centred and weighted."""
    of_positive, of_negative = column.of_positive, column.of_all - column.of_positive
    num_positive, num_negative = int(of_positive.sum()), int(of_negative.sum())
    n = num_positive + num_negative
    beaten = (np.cumsum(of_negative) - of_negative / 2) / num_negative
    beaten_by = (num_positive - np.cumsum(of_positive) + of_positive / 2) / num_positive
    area = float((of_positive * beaten).sum() / num_positive)
    influence = np.where(
        column.positive,
        (beaten - area)[column.ranks] * (n / num_positive),
        (beaten_by - area)[column.ranks] * (n / num_negative),
    )
    return area, influence


def _average_precision(column: _Column) -> float:
    hits, taken = np.cumsum(column.of_positive[::-1]), np.cumsum(column.of_all[::-1])
    return float((column.of_positive[::-1] * hits / np.maximum(taken, 1)).sum() / hits[-1])


def _on_logit_scale(value: float, n: int, spread: float) -> Estimate:
    """A figure in 0 to 1 with its standard error."""
    # At either end there is no logit, and nothing was seen of how the area varies.
    if not 0.0 < value < 1.0:
        return measured(value, n)
    logit, half = math.log(value / (1 - value)), Z95 * spread / (value * (1 - value))
    return measured(value, n, _sigmoid(logit - half), _sigmoid(logit + half))


def _sigmoid(x: float) -> float:
    # Of a positive row among very many the interval reaches so far that exp of it is no float.
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
