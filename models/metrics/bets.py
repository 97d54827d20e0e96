"""Test martingales: what a gambler wins who bets, row by row, against a null hypothesis. Natural logs, of arrays.

Under the hypothesis no bet gains on average, whatever the rows before were, so that his capital, 1 at first, ever
reaches 1 / alpha with probability alpha at most (Ville 1939). Here he divides it once among fixed bets, in fixed
shares: what it comes to is then a function of counts alone, whatever the order of the rows, and however often it is
looked at.

Arguments are numbers or arrays that broadcast, counts as any numbers; `models.metrics.sequential` checks them.
"""

from typing import NamedTuple

import numpy as np

from models.metrics.estimates import Array

Numbers = float | Array

# Of a convex function's least value, in nats; it is reached within so many steps, but where that is at an edge.
_LEAST_GAP = 1e-9
_MOST_STEPS = 60


class Bets(NamedTuple):
    """So many fixed bets (K,), and the logs of their shares of the capital (K,)."""

    sizes: Array
    log_shares: Array


def _bets(least: float, most: float, middle: float, *, num_bets: int = 24, idle: float = 0.0) -> Bets:
    """On a log scale, Cauchy's shares about `middle`: most where rollouts are decided, and enough for far more rows or
    far clearer differences. A share may stay out of the game."""
    sizes = np.geomspace(least, most, num_bets)
    shares = 1 / (1 + np.square(np.log(sizes / middle)))
    shares *= (1 - idle) / shares.sum()
    if idle:
        sizes, shares = np.append(0.0, sizes), np.append(idle, shares)
    return Bets(sizes, np.log(shares))


# Of the most that may be bet.
_OF_PAIRS = _bets(0.002, 0.98, 0.2)
# Log odds. Of groups of very different sizes the larger decides nothing, hence what stays out.
_OF_GROUPS = _bets(0.005, 4.0, 0.15, idle=0.1)
# Shares of a standard deviation.
_OF_MEANS = _bets(0.002, 1.0, 0.1)


def on_pairs(better: Numbers, same: Numbers, worse: Numbers, bound: Numbers) -> Array:
    """Against: d, which is 1, 0 or -1 of so many rows, has a mean of at most `bound`.

    A bet of L wins L * (d - bound), and may be at most 1 / (1 + bound), where -1 takes all (Waudby-Smith and Ramdas
    2024, "Estimating means of bounded random variables by betting").
    """
    better_1, same_1, worse_1, bound_1 = (_column(one) for one in (better, same, worse, bound))
    bets = _OF_PAIRS.sizes / (1 + bound_1)
    won = better_1 * np.log1p(bets * (1 - bound_1)) + same_1 * np.log1p(-bets * bound_1)
    return _log_sum(_OF_PAIRS.log_shares + won + worse_1 * np.log1p(-_OF_PAIRS.sizes))


def on_groups(hits: Numbers, n: Numbers, other_hits: Numbers, other_n: Numbers, bound: Numbers) -> Array:
    """Against: p - q <= `bound`, of p and q that are the chances of a hit in one group of rows and in another.

    For each q, the product of what is won against a p of at most q + bound and against a q of at least this: under the
    hypothesis one of these products is a martingale at most, so that the least of them is an e-value at any time
    (Ramdas, Grünwald, Vovk and Shafer 2023, "Game-theoretic statistics and safe anytime-valid inference"). Universal
    inference with Jeffreys' mixtures, which has one alternative for all q, takes about two to three times as many rows.
    """
    hits, n, other_hits, other_n, bound = (
        np.asarray(one, np.float64) for one in np.broadcast_arrays(hits, n, other_hits, other_n, bound)
    )
    low, high = np.maximum(0.0, -bound), np.minimum(1.0, 1 - bound)
    for _ in range(_MOST_STEPS):
        q = (low + high) / 2
        of_one, slope = _on_a_chance(hits, n, q + bound)
        of_other, other_slope = _on_a_chance(other_n - other_hits, other_n, 1 - q)
        slope = slope - other_slope
        # A convex function lies above its tangents: the least value is no further below than this.
        gap = np.abs(slope) * (high - low)
        if gap.max(initial=0.0) < _LEAST_GAP:
            break
        low, high = np.where(slope < 0, q, low), np.where(slope < 0, high, q)
    return np.asarray(of_one + of_other - gap)


def on_means(n: Numbers, mean: Numbers, variance: Numbers, bound: Numbers) -> Array:
    """Against: values have a mean of at most `bound`, as if they were normal.

    One row at the bound is added, so that rows that hardly vary win no more than so many rows can.
    """
    n, mean, variance, bound = (np.asarray(one, np.float64) for one in (n, mean, variance, bound))
    gap, rows = (mean - bound) * n / (n + 1), n + 1
    spread = np.sqrt(variance * n / rows + np.square(gap) / n)
    return on_distances(rows, np.divide(gap, spread, out=np.zeros_like(gap + spread), where=spread > 0))


def on_distances(rows: Numbers, distance: Numbers) -> Array:
    """As `on_means`, of rows whose mean is so many standard deviations above the bound.

    A bet of L multiplies by exp(L * x - L^2 / 2), in which x is a row's own distance.
    """
    rows_1, distance_1 = _column(rows), _column(distance)
    won = rows_1 * (_OF_MEANS.sizes * distance_1 - np.square(_OF_MEANS.sizes) / 2)
    return _log_sum(_OF_MEANS.log_shares + won)


def _on_a_chance(hits: Array, n: Array, chance: Array) -> tuple[Array, Array]:
    """Against a chance of at most this: the log of what is won, and its slope in the chance. Convex in the chance.

    A bet is on odds that are so much higher, and multiplies by the ratio of the likelihoods: the less, the fewer hits.
    """
    hits_1, n_1, chance_1 = _column(hits), _column(n), _column(chance)
    raised = np.expm1(_OF_GROUPS.sizes)
    won = _OF_GROUPS.log_shares + hits_1 * _OF_GROUPS.sizes - n_1 * np.log1p(chance_1 * raised)
    total = _log_sum(won)
    slopes = n_1 * raised / (1 + chance_1 * raised)
    return total, -(np.exp(won - total[..., None]) * slopes).sum(axis=-1)


def _column(numbers: Numbers) -> Array:
    """(..., 1), which broadcasts with bets (K,)."""
    return np.asarray(numbers, np.float64)[..., None]


def _log_sum(logs: Array) -> Array:
    """The log of the sum of exp over the last axis."""
    most = logs.max(axis=-1)
    return np.asarray(most + np.log(np.exp(logs - most[..., None]).sum(axis=-1)))
