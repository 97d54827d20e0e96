"""Whether two versions differ on the same rows, and whether two groups of rows do.

Shapes: n rows, C classes or labels, K cells. Differences of versions are the second's figure minus the first's. Tests
and intervals hold for one look at rows whose number was not chosen by what they showed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from models.metrics.confusion import Margins
from models.metrics.estimates import (
    NUM_RESAMPLES,
    Z95,
    Array,
    Estimate,
    drawn_means,
    measured,
    percentiles,
    quantile,
    wilson,
)

# A thousand draws of so many take a second or two.
_MOST_CELLS = 20_000
_SIGNIFICANT = 0.05
_FEW_APART = 10
_FEW_OF_GROUP = 30
# A true difference of so many standard errors is found four times in five.
_FOUND_ERRORS = Z95 + NormalDist().inv_cdf(0.8)

_NAMES = {"accuracy": "accuracy", "f1_macro": "macro F1", "mae": "mean absolute error", "mse": "mean squared error"}
_ERRORS = frozenset({"mae", "mse"})


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two versions on the same rows. Of numbers, right is the one that was nearer.

    `p_value` is McNemar's, of numbers that of the sign test, which is the same. `differences` are the second's figures
    minus the first's: accuracy and f1_macro, or mae and mse. There is a `winner` where p is below 0.05 and the interval
    of the accuracy's or the mae's difference lies on the same side of 0.
    """

    rows: int
    only_first_right: int
    only_second_right: int
    p_value: float
    differences: Mapping[str, Estimate]
    winner: Literal["first", "second"] | None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, each difference as `Estimate.to_dict` gives it."""
        return {
            "rows": self.rows,
            "only_first_right": self.only_first_right,
            "only_second_right": self.only_second_right,
            "p_value": self.p_value,
            "differences": {name: one.to_dict() for name, one in self.differences.items()},
            "winner": self.winner,
        }


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the exact two-sided p-value of rows that only one of two got right (McNemar 1947).

    Twice the smaller tail of a binomial of 1/2, at most 1; 1 without such rows, 0 where it is below the least float.
    """
    n, fewer = first_only + second_only, min(first_only, second_only)
    if fewer < 0:
        raise ValueError(f"counts must not be negative, got {first_only} and {second_only}")
    # Relative to the tail's largest term: of many rows the powers of 1/2 would underflow.
    total = term = 1.0
    for hits in range(fewer, 0, -1):
        term *= hits / (n - hits + 1)
        if term < 1e-17 * total:
            break
        total += term
    largest = math.lgamma(n + 1) - math.lgamma(fewer + 1) - math.lgamma(n - fewer + 1) - n * math.log(2)
    return min(1.0, 2 * total * math.exp(largest))


def paired_difference(first: Array, second: Array, *, seed: int = 0) -> Estimate:
    """Return the mean of second - first over the same rows, each (n,), with a paired bootstrap interval.

    Raises ValueError when they don't fit.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"values must both have shape (n,), got {first.shape} and {second.shape}")
    n = len(first)
    if n == 0:
        return Estimate(None, 0, reason="no rows")
    with np.errstate(over="ignore", invalid="ignore"):
        differences = second - first
        value = float(differences.mean())
        if n == 1 or not math.isfinite(value):
            return measured(value, n)
        return _difference(value, n, *percentiles(drawn_means(differences[:, None], seed=seed)[:, 0]))


def paired_macro_f1_difference(
    labels: Array, first: Array, second: Array, num_classes: int, *, seed: int = 0
) -> Estimate:
    """Return the second's macro F1 minus the first's; class indices (n,), with a paired bootstrap interval.

    Resampling rows is a multinomial draw of the cells (label, first, second) that hold rows; there are no bounds where
    those are too many. Raises ValueError when they don't fit.
    """
    labels, first, second = _class_indices(num_classes, labels, first, second)
    n = len(labels)
    if n == 0:
        return Estimate(None, 0, reason="no rows")
    codes, held = np.unique((labels * num_classes + first) * num_classes + second, return_counts=True)
    pairs, second_K = np.divmod(codes, num_classes)
    labels_K, first_K = np.divmod(pairs, num_classes)

    def difference(cells: Array) -> float:
        true = np.bincount(labels_K, cells, num_classes)

        def macro_f1(predicted: Array) -> float:
            hits = np.bincount(labels_K, cells * (predicted == labels_K), num_classes)
            margins = Margins(hits, true, np.bincount(predicted, cells, num_classes))
            return float(margins.macro(margins.f1))

        return macro_f1(second_K) - macro_f1(first_K)

    value = difference(held)
    if len(held) > _MOST_CELLS:
        return Estimate(value, n)
    rng = np.random.default_rng(seed)
    draws = np.array([difference(rng.multinomial(n, held / n)) for _ in range(NUM_RESAMPLES)])
    return measured(value, n) if n == 1 else _difference(value, n, *percentiles(draws))


def difference_of_proportions(
    hits: int, n: int, other_hits: int, other_n: int, *, confidence: float = 0.95
) -> Estimate:
    """Return hits / n - other_hits / other_n of different rows; its `n` is that of both groups.

    The interval is Newcombe's hybrid of score intervals (1998, method 10).
    """
    if n == 0 or other_n == 0:
        return Estimate(None, n + other_n, reason="no rows in one of the groups")
    z = quantile(confidence)
    share, (low, high) = hits / n, wilson(hits, n, z)
    other, (other_low, other_high) = other_hits / other_n, wilson(other_hits, other_n, z)
    value = share - other
    below, above = math.hypot(share - low, other_high - other), math.hypot(high - share, other - other_low)
    return Estimate(value, n + other_n, value - below, value + above)


def difference_of_means(values: Array, other_values: Array, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Return the mean of values (n,) minus that of others (m,), of different rows; its `n` is that of both groups.

    The interval is Welch's (1938) in its normal limit; where a group has fewer than 30 rows, a bootstrap of both. There
    are no bounds where a group has one row, which says nothing of its spread.
    """
    groups = [np.asarray(group, np.float64) for group in (values, other_values)]
    sizes = [len(group) for group in groups]
    if min(sizes) == 0:
        return Estimate(None, sum(sizes), reason="no rows in one of the groups")
    with np.errstate(over="ignore", invalid="ignore"):
        z, value = quantile(confidence), float(groups[0].mean() - groups[1].mean())
        if min(sizes) == 1 or not math.isfinite(value):
            return measured(value, sum(sizes))
        if min(sizes) >= _FEW_OF_GROUP:
            half = z * math.sqrt(sum(float(group.var(ddof=1)) / len(group) for group in groups))
            low, high = value - half, value + half
        else:
            drawn, others = (drawn_means(group[:, None], seed=seed + index) for index, group in enumerate(groups))
            tail = 50 * (1 - confidence)
            low, high = (float(one) for one in np.percentile(drawn - others, [tail, 100 - tail]))
    return _difference(value, sum(sizes), low, high)


