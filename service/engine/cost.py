"""What a batch will take, learned from those that were run. Pure: times are handed in.

Seconds of a batch are a + b * elements (rows, or padded steps of sequences), one line for each band of lengths: a
recurrent network's steps run one after another, so a long row costs more than its elements alone say.
"""

import math
from dataclasses import dataclass

# The memory of a line: what was seen ten batches ago counts about half.
_KEEP = 0.93
# A batch that took so many times what was expected was held up by something else.
_OUTLIER = 4.0
# Until batches of different sizes were seen, time is taken to grow with size, so that no batch is made too large; but
# to refuse work, that is trusted only by half.
_RIDGE = 0.01
_GUESSED_TRUST = 0.5
# What was learned long ago must not refuse work for ever: refusing brings no new measurement.
_HALF_LIFE_SECONDS = 30.0


@dataclass(slots=True)
class Line:
    """Exponentially weighted least squares of seconds over elements, with both coefficients at least 0.

    Weighted means and moments about them (West 1979, "Updating mean and variance estimates"), which stay accurate
    where sums of squares would cancel.
    """

    weight: float = 0.0
    mean_elements: float = 0.0
    mean_seconds: float = 0.0
    variance: float = 0.0
    covariance: float = 0.0
    learned_at: float = -math.inf
    fixed: float = 0.0
    """Seconds of a batch whatever its size."""
    slope: float = 0.0
    """Seconds an element."""
    is_guess: bool = True
    """Whether too few sizes were seen to tell the two apart."""

    def learn(self, elements: int, seconds: float, now: float) -> None:
        """Take in one executed batch."""
        if self.weight:
            expected = self.seconds(elements)
            seconds = min(seconds, _OUTLIER * expected)
            if 2 * seconds < expected:
                self._forget(0.5)  # nothing runs faster than it can: what was learned before was too slow
        self._forget(_KEEP)
        self.weight += 1.0
        away = elements - self.mean_elements
        self.mean_elements += away / self.weight
        self.mean_seconds += (seconds - self.mean_seconds) / self.weight
        self.variance += away * (elements - self.mean_elements)
        self.covariance += away * (seconds - self.mean_seconds)
        self.learned_at = now
        self._solve()

    def seconds(self, elements: int) -> float:
        """The expected seconds of a batch; 0 where nothing was learned."""
        return self.fixed + self.slope * elements

    def _solve(self) -> None:
        ratio = self.mean_seconds / self.mean_elements
        # Ridge towards no fixed part, so that batches of nearly one size don't make the slope wild.
        ridge = _RIDGE * self.weight * self.mean_elements**2
        slope = (self.covariance + ridge * ratio) / (self.variance + ridge)
        self.is_guess = self.variance < ridge
        self.slope = min(max(slope, 0.0), ratio)
        self.fixed = max(0.0, self.mean_seconds - self.slope * self.mean_elements)

    def _forget(self, share: float) -> None:
        self.weight *= share
        self.variance *= share
        self.covariance *= share


class CostModel:
    """What batches of one version take. Lengths are those of a batch's longest row, 1 for dense rows."""

    def __init__(self) -> None:
        self._lines: dict[int, Line] = {}

    def learn(self, longest: int, num_rows: int, seconds: float, now: float) -> None:
        """Take in one batch that was executed in one piece."""
        line = self._lines.setdefault(longest.bit_length(), Line())
        line.learn(longest * num_rows, seconds, now)

    def seconds(self, longest: int, num_rows: int) -> float:
        """The expected seconds of a batch; 0 before any like it, or any of shorter rows, was seen."""
        line = self._line(longest)
        return 0.0 if line is None else line.seconds(longest * num_rows)

    def row_seconds(self, length: int, num_rows: int) -> float:
        """A row's share of a batch of `num_rows` like it."""
        line = self._line(length)
        return 0.0 if line is None else line.fixed / num_rows + line.slope * length

    def overhead(self, longest: int) -> float:
        """What a batch takes however small it is, in elements that take as long; 0 while too few sizes were seen."""
        line = self._line(longest)
        if line is None or line.is_guess:
            return 0.0
        return line.fixed / line.slope if line.slope else math.inf

    def rows_within(self, seconds: float) -> int | None:
        """Dense rows whose batch stays within the seconds, at least 1; None where any number does."""
        line = self._line(1)
        if line is None or math.isinf(seconds):
            return None
        if line.slope == 0:
            return None if line.fixed <= seconds else 1
        return max(1, int((seconds - line.fixed) / line.slope))

    def trust(self, longest: int, now: float) -> float:
        """How far a prediction may be used to refuse work, 0 to 1: less for a guess, and half as much with time."""
        line = self._line(longest)
        if line is None:
            return 0.0
        fresh: float = 0.5 ** (max(0.0, now - line.learned_at) / _HALF_LIFE_SECONDS)
        return _GUESSED_TRUST * fresh if line.is_guess else fresh

    def _line(self, longest: int) -> Line | None:
        """That of this band, else of the next shorter one: too little rather than too much is expected."""
        band = longest.bit_length()
        if (line := self._lines.get(band)) is not None:
            return line
        shorter = [other for other in self._lines if other < band]
        return self._lines[max(shorter)] if shorter else None
