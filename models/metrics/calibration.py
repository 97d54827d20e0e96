"""Whether probabilities mean what they say: reliability by bins, and what it comes to.

Guo et al. 2017, arXiv:1706.04599.
"""

from dataclasses import dataclass

import numpy as np

from models.metrics.estimates import (
    NUM_RESAMPLES,
    Array,
    Estimate,
    Undefined,
    drawn_means,
    measured,
    percentiles,
    proportion,
)

NUM_CALIBRATION_BINS = 15


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Rows whose confidence lies from `low` to `high`: the mean of it, and the share that was right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: Estimate


def calibration_error(confidence: Array, correct: Array, num_bins: int = NUM_CALIBRATION_BINS) -> float:
    """Return the expected calibration error: |mean confidence - share correct| over equal bins, weighted by rows.

    Raises Undefined without rows.
    """
    if not len(confidence):
        raise Undefined("no rows")
    surplus = np.bincount(_bins(confidence, num_bins), weights=confidence - correct, minlength=num_bins)
    return float(np.abs(surplus).sum() / len(confidence))


def calibration(confidence: Array, correct: Array, *, seed: int = 0) -> Estimate:
    """Return the expected calibration error with an interval.

    Chance differences between confidence and hits only ever add up, so that resamples lie above the value: the interval
    is the bootstrap's mirrored at it (the basic bootstrap, Davison and Hinkley 1997), and never below 0. Resamples are
    drawn from the normal limit of each bin's surplus.
    """
    n = len(confidence)
    if not n:
        return Estimate(None, 0, reason="no rows")
    bins, differences = _bins(confidence, NUM_CALIBRATION_BINS), confidence - correct
    surplus, squares = (
        np.bincount(bins, weights=weights, minlength=NUM_CALIBRATION_BINS)
        for weights in (differences, np.square(differences))
    )
    value = float(np.abs(surplus).sum() / n)
    # The bins' sums share n rows, which makes them depend on one another by no more than 1/n.
    spread = np.sqrt(np.maximum(squares - np.square(surplus) / n, 0.0))
    draws = np.random.default_rng(seed).normal(surplus, spread, (NUM_RESAMPLES, NUM_CALIBRATION_BINS))
    low, high = np.percentile(np.abs(draws).sum(axis=1) / n, [2.5, 97.5])
    return measured(value, n, max(0.0, min(value, 2 * value - float(high))), max(value, 2 * value - float(low)))


def calibration_rise(confidence: Array, correct: Array, other_confidence: Array, other_correct: Array) -> Estimate:
    """Return the other's expected calibration error minus the first's on the same rows, each (n,).

    The interval is a paired bootstrap's, mirrored as that of `calibration` is.
    """
    n = len(confidence)
    if not n:
        return Estimate(None, 0, reason="no rows")
    columns = (confidence, correct, other_confidence, other_correct)
    # What is drawn must not depend on how rows are ordered.
    order, rows = np.lexsort(columns), np.arange(n)
    surplus = np.zeros((n, 2, NUM_CALIBRATION_BINS))
    for index in (0, 1):
        stated, hit = (column[order] for column in columns[2 * index : 2 * index + 2])
        surplus[rows, index, _bins(stated, NUM_CALIBRATION_BINS)] = stated - hit

    def rise(means: Array) -> Array:
        errors = np.abs(means.reshape(-1, 2, NUM_CALIBRATION_BINS)).sum(axis=2)
        return np.asarray(errors[:, 1] - errors[:, 0])

    flat = surplus.reshape(n, -1)
    value = float(rise(flat.mean(axis=0))[0])
    low, high = percentiles(rise(drawn_means(flat)))
    if low is None or high is None:
        return measured(value, n)
    return measured(value, n, min(value, 2 * value - high), max(value, 2 * value - low))


def reliability(confidence: Array, correct: Array) -> list[ReliabilityBin]:
    """Return the bins that hold rows, in their order."""
    bins = _bins(confidence, NUM_CALIBRATION_BINS)
    counts, hits, sums = (
        np.bincount(bins, weights=weights, minlength=NUM_CALIBRATION_BINS) for weights in (None, correct, confidence)
    )
    return [
        ReliabilityBin(
            index / NUM_CALIBRATION_BINS,
            (index + 1) / NUM_CALIBRATION_BINS,
            int(counts[index]),
            float(sums[index] / counts[index]),
            proportion(int(hits[index]), int(counts[index])),
        )
        for index in np.flatnonzero(counts).tolist()
    ]


def _bins(confidence: Array, num_bins: int) -> Array:
    return np.asarray(np.minimum((confidence * num_bins).astype(np.int64), num_bins - 1))