def compare_classified(labels: Array, first: Array, second: Array, num_classes: int, *, seed: int = 0) -> Comparison:
    """Compare class indices (n,) with what they should have been. Raises ValueError when they don't fit."""
    labels, first, second = _class_indices(num_classes, labels, first, second)
    first_right, second_right = first == labels, second == labels
    differences = {
        "accuracy": paired_difference(first_right, second_right, seed=seed),
        "f1_macro": paired_macro_f1_difference(labels, first, second, num_classes, seed=seed),
    }
    return _compared(first_right & ~second_right, second_right & ~first_right, differences)


def compare_label_sets(actual: Array, first: Array, second: Array, *, seed: int = 0) -> Comparison:
    """Compare booleans (n, C) with what they should have been: a row is right where all of its labels are.

    Raises ValueError when they don't fit.
    """
    actual, first, second = (np.asarray(one, bool) for one in (actual, first, second))
    if actual.ndim != 2 or not actual.shape == first.shape == second.shape:
        raise ValueError(f"labels must all have shape (n, C), got {actual.shape}, {first.shape} and {second.shape}")
    first_right, second_right = ((one == actual).all(axis=1) for one in (first, second))
    differences = {"accuracy": paired_difference(first_right, second_right, seed=seed)}
    return _compared(first_right & ~second_right, second_right & ~first_right, differences)


def compare_numbers(actual: Array, first: Array, second: Array, *, seed: int = 0) -> Comparison:
    """Compare numbers (n,) with what they should have been; which was nearer is counted, ties are not.

    Raises ValueError when they don't fit.
    """
    actual, first, second = (np.asarray(one, np.float64) for one in (actual, first, second))
    if actual.ndim != 1 or not actual.shape == first.shape == second.shape:
        raise ValueError(f"values must all have shape (n,), got {actual.shape}, {first.shape} and {second.shape}")
    with np.errstate(over="ignore"):
        first_error, second_error = np.abs(first - actual), np.abs(second - actual)
        first_square, second_square = np.square(first_error), np.square(second_error)
    differences = {
        "mae": paired_difference(first_error, second_error, seed=seed),
        "mse": paired_difference(first_square, second_square, seed=seed),
    }
    return _compared(first_error < second_error, second_error < first_error, differences)


