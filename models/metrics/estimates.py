"""Figures with their uncertainty, and where the intervals come from.

Every figure is an `Estimate`: its value, a 95 % interval and the number of rows behind it. What is not defined on the
rows at hand is None with the reason, never NaN, and so is what is too large for a float. There are no bounds where
nothing varied, as of one row: an interval without width would claim certainty. Shapes: n rows, k columns, B resamples.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

NUM_RESAMPLES = 1000
Z95 = 1.959963984540054

# Up to so many rows the rows themselves are drawn; of more, the means' normal limit, which they are next to by then.
_MOST_DRAWN_ROWS = 2000
# A narrower interval, relative to its bounds, is rounding.
_LEAST_WIDTH = 1e-12


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval, of 95 % where nothing else was asked for.

    `value` None means undefined, and `reason` says why.
    """

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


def measured(value: float, n: int, low: float | None = None, high: float | None = None) -> Estimate:
    """Return a figure as an Estimate: undefined where it is not finite.

    It has no bounds where one is not finite, or where they are the same, which is all that resamples of rows that do
    not differ can show.
    """
    if not math.isfinite(value):
        return Estimate(None, n, reason="it is too large for a float")
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return Estimate(value, n)
    # Halved: of the largest bounds, the width itself would not be finite.
    has_width = high / 2 - low / 2 > _LEAST_WIDTH * max(abs(low), abs(high))
    return Estimate(value, n, low, high) if has_width else Estimate(value, n)


def proportion(hits: int, n: int) -> Estimate:
    """Return hits / n with Wilson's score interval (Wilson 1927)."""
    if n == 0:
        return Estimate(None, 0, reason="no rows")
    return Estimate(hits / n, n, *wilson(hits, n))


def wilson(hits: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Return the score interval of hits / n, in which z is the normal quantile of its confidence."""
    share, z2 = hits / n, z**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def quantile(confidence: float) -> float:
    """Return the normal quantile of a two-sided interval. Raises ValueError for a confidence not between 0 and 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def mean(values: Array, *, seed: int = 0) -> Estimate:
    """Return the mean of values (n,) with a bootstrap interval."""
    return of_means(values[:, None], lambda means: means[..., 0], seed=seed)


def of_means(
    values: Array, statistic: Callable[[Array], Array], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> Estimate:
    """Return a function of the columns' means of values (n, k), with its percentile bootstrap interval (Efron 1979).

    `statistic` takes means (..., k) and gives (...); it may raise Undefined on those of all rows, and gives NaN for
    resamples on which it is not defined, which are left out.
    """
    n = len(values)
    if n == 0:
        return Estimate(None, 0, reason="no rows")
    values = np.asarray(values, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        means = values.mean(axis=0)
        # Nothing can be made of sums that are not finite, even where the statistic of them would be.
        if not np.isfinite(means).all():
            return measured(math.nan, n)
        try:
            value = float(statistic(means))
        except Undefined as undefined:
            return Estimate(None, n, reason=str(undefined))
        draws = drawn_means(values, seed=seed, num_resamples=num_resamples)
        if not np.isfinite(draws).all():
            return measured(value, n)
        return measured(value, n, *percentiles(statistic(draws)))


def drawn_means(values: Array, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> Array:
    """Return the means (B, k) of resamples of values (n, k) with replacement.

    Not all of them are finite where sums of the values, or of many of them the products, are not.
    """
    rng, n = np.random.default_rng(seed), len(values)
    with np.errstate(over="ignore", invalid="ignore"):
        if n <= _MOST_DRAWN_ROWS:
            weights = rng.multinomial(n, np.full(n, 1 / n), size=num_resamples)
            means: Array = weights @ values / n
            return means
        centre, spread = values.mean(axis=0), np.atleast_2d(np.cov(values, rowvar=False, bias=True)) / n
        if not (np.isfinite(centre).all() and np.isfinite(spread).all()):
            return np.full((num_resamples, len(centre)), np.nan)
        # Not checked: of large numbers, rounding alone is more than the check lets pass.
        return rng.multivariate_normal(centre, spread, size=num_resamples, check_valid="ignore", method="eigh")


def percentiles(draws: Array) -> tuple[float | None, float | None]:
    """Return the 95 % interval of draws (B,), those left out that are NaN."""
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return None, None
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)
