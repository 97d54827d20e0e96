"""What two versions did on the same rows, as counts and sums, from which follows a difference of any confidence.

Shapes: n rows. Gains are the second's, and more of them is better. Intervals hold for one look at rows whose number was
not chosen by what they showed; `models.metrics.sequential` has those for many looks.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.metrics.estimates import Array, Estimate, measured, quantile

# Bounds of gains between -1 and 1 are found so closely.
_PRECISION = 1e-9


class Paired(Protocol):
    """Two versions on the same rows."""

    @property
    def n(self) -> int: ...

    def gain(self, confidence: float) -> Estimate:
        """What the second gains on the first, with a two-sided interval. Raises ValueError for a confidence outside 0
        to 1."""
        ...


@dataclass(frozen=True, slots=True)
class PairedHits:
    """On how many rows the second alone was right, both or neither, the first alone. The gain is of accuracy."""

    better: int
    same: int
    worse: int

    @staticmethod
    def of(first_right: Array, second_right: Array) -> "PairedHits":
        """Of booleans (n,)."""
        better, worse = int((second_right & ~first_right).sum()), int((first_right & ~second_right).sum())
        return PairedHits(better, len(first_right) - better - worse, worse)

    @property
    def n(self) -> int:
        return self.better + self.same + self.worse

    def gain(self, confidence: float) -> Estimate:
        """As `Paired`; the interval is Tango's score interval (1998, "Equivalence test and confidence interval for the
        difference in proportions for the paired-sample design")."""
        z = quantile(confidence)
        if not self.n:
            return Estimate(None, 0, reason="no rows")
        value = (self.better - self.worse) / self.n
        low = _lowest(self.better, self.worse, self.n, z)
        return Estimate(value, self.n, low, -_lowest(self.worse, self.better, self.n, z))


@dataclass(frozen=True, slots=True)
class PairedErrors:
    """Mean errors, in the target's unit. The gain is the share of the first's that the second does without.

    `standard_error` is the gain's, None where it has none.
    """

    n: int
    first_mean: float
    second_mean: float
    standard_error: float | None

    @staticmethod
    def of(first_errors: Array, second_errors: Array) -> "PairedErrors":
        """Of errors of at least 0, (n,). A mean that is too large for a float is inf."""
        n = len(first_errors)
        if not n:
            return PairedErrors(0, 0.0, 0.0, None)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            first, second = float(np.mean(first_errors)), float(np.mean(second_errors))
            # That of a ratio of means, by its linear part (Cochran 1977, "Sampling Techniques", section 6.3).
            parts = (second_errors - second / first * first_errors) / first if first else np.full(n, np.nan)
            spread = float(np.std(parts, ddof=1)) if n > 1 else math.nan
        return PairedErrors(n, first, second, spread / math.sqrt(n) if math.isfinite(spread) else None)

    def gain(self, confidence: float) -> Estimate:
        """As `Paired`; the interval is a ratio estimator's in its normal limit."""
        z = quantile(confidence)
        if not self.n:
            return Estimate(None, 0, reason="no rows")
        if not self.first_mean:
            return Estimate(None, self.n, reason="the first makes no errors")
        value = 1 - self.second_mean / self.first_mean if math.isfinite(self.first_mean) else math.nan
        if self.standard_error is None or not math.isfinite(value):
            return measured(value, self.n)
        half = z * self.standard_error
        return Estimate(value, self.n, value - half, value + half)


def paired_recalls(labels: Array, first: Array, second: Array, num_classes: int) -> list[PairedHits]:
    """Return of each class its rows, on which being right is what recall is the share of; class indices (n,)."""
    columns = labels == second, labels == first
    better, worse = ((one & ~other) for one, other in (columns, columns[::-1]))
    total, gained, lost = (
        np.bincount(labels[rows], minlength=num_classes).tolist()
        for rows in (np.ones(len(labels), bool), better, worse)
    )
    return [PairedHits(up, n - up - down, down) for n, up, down in zip(total, gained, lost, strict=True)]


def _lowest(better: int, worse: int, n: int, z: float) -> float:
    """Tango's lower bound: the difference at which the score statistic is z."""
    low, high = -1.0, (better - worse) / n
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if _score(better, worse, n, middle) > z else (low, middle)
    return low


def _score(better: int, worse: int, n: int, difference: float) -> float:
    """How many standard errors the difference of the rows lies above this one, if this one is true.

    The likeliest chance of a row that is worse is then the larger root of a quadratic equation.
    """
    linear = better + worse - (2 * n - better + worse) * difference
    product = worse * difference * (1 - difference)
    chance = (linear + math.sqrt(max(0.0, linear**2 + 8 * n * product))) / (4 * n)
    variance = n * (2 * chance + difference * (1 - difference))
    distance = better - worse - n * difference
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)