def verdict(comparison: Comparison, first_name: str, second_name: str) -> str:
    """Return in a few sentences which is better, by what evidence, or what it would take to tell.

    Names are such as "version 1", which also begins a sentence.
    """
    rows, p_value, differences = comparison.rows, comparison.p_value, comparison.differences
    if rows == 0:
        return "There are no labelled rows to compare on."
    counts = (comparison.only_second_right, comparison.only_first_right)
    names = (second_name, first_name)
    if comparison.winner == "first":
        counts, names = (counts[1], counts[0]), (names[1], names[0])
        differences = {name: _negated(one) for name, one in differences.items()}
    main, *others = differences
    evidence = _evidence(main, differences[main], counts, names[1], p_value)
    apart = sum(counts)
    if comparison.winner is not None:
        sentences = [f"{_capitalised(names[0])} is better than {names[1]}: it {evidence}."]
        sentences += [
            f"But its {_NAMES[name]} differs by {_with_interval(name, differences[name])}."
            for name in others
            if _sign(_gain(name, differences[name])) < 0
        ]
        if apart < _FEW_APART:
            sentences.append(f"Only {apart} rows tell them apart: more labelled rows are needed to say by how much.")
        return " ".join(sentences)
    is_close = p_value >= _SIGNIFICANT and not _sign(differences[main])
    heading = "No difference is shown" if is_close else "Neither is shown to be better"
    sentences = [f"{heading}: {names[0]} {evidence}."]
    if apart < _FEW_APART:
        sentences.append(
            f"Only {_rows(apart)} of {rows} tell{'s' * (apart == 1)} them apart: more labelled rows are needed."
        )
    elif is_close and differences[main].low is not None:
        found = _found(main, differences[main])
        sentences.append(f"With so many rows, a difference of less than about {found} would often not be seen.")
    return " ".join(sentences)


def _compared(only_first: Array, only_second: Array, differences: Mapping[str, Estimate]) -> Comparison:
    """Of the rows (n,) that only one got right; the first of the differences decides."""
    first, second = int(only_first.sum()), int(only_second.sum())
    p_value, main = mcnemar(first, second), next(iter(differences))
    side = _sign(_gain(main, differences[main])) if p_value < _SIGNIFICANT else 0
    winner: Literal["first", "second"] | None = None
    if side > 0 and second > first:
        winner = "second"
    elif side < 0 and first > second:
        winner = "first"
    return Comparison(len(only_first), first, second, p_value, differences, winner)


def _difference(value: float, n: int, low: float | None, high: float | None) -> Estimate:
    """As `measured`, but of several rows also with an interval that has no width: what is the same on all of them shows
    which is better."""
    found = measured(value, n, low, high)
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return found
    return replace(found, low=low, high=high)


def _class_indices(num_classes: int, *rows: Array) -> tuple[Array, ...]:
    """Return them as int64 (n,)."""
    checked = tuple(np.asarray(one) for one in rows)
    if any(one.ndim != 1 or one.shape != checked[0].shape for one in checked):
        raise ValueError(f"classes must all have shape (n,), got {', '.join(str(one.shape) for one in checked)}")
    for one in checked:
        if len(one) and not (one.min() >= 0 and one.max() < num_classes):
            raise ValueError(f"classes must be in 0..{num_classes - 1}, got {one.min()}..{one.max()}")
    return tuple(one.astype(np.int64) for one in checked)


def _negated(one: Estimate) -> Estimate:
    value, low, high = (None if number is None else -number for number in (one.value, one.high, one.low))
    return replace(one, value=value, low=low, high=high)


def _gain(name: str, difference: Estimate) -> Estimate:
    """A difference in the sense in which more is better."""
    return _negated(difference) if name in _ERRORS else difference


def _sign(one: Estimate) -> int:
    """The side of 0 on which the whole interval lies, 0 where it holds 0 or there is none."""
    if one.low is None or one.high is None:
        return 0
    return int(one.low > 0) - int(one.high < 0)


def _evidence(main: str, difference: Estimate, counts: tuple[int, int], other: str, p_value: float) -> str:
    """What follows a name; `counts` are the rows that it alone got right, and those that the other alone did."""
    p_text = "p < 0.0001" if p_value < 0.0001 else f"p = {p_value:.2g}"
    if main in _ERRORS:
        shown = f"was nearer on {_rows(counts[0])}, {other} on {counts[1]} (exact sign test {p_text})"
    else:
        shown = (
            f"was right on {_rows(counts[0])} where {other} was wrong, "
            f"and wrong on {counts[1]} where {other} was right (exact McNemar {p_text})"
        )
    return f"{shown}; its {_NAMES[main]} differs by {_with_interval(main, difference)}"


def _with_interval(name: str, one: Estimate) -> str:
    if one.value is None:
        return "what is too large for a float"
    scale, unit, decimals = _format(name, one)
    value, low, high = (f"{scale * (number or 0.0):+z.{decimals}f}" for number in (one.value, one.low, one.high))
    return f"{value}{unit}" if one.low is None else f"{value}{unit} (95 %: {low} to {high})"


def _found(name: str, one: Estimate) -> str:
    """The difference that as many rows would show four times in five."""
    scale, unit, decimals = _format(name, one)
    error = ((one.high or 0.0) - (one.low or 0.0)) / (2 * Z95)
    return f"{scale * _FOUND_ERRORS * error:.{decimals}f}{unit}"


def _format(name: str, one: Estimate) -> tuple[float, str, int]:
    """The factor, the unit and the decimals: two digits of the interval's width."""
    scale, unit, fewest = (1.0, "", 0) if name in _ERRORS else (100.0, " points", 1)
    width = scale * ((one.high or 0.0) - (one.low or 0.0) or abs(one.value or 0.0))
    return scale, unit, max(fewest, 1 - math.floor(math.log10(width or 1.0)) if math.isfinite(width) else 0)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _capitalised(name: str) -> str:
    return name[:1].upper() + name[1:]
