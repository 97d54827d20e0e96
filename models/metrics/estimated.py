"""How often predictions are right before anyone says so, from the confidence they came with (CBPE).

Confidence-based performance estimation: the mean of calibrated confidence is the accuracy to expect. It follows changes
in what is asked, not in what the right answer is (concept drift). Shapes: n rows, k knots.
"""

import math
from dataclasses import dataclass

import numpy as np

from models.metrics.estimates import Z95, Array, Estimate, Undefined, measured

_MOST_BINS = 200


@dataclass(frozen=True, slots=True)
class Calibrator:
    """How often rows of a confidence are right: a line through `confidence` (k,), ascending, and `correct` (k,)."""

    confidence: Array
    correct: Array

    @staticmethod
    def identity() -> "Calibrator":
        """The one that takes confidence at its word."""
        return Calibrator(np.array([0.0, 1.0]), np.array([0.0, 1.0]))

    @staticmethod
    def fit(confidence: Array, correct: Array, weights: Array | None = None) -> "Calibrator":
        """The rising function that is closest by squares: isotonic regression (Ayer et al. 1955).

        `correct` (n,) is 0 or 1, or the share of rows, `weights` (n,), that were right. Of more than 200 different
        confidences, neighbours are taken together in bins of equal weight. Raises ValueError when they don't fit,
        Undefined without rows.
        """
        confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
        weights = np.ones(len(confidence)) if weights is None else np.asarray(weights, np.float64)
        if confidence.ndim != 1 or not confidence.shape == correct.shape == weights.shape:
            raise ValueError(
                f"confidence, correct and weights must have shape (n,), got {confidence.shape}, {correct.shape} "
                f"and {weights.shape}"
            )
        if not (np.isfinite(confidence).all() and np.isfinite(correct).all() and (weights >= 0).all()):
            raise ValueError("confidence and correct must be finite, weights not negative")
        held = weights > 0
        if not held.any():
            raise Undefined("no rows")
        return _isotonic(confidence[held], correct[held], weights[held])

    def of(self, confidence: Array) -> Array:
        """Return how often rows of this confidence (n,) are right, 0 to 1."""
        return np.asarray(np.clip(np.interp(confidence, self.confidence, self.correct), 0.0, 1.0))


def estimated_accuracy(confidence: Array, calibrator: Calibrator, calibration_n: int | None) -> Estimate:
    """Return the accuracy that labels would show of rows with this confidence (n,), with the interval it would be in.

    Its variance is that of n rows of which each is right with its own probability (Poisson's binomial), and that of the
    `calibration_n` rows behind the calibrator by Agresti and Coull (1998), since few rows without an error do not show
    that there are none; None where it was not fitted.
    """
    n = len(confidence)
    if n == 0:
        return Estimate(None, 0, reason="no rows")
    if calibration_n is not None and calibration_n < 1:
        raise ValueError(f"calibration_n must be positive, got {calibration_n}")
    chances = calibrator.of(confidence)
    value = float(chances.mean())
    variance = float((chances * (1 - chances)).sum()) / n**2
    if calibration_n is not None:
        rows = calibration_n + Z95**2
        share = (value * calibration_n + Z95**2 / 2) / rows
        variance += share * (1 - share) / rows
    half = Z95 * math.sqrt(variance)
    return measured(value, n, max(0.0, value - half), min(1.0, value + half))


def _isotonic(confidence: Array, correct: Array, weights: Array) -> Calibrator:
    points, places = np.unique(confidence, return_inverse=True)
    mass = np.bincount(places, weights)
    hits = np.bincount(places, weights * correct)
    bins = np.arange(len(points))
    if len(points) > _MOST_BINS:
        middles = (np.cumsum(mass) - mass / 2) / mass.sum()
        bins = (middles * _MOST_BINS).astype(np.int64)
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    ends = np.append(starts[1:], len(points)) - 1
    levels: list[tuple[float, float, int]] = []  # right, of how many rows, from how many bins
    for right, rows in zip(np.add.reduceat(hits, starts), np.add.reduceat(mass, starts), strict=True):
        pooled = (float(right), float(rows), 1)
        while levels and levels[-1][0] * pooled[1] >= pooled[0] * levels[-1][1]:
            before = levels.pop()
            pooled = (before[0] + pooled[0], before[1] + pooled[1], before[2] + pooled[2])
        levels.append(pooled)
    sizes = np.array([size for _, _, size in levels])
    last = np.cumsum(sizes) - 1
    # Each level is flat from its first point to its last, so that the mean over the rows fitted is kept.
    edges = np.stack([points[starts[last - sizes + 1]], points[ends[last]]], axis=1)
    values = np.array([right / rows for right, rows, _ in levels])
    knots, firsts = np.unique(edges.ravel(), return_index=True)
    return Calibrator(knots, np.repeat(values, 2)[firsts])
