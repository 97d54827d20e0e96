"""Figures with their uncertainty, and where the intervals come from.

Every figure is an `Estimate`: its value, a 95 % interval and the number of rows behind it. What is not defined on the
rows at hand is None with the reason, never NaN. Shapes: n rows, k columns, B resamples.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

NUM_RESAMPLES = 1000
Z95 = 1.959963984540054

# Up to so many rows the rows themselves are drawn; of more, the means' normal limit, which they are next to by then.
_MOST_DRAWN_ROWS = 2000


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
    try:
        value = float(statistic(values.mean(axis=0)))
    except Undefined as undefined:
        return Estimate(None, n, reason=str(undefined))
    low, high = percentiles(statistic(drawn_means(values, seed=seed, num_resamples=num_resamples)))
    return Estimate(value, n, low, high)


def drawn_means(values: Array, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> Array:
    """Return the means (B, k) of resamples of values (n, k) with replacement."""
    rng, n = np.random.default_rng(seed), len(values)
    if n <= _MOST_DRAWN_ROWS:
        weights = rng.multinomial(n, np.full(n, 1 / n), size=num_resamples)
        means: Array = weights @ values / n
        return means
    spread = np.atleast_2d(np.cov(values, rowvar=False, bias=True)) / n
    return rng.multivariate_normal(values.mean(axis=0), spread, size=num_resamples, method="eigh")


def percentiles(draws: Array) -> tuple[float | None, float | None]:
    """Return the 95 % interval of draws (B,), those left out that are NaN."""
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return None, None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)
