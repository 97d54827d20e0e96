"""How good predictions are, each figure with its uncertainty. numpy only.

Every figure is an `Estimate`: its value, a 95 % interval and the number of rows behind it. What is not defined on the
rows at hand (AUC of one class, R2 of constant targets) is None with the reason, never NaN.

Shapes: n rows, C classes. Labels are class indices 0..C-1; in binary tasks 1 is the positive class.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

NUM_RESAMPLES = 1000
NUM_CALIBRATION_BINS = 15
_Z95 = 1.959963984540054
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval. `value` None means undefined, and `reason` says why."""

    value: float | None
    n: int
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    def to_dict(self) -> dict[str, float | int | str | None]:
        """Return {"value", "low", "high", "n"}, or {"value": None, "n", "reason"}."""
        kept = ("value", "n", "reason") if self.value is None else ("value", "low", "high", "n")
        fields = asdict(self)
        return {name: fields[name] for name in kept}


class Undefined(ArithmeticError):
    """A figure has no value on these rows; the text says why."""


# ---- the report of a task --------------------------------------------------------------------------------------------


def multiclass(probabilities: Array, labels: Array, *, seed: int = 0) -> dict[str, Estimate]:
    """Return accuracy, macro precision/recall/F1, log loss, Brier score, calibration error and macro AUC.

    `probabilities` is (n, C) with rows that sum to 1, `labels` (n,). Raises ValueError when they don't fit.
    """
    probabilities, labels = _checked(probabilities, labels, num_axes=2)
    num_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    n = len(labels)
    rows = np.arange(n)
    counts = confusion_matrix(labels, predicted, num_classes)
    squared = np.square(probabilities - np.eye(num_classes)[labels]).sum(axis=1)
    confidence = probabilities.max(axis=1, initial=0.0)
    return {
        "accuracy": proportion(int((predicted == labels).sum()), n),
        **_from_counts(counts, {"precision_macro": 0, "recall_macro": 1, "f1_macro": 2}, macro_scores, seed),
        "log_loss": mean(-np.log(np.maximum(probabilities[rows, labels], _TINY)), seed=seed),
        "brier": mean(squared, seed=seed),
        "ece": _plain(lambda: calibration_error(confidence, predicted == labels), n),
        "auc": auc(probabilities, labels),
    }


def binary(probabilities: Array, labels: Array, *, threshold: float = 0.5, seed: int = 0) -> dict[str, Estimate]:
    """Return accuracy, precision/recall/F1 of the positive class and macro F1, log loss, Brier, calibration and AUC.

    `probabilities` is (n,): that of the positive class. Raises ValueError when they don't fit.
    """
    probabilities, labels = _checked(probabilities, labels, num_axes=1)
    predicted = (probabilities >= threshold).astype(np.int64)
    n = len(labels)
    counts = confusion_matrix(labels, predicted, 2)
    of_truth = np.where(labels == 1, probabilities, 1 - probabilities)
    return {
        "accuracy": proportion(int((predicted == labels).sum()), n),
        **_from_counts(counts, {"precision": 0, "recall": 1, "f1": 2}, positive_scores, seed),
        **_from_counts(counts, {"f1_macro": 2}, macro_scores, seed),
        "log_loss": mean(-np.log(np.maximum(of_truth, _TINY)), seed=seed),
        "brier": mean(np.square(1 - of_truth), seed=seed),
        "ece": _plain(lambda: calibration_error(probabilities, labels == 1), n),
        "auc": auc(probabilities, labels),
    }


def regression(predicted: Array, actual: Array, *, seed: int = 0) -> dict[str, Estimate]:
    """Return RMSE and MAE (in the target's unit) and R2, for values (n,). Raises ValueError when they don't fit."""
    predicted, actual = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
    if predicted.ndim != 1 or predicted.shape != actual.shape:
        raise ValueError(f"values must both have shape (n,), got {predicted.shape} and {actual.shape}")
    n, errors = len(actual), predicted - actual
    return {
        "rmse": estimate(lambda i: math.sqrt(float(np.square(errors[i]).mean())), n, seed=seed),
        "mae": mean(np.abs(errors), seed=seed),
        "r2": estimate(lambda i: r2(predicted[i], actual[i]), n, seed=seed),
    }


