"""Whether rows are distributed as they were in a reference: population stability index, Jensen-Shannon divergence.

Shapes: n rows, k bins. Both take counts (k,) of the same bins, which may be those of a histogram or categories; n rows
are compared with m of the reference.
"""

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np

from models.metrics.estimates import Array, Undefined

# Jeffreys' prior: a bin that is empty on one side would make the index infinite.
_SMOOTHING = 0.5
_FALSE_ALARMS = 0.001


@dataclass(frozen=True, slots=True)
class Drift:
    """How far n rows are from the reference's; None, with the reason, where that can't be said.

    `psi` is in nats, `jensen_shannon` in bits, 0 to 1. Rows count as drifted where either is above its threshold, and
    the index above `psi_noise`, what chance gives as well.
    """

    psi: float | None
    jensen_shannon: float | None
    n: int
    reference_n: int
    psi_threshold: float
    jensen_shannon_threshold: float
    psi_noise: float | None
    drifted: bool | None
    reason: str | None = None

    def to_dict(self) -> dict[str, float | int | bool | str | None]:
        """Return the fields; `reason` only where `drifted` is None."""
        fields = asdict(self)
        if self.drifted is not None:
            del fields["reason"]
        return fields


def psi(reference_counts: Array, counts: Array) -> float:
    """Return the population stability index: the sum over bins of (share - reference's) log(share / reference's).

    Half a row is added to each bin of both. Raises ValueError when they don't fit, Undefined without rows.
    """
    reference, shares = _shares(reference_counts, counts, _SMOOTHING)
    return float(((shares - reference) * np.log(shares / reference)).sum())


def jensen_shannon(reference_counts: Array, counts: Array) -> float:
    """Return the divergence (Lin 1991) in bits: 0 for the same shares, 1 for those that have no bin in common.

    Raises ValueError when they don't fit, Undefined without rows.
    """
    reference, shares = _shares(reference_counts, counts, 0.0)
    entropy, *parts = (_bits(one) for one in ((reference + shares) / 2, reference, shares))
    return min(1.0, max(0.0, entropy - sum(parts) / 2))


def psi_noise(num_bins: int, reference_n: int, n: int, *, level: float) -> float:
    """Return the quantile at `level` of the index of rows that did not drift: (1 / n + 1 / m) of chi-squared's with
    k - 1 degrees of freedom (Yurdakul 2018).

    An approximation for bins that all hold some rows.
    """
    return (1 / n + 1 / reference_n) * _chi_squared(num_bins - 1, level)


def drift(
    reference_counts: Array,
    counts: Array,
    *,
    minimum_n: int = 200,
    psi_threshold: float = 0.2,
    jensen_shannon_threshold: float = 0.1,
    comparisons: int = 1,
) -> Drift:
    """Compare counts (k,) with a reference's.

    They drifted where either measure is above its threshold, and the index above what chance gives once in a thousand
    times; of several `comparisons`, in any of them. Bins in which the smaller of both would not have one row are taken
    together. Raises ValueError when they don't fit.
    """
    thresholds = psi_threshold, jensen_shannon_threshold
    reference_n, n = int(np.sum(reference_counts)), int(np.sum(counts))
    reference_counts, counts = _pooled(*_fitting(reference_counts, counts))
    try:
        index, divergence = psi(reference_counts, counts), jensen_shannon(reference_counts, counts)
    except Undefined as undefined:
        return Drift(None, None, n, reference_n, *thresholds, None, None, str(undefined))
    noise = psi_noise(len(counts), reference_n, n, level=1 - _FALSE_ALARMS / comparisons)
    if n < minimum_n:
        return Drift(index, divergence, n, reference_n, *thresholds, noise, None, f"fewer than {minimum_n} rows")
    drifted = index > noise and (index > psi_threshold or divergence > jensen_shannon_threshold)
    return Drift(index, divergence, n, reference_n, *thresholds, noise, drifted)


def _fitting(reference_counts: Array, counts: Array) -> tuple[Array, Array]:
    reference, counts = np.asarray(reference_counts, np.float64), np.asarray(counts, np.float64)
    if reference.ndim != 1 or reference.shape != counts.shape or not len(counts):
        raise ValueError(f"counts must both have shape (k,), got {reference.shape} and {counts.shape}")
    return reference, counts


def _pooled(reference: Array, counts: Array) -> tuple[Array, Array]:
    # Smoothing alone would tell samples of different sizes apart by many bins that are all but empty.
    of_both = reference + counts
    is_rare = of_both * min(reference.sum(), counts.sum()) < of_both.sum()
    if not is_rare.any():
        return reference, counts
    first, second = (np.append(one[~is_rare], one[is_rare].sum()) for one in (reference, counts))
    return first, second


def _shares(reference_counts: Array, counts: Array, smoothing: float) -> tuple[Array, Array]:
    reference, counts = _fitting(reference_counts, counts)
    if not reference.sum():
        raise Undefined("the reference has no rows")
    if not counts.sum():
        raise Undefined("no rows")
    smoothed, other = reference + smoothing, counts + smoothing
    return smoothed / smoothed.sum(), other / other.sum()


def _bits(shares: Array) -> float:
    """The entropy."""
    held = shares[shares > 0]
    return -float((held * np.log2(held)).sum())


def _chi_squared(degrees: int, level: float) -> float:
    """The quantile (Wilson and Hilferty 1931).

    Within 1 % from 6 degrees of freedom on up to a level of 0.999; of fewer and above, too high by up to 5 %.
    """
    if degrees == 0:
        return 0.0
    normal = NormalDist()
    if degrees == 1:
        return normal.inv_cdf((1 + level) / 2) ** 2
    if degrees == 2:
        return -2 * math.log1p(-level)
    variance = 2 / (9 * degrees)
    return degrees * max(0.0, 1 - variance + normal.inv_cdf(level) * math.sqrt(variance)) ** 3
