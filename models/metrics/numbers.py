"""How far predicted numbers are from what they should have been. Shapes: n rows."""

import math

import numpy as np

from models.metrics.estimates import Array, Estimate, Undefined, of_means

NUM_RESIDUAL_BINS = 20

# Of bins between residuals beyond it, the width would not be a float.
_LARGEST = float(np.finfo(np.float64).max) / 4


def errors(predicted: Array, actual: Array, *, delta: float = 1.0, seed: int = 0) -> dict[str, Estimate]:
    """Return MSE, RMSE, MAE, R2 and Huber's loss of values (n,), in the target's unit and its square.

    `delta` is where Huber's loss (1964) turns from squared to linear, in the target's unit.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.abs(predicted - actual)
        centred = actual - (actual.mean() if len(actual) else 0.0)
        squared, spread = np.square(error), np.square(centred)
        huber = np.where(error <= delta, squared / 2, delta * (error - delta / 2))

    def one(values: Array) -> Estimate:
        return of_means(values[:, None], lambda means: means[..., 0], seed=seed)

    mse = one(squared)
    return {
        "mse": mse,
        "rmse": _root(mse),
        "mae": one(error),
        "r2": of_means(np.stack([squared, centred, spread], axis=1), _explained, seed=seed),
        "huber": one(huber),
    }


def r2(predicted: Array, actual: Array) -> float:
    """Return the share of the variance explained. Raises Undefined for constant targets, and for too large ones."""
    with np.errstate(over="ignore", invalid="ignore"):
        spread = float(np.square(actual - actual.mean()).sum())
        missed = float(np.square(predicted - actual).sum())
    if spread == 0.0:
        raise Undefined("all targets are equal")
    if not (math.isfinite(spread) and math.isfinite(missed / spread)):
        raise Undefined("it is too large for a float")
    return 1.0 - missed / spread


def residuals(predicted: Array, actual: Array) -> tuple[Array, Array]:
    """Return edges (k + 1,) and counts (k,) of actual - predicted, from the least to the largest; none without rows.

    Where they are all the same but for rounding, it is in the middle. Those beyond a quarter of the largest float count
    as that.
    """
    with np.errstate(over="ignore"):
        found = np.clip(np.asarray(actual, np.float64) - predicted, -_LARGEST, _LARGEST)
    if not len(found):
        return np.empty(0), np.empty(0, np.int64)
    low, high = float(found.min()), float(found.max())
    # Two steps of a float for each bin, so that no two edges are the same.
    narrowest = 2 * NUM_RESIDUAL_BINS * float(np.spacing(max(abs(low), abs(high))))
    if high - low < narrowest:
        low, high = low - max(0.5, narrowest), high + max(0.5, narrowest)
    counts, edges = np.histogram(found, bins=NUM_RESIDUAL_BINS, range=(low, high))
    return edges, counts


def _explained(means: Array) -> Array:
    spread = means[..., 2] - np.square(means[..., 1])
    if means.ndim == 1 and spread <= 0:
        raise Undefined("all targets are equal")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(spread > 0, 1 - means[..., 0] / spread, np.nan))


def _root(squared: Estimate) -> Estimate:
    if squared.value is None:
        return squared
    low, high = (None if bound is None else math.sqrt(max(bound, 0.0)) for bound in (squared.low, squared.high))
    return Estimate(math.sqrt(squared.value), squared.n, low, high)