# ---- single figures --------------------------------------------------------------------------------------------------


def confusion_matrix(labels: Array, predicted: Array, num_classes: int) -> Array:
    """Return counts (C, C) int64: rows are the true classes, columns the predicted ones."""
    flat = np.asarray(labels, np.int64) * num_classes + np.asarray(predicted, np.int64)
    return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)


def macro_scores(counts: Array) -> tuple[float, float, float]:
    """Return precision, recall and F1 averaged over the classes that were true or predicted at least once.

    A class without predictions has precision 0, one without true rows recall 0. Raises Undefined without rows.
    """
    hits, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    seen = (true + predicted) > 0
    if not seen.any():
        raise Undefined("no rows")
    precision = hits[seen] / np.maximum(predicted[seen], 1)
    recall = hits[seen] / np.maximum(true[seen], 1)
    f1 = 2 * hits[seen] / (true + predicted)[seen]
    return float(precision.mean()), float(recall.mean()), float(f1.mean())


def positive_scores(counts: Array) -> tuple[float, float, float]:
    """Return precision, recall and F1 of class 1 of counts (2, 2). Raises Undefined when one of them is."""
    hits, true, predicted = int(counts[1, 1]), int(counts[1].sum()), int(counts[:, 1].sum())
    if not true:
        raise Undefined("no positive row")
    if not predicted:
        raise Undefined("no row was predicted positive")
    return hits / predicted, hits / true, 2 * hits / (true + predicted)


def calibration_error(confidence: Array, correct: Array, num_bins: int = NUM_CALIBRATION_BINS) -> float:
    """Return the expected calibration error: |mean confidence - share correct| over equal bins, weighted by rows.

    Guo et al. 2017, arXiv:1706.04599. Raises Undefined without rows.
    """
    if not len(confidence):
        raise Undefined("no rows")
    bins = np.minimum((confidence * num_bins).astype(np.int64), num_bins - 1)
    surplus = np.bincount(bins, weights=confidence - correct, minlength=num_bins)
    return float(np.abs(surplus).sum() / len(confidence))


def auc(scores: Array, labels: Array) -> Estimate:
    """Return the probability that a positive row scores above a negative one, ties counting half (Mann-Whitney).

    `scores` (n,) with binary labels (n,), or (n, C) with class labels: then the mean of each class against the rest.
    The interval is DeLong's (1988) on the logit scale.
    """
    columns, positive = (
        (scores[:, None], labels[:, None] == 1)
        if scores.ndim == 1
        else (scores, labels[:, None] == np.arange(scores.shape[1]))
    )
    n, num_positive = len(labels), positive.sum(axis=0)
    if n == 0:
        return Estimate(None, 0, reason="no rows")
    if not (num_positive.all() and (n - num_positive).all()):
        return Estimate(None, n, reason="needs rows of every class")
    placed = [_placements(columns[:, c], positive[:, c]) for c in range(columns.shape[1])]
    value = float(np.mean([area for area, _ in placed]))
    influence = np.mean([part for _, part in placed], axis=0)
    if not 0.0 < value < 1.0:
        return Estimate(value, n, value, value)
    half = _Z95 * math.sqrt(float(np.square(influence).mean()) / n) / (value * (1 - value))
    logit = math.log(value / (1 - value))
    return Estimate(value, n, _sigmoid(logit - half), _sigmoid(logit + half))


