"""How far predicted numbers are from what they should have been. Shapes: n rows."""

import math

import numpy as np

from models.metrics.estimates import Array, Estimate, Undefined, of_means

NUM_RESIDUAL_BINS = 20


def errors(predicted: Array, actual: Array, *, delta: float = 1.0, seed: int = 0) -> dict[str, Estimate]:
    """Return MSE, RMSE, MAE, R2 and Huber's loss of values (n,), in the target's unit and its square.

    `delta` is where Huber's loss (1964) turns from squared to linear, in the target's unit.
    """
    error = np.abs(predicted - actual)
    centred = actual - (actual.mean() if len(actual) else 0.0)
    huber = np.where(error <= delta, np.square(error) / 2, delta * (error - delta / 2))

    def one(values: Array) -> Estimate:
        return of_means(values[:, None], lambda means: means[..., 0], seed=seed)

    squared = np.square(error)
    mse = one(squared)
    return {
        "mse": mse,
        "rmse": _root(mse),
        "mae": one(error),
        "r2": of_means(np.stack([squared, centred, np.square(centred)], axis=1), _explained, seed=seed),
        "huber": one(huber),
    }


def r2(predicted: Array, actual: Array) -> float:
    """Return the share of the variance explained. Raises Undefined for constant targets."""
    spread = float(np.square(actual - actual.mean()).sum())
    if spread == 0.0:
        raise Undefined("all targets are equal")
    return 1.0 - float(np.square(predicted - actual).sum()) / spread


def residuals(predicted: Array, actual: Array) -> tuple[Array, Array]:
    """Return edges (k + 1,) and counts (k,) of actual - predicted; none without rows."""
    found = actual - predicted
    if not len(found):
        return np.empty(0), np.empty(0, np.int64)
    counts, edges = np.histogram(found, bins=NUM_RESIDUAL_BINS)
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
