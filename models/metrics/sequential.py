"""Whether one version is better than another, by evidence that holds however often one looks.

Evidence is the natural log of an e-value: under the hypothesis it speaks against, it ever reaches log(1 / alpha) with
probability alpha at most (`models.metrics.bets` has the bets, and what they rest on). It is a function of counts or
sums of what is labelled now, so that labels may come in any order, late, or be corrected, as long as when a row is
labelled doesn't depend on who was right. Intervals are of all bounds that it doesn't reject: they hold at all looks at
once.
"""

import math
from collections.abc import Callable

from models.metrics import bets
from models.metrics.estimates import Estimate

LEAST_ROWS_OF_MEANS = 100
"""Of fewer, `mean_evidence` speaks for nothing."""

# Bounds are found so closely, outwards.
_PRECISION = 1e-7


def paired_evidence(better: int, same: int, worse: int, *, bound: float = 0.0) -> float:
    """Return the evidence against: the second's accuracy minus the first's is at most `bound`, in -1 to 1.

    Both answered the same rows: `better` are those on which the second alone was right, `worse` the first alone. Raises
    ValueError for counts below 0, and for other bounds.
    """
    _check_pairs(better, same, worse)
    _check_bound(bound)
    return float(bets.on_pairs(better, same, worse, bound)) if better + same + worse else 0.0


def separate_evidence(hits: int, n: int, other_hits: int, other_n: int, *, bound: float = 0.0) -> float:
    """Return the evidence against: the chance of a hit in a group of rows minus that in another is at most `bound`.

    Which group a row is in may depend on the rows before, not on its own label; bounds lie in -1 to 1. Raises
    ValueError for counts that don't fit, and for other bounds.
    """
    _check_group(hits, n)
    _check_group(other_hits, other_n)
    _check_bound(bound)
    return float(bets.on_groups(hits, n, other_hits, other_n, bound)) if n or other_n else 0.0


def mean_evidence(n: int, mean: float, variance: float, *, bound: float = 0.0) -> float:
    """Return the evidence against: values, such as differences of errors, have a mean of at most `bound`.

    `mean` and `variance` are those of n rows. It is asymptotic: that the mean of many rows is next to normal, and their
    variance known, holds the better the more rows there are when one begins to look (Waudby-Smith, Arbour, Sinha,
    Kennedy and Ramdas 2024, "Time-uniform central limit theory and asymptotic confidence sequences"). Fewer than
    LEAST_ROWS_OF_MEANS rows give 0 at most. Raises ValueError for what is not finite, and for a negative n or variance.
    """
    _check_sums(n, mean, variance)
    if not math.isfinite(bound):
        raise ValueError(f"bound must be finite, got {bound}")
    evidence = float(bets.on_means(n, mean, variance, bound)) if n else 0.0
    return evidence if n >= LEAST_ROWS_OF_MEANS else min(0.0, evidence)


def combined(*evidence: float) -> float:
    """Return the evidence of disjoint rows against the same hypothesis: e-values multiply."""
    return math.fsum(evidence)


def threshold(alpha: float) -> float:
    """Return the evidence that rejects a hypothesis. Raises ValueError for an alpha not between 0 and 1."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
    return -math.log(alpha)


def is_rejected(evidence: float, alpha: float) -> bool:
    """Whether there is enough evidence; a true hypothesis ever is with probability alpha at most."""
    return evidence >= threshold(alpha)


def paired_interval(better: int, same: int, worse: int, *, alpha: float = 0.05) -> Estimate:
    """Return the second's accuracy minus the first's, as `paired_evidence` counts; alpha / 2 lies beyond each side."""
    _check_pairs(better, same, worse)
    n = better + same + worse
    enough = threshold(alpha / 2)
    if not n:
        return Estimate(None, 0, reason="no rows")
    value = (better - worse) / n
    low = _bound_of(lambda bound: paired_evidence(better, same, worse, bound=bound), value, enough)
    high = -_bound_of(lambda bound: paired_evidence(worse, same, better, bound=bound), -value, enough)
    return Estimate(value, n, low, high)


def separate_interval(hits: int, n: int, other_hits: int, other_n: int, *, alpha: float = 0.05) -> Estimate:
    """Return hits / n - other_hits / other_n of different rows; its `n` is that of both groups.

    alpha / 2 lies beyond each side.
    """
    _check_group(hits, n)
    _check_group(other_hits, other_n)
    enough = threshold(alpha / 2)
    if not (n and other_n):
        return Estimate(None, n + other_n, reason="no rows in one of the groups")
    value = hits / n - other_hits / other_n
    low = _bound_of(lambda bound: separate_evidence(hits, n, other_hits, other_n, bound=bound), value, enough)
    high = -_bound_of(lambda bound: separate_evidence(other_hits, other_n, hits, n, bound=bound), -value, enough)
    return Estimate(value, n + other_n, low, high)


def mean_interval(n: int, mean: float, variance: float, *, alpha: float = 0.05) -> Estimate:
    """Return the mean with bounds as asymptotic as `mean_evidence` is, which are missing where that says nothing.

    Values that are all the same have bounds without width. alpha / 2 lies beyond each side.
    """
    _check_sums(n, mean, variance)
    enough = threshold(alpha / 2)
    if not n:
        return Estimate(None, 0, reason="no rows")
    if n < LEAST_ROWS_OF_MEANS:
        return Estimate(mean, n)
    low, high = 0.0, math.sqrt(n)
    while high - low > _PRECISION:
        distance = (low + high) / 2
        low, high = (low, distance) if bets.on_distances(n + 1, distance) >= enough else (distance, high)
    # The inverse of the distance in bets.on_means.
    half = high * math.sqrt(variance * (n + 1) / (n - high**2))
    return Estimate(mean, n, mean - half, mean + half)


def _bound_of(evidence: Callable[[float], float], value: float, enough: float) -> float:
    """The largest bound below the value that is rejected; -1 where none is. Evidence falls as the bound rises."""
    low, high = -1.0, value
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if evidence(middle) >= enough else (low, middle)
    return low


def _check_pairs(*counts: int) -> None:
    if min(counts) < 0:
        raise ValueError(f"counts must not be negative, got {', '.join(map(str, counts))}")


def _check_group(hits: int, n: int) -> None:
    if not 0 <= hits <= n:
        raise ValueError(f"hits must be in 0..{n}, got {hits}")


def _check_bound(bound: float) -> None:
    if not -1 < bound < 1:
        raise ValueError(f"bound must be between -1 and 1, got {bound}")


def _check_sums(n: int, mean: float, variance: float) -> None:
    if n < 0:
        raise ValueError(f"n must not be negative, got {n}")
    if not (math.isfinite(mean) and math.isfinite(variance) and variance >= 0):
        raise ValueError(f"mean and variance must be finite, and the variance not negative, got {mean} and {variance}")