def _placements(scores: Array, positive: Array) -> tuple[float, Array]:
    """Return the area and each row's influence on it, (n,): DeLong's placement values, centred and weighted."""
    num_positive, n = int(positive.sum()), len(scores)
    ranks = _midranks(scores)
    beaten = (ranks[positive] - _midranks(scores[positive])) / (n - num_positive)
    beaten_by = 1 - (ranks[~positive] - _midranks(scores[~positive])) / num_positive
    area = float(beaten.mean())
    influence = np.empty(n)
    influence[positive] = (beaten - area) * (n / num_positive)
    influence[~positive] = (beaten_by - area) * (n / (n - num_positive))
    return area, influence


def _midranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def r2(predicted: Array, actual: Array) -> float:
    """Return the share of the variance explained. Raises Undefined for constant targets."""
    spread = float(np.square(actual - actual.mean()).sum())
    if spread == 0.0:
        raise Undefined("all targets are equal")
    return 1.0 - float(np.square(predicted - actual).sum()) / spread


# ---- intervals -------------------------------------------------------------------------------------------------------


def proportion(hits: int, n: int) -> Estimate:
    """Return hits / n with Wilson's score interval (Wilson 1927)."""
    if n == 0:
        return Estimate(None, 0, reason="no rows")
    share, z2 = hits / n, _Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Estimate(share, n, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def mean(values: Array, *, seed: int = 0) -> Estimate:
    """Return the mean of values (n,) with a bootstrap interval."""
    return estimate(lambda i: float(values[i].mean()), len(values), seed=seed)


def estimate(
    statistic: Callable[[Array], float], n: int, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> Estimate:
    """Return `statistic` of all rows with its percentile bootstrap interval (Efron 1979).

    `statistic` takes row indices and may raise Undefined; resamples on which it does are left out.
    """
    if n == 0:
        return Estimate(None, 0, reason="no rows")
    try:
        value = statistic(np.arange(n))
    except Undefined as undefined:
        return Estimate(None, n, reason=str(undefined))
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(num_resamples):
        try:
            draws.append(statistic(rng.integers(0, n, n)))
        except Undefined:
            continue
    low, high = _percentiles(draws)
    return Estimate(value, n, low, high)


def _from_counts(
    counts: Array, names: dict[str, int], scores: Callable[[Array], tuple[float, ...]], seed: int
) -> dict[str, Estimate]:
    # Resampling rows with replacement is a multinomial draw of the confusion matrix's cells.
    n = int(counts.sum())
    try:
        values = scores(counts)
    except Undefined as undefined:
        return {name: Estimate(None, n, reason=str(undefined)) for name in names}
    drawn = np.random.default_rng(seed).multinomial(n, counts.ravel() / n, size=NUM_RESAMPLES)
    resampled = []
    for cells in drawn:
        try:
            resampled.append(scores(cells.reshape(counts.shape)))
        except Undefined:
            continue
    bounds = {name: _percentiles([draw[position] for draw in resampled]) for name, position in names.items()}
    return {name: Estimate(values[position], n, *bounds[name]) for name, position in names.items()}


def _plain(figure: Callable[[], float], n: int) -> Estimate:
    # Resampling adds noise that only ever raises a calibration error: a bootstrap interval would miss the value.
    try:
        return Estimate(figure(), n)
    except Undefined as undefined:
        return Estimate(None, n, reason=str(undefined))


def _percentiles(draws: list[float]) -> tuple[float | None, float | None]:
    if not draws:
        return None, None
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def _checked(probabilities: Array, labels: Array, num_axes: int) -> tuple[Array, Array]:
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    if probabilities.ndim != num_axes or labels.shape != probabilities.shape[:1]:
        raise ValueError(f"probabilities {probabilities.shape} and labels {labels.shape} don't fit together")
    num_classes = probabilities.shape[1] if num_axes == 2 else 2
    if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
        raise ValueError(f"labels must be in 0..{num_classes - 1}, got {labels.min()}..{labels.max()}")
    return probabilities, labels.astype(np.int64)
