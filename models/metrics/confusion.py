"""What follows from how often each class was taken for which: precision, recall, F1, and their averages.

Shapes: C classes, B resamples. Labels are class indices 0..C-1; rows of counts are the true classes, columns the
predicted ones.
"""

from dataclasses import dataclass

import numpy as np

from models.metrics.estimates import NUM_RESAMPLES, Array, Estimate, Undefined, measured, percentiles, proportion

# Each takes a number for each resample.
_MOST_CELLS = 20_000


@dataclass(frozen=True, slots=True)
class Margins:
    """Of each class: rows that were it and taken for it, that were it, that were taken for it; each (..., C), counts or
    shares of all rows."""

    hits: Array
    true: Array
    predicted: Array

    @staticmethod
    def of(counts: Array) -> "Margins":
        """Of counts (C, C)."""
        return Margins(np.diag(counts), counts.sum(axis=1), counts.sum(axis=0))

    @property
    def precision(self) -> Array:
        """0 for a class without predictions."""
        return _ratio(self.hits, self.predicted, otherwise=0.0)

    @property
    def recall(self) -> Array:
        """0 for a class without rows."""
        return _ratio(self.hits, self.true, otherwise=0.0)

    @property
    def f1(self) -> Array:
        """0 for a class that was neither true nor predicted."""
        return _ratio(2 * self.hits, self.true + self.predicted, otherwise=0.0)

    def macro(self, figures: Array) -> Array:
        """The mean over classes that were true or predicted at least once; NaN where there are none."""
        seen = (self.true + self.predicted) > 0
        return _ratio((figures * seen).sum(axis=-1), seen.sum(axis=-1))

    def weighted(self, figures: Array) -> Array:
        """The mean over classes, each weighted by its rows; NaN where there are none."""
        return _ratio((figures * self.true).sum(axis=-1), self.true.sum(axis=-1))

    @property
    def balanced_accuracy(self) -> Array:
        """The mean recall of classes that have rows; NaN where none has."""
        there = self.true > 0
        return _ratio((self.recall * there).sum(axis=-1), there.sum(axis=-1))


def confusion_matrix(labels: Array, predicted: Array, num_classes: int) -> Array:
    """Return counts (C, C) int64: rows are the true classes, columns the predicted ones."""
    flat = np.asarray(labels, np.int64) * num_classes + np.asarray(predicted, np.int64)
    return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)


def macro_scores(counts: Array) -> tuple[float, float, float]:
    """Return precision, recall and F1 averaged over the classes that were true or predicted at least once.

    A class without predictions has precision 0, one without true rows recall 0. Raises Undefined without rows.
    """
    margins = Margins.of(counts)
    if not margins.true.any():
        raise Undefined("no rows")
    macro = (margins.macro(figures) for figures in (margins.precision, margins.recall, margins.f1))
    precision, recall, f1 = (float(one) for one in macro)
    return precision, recall, f1


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts (C, C), their margins, and those of resamples, (B, C) each: None where there are too many cells, or no
    rows."""

    counts: Array
    margins: Margins
    drawn: Margins | None

    @staticmethod
    def of(counts: Array, *, seed: int = 0) -> "Confusion":
        """With resamples that the seed decides."""
        return Confusion(counts, Margins.of(counts), drawn_margins(counts, seed=seed))


def drawn_margins(counts: Array, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> Margins | None:
    """Return the margins, each (B, C), of resampled rows; None where there are too many cells, or no rows.

    Resampling rows with replacement is a multinomial draw of the cells; those that are empty stay so.
    """
    rows, columns = np.nonzero(counts)
    if not 0 < len(rows) <= _MOST_CELLS:
        return None
    held = counts[rows, columns]
    n, num_classes = int(held.sum()), len(counts)
    cells = np.random.default_rng(seed).multinomial(n, held / n, size=num_resamples)
    on_diagonal = rows == columns
    hits = np.zeros((num_resamples, num_classes), np.int64)
    hits[:, rows[on_diagonal]] = cells[:, on_diagonal]
    return Margins(hits, _grouped(cells, rows, num_classes), _grouped(cells, columns, num_classes))


def averages(confusion: Confusion) -> dict[str, Estimate]:
    """Return balanced accuracy, and precision, recall and F1 as micro, macro and weighted averages."""
    n = int(confusion.counts.sum())
    margins, drawn = confusion.margins, confusion.drawn

    def estimate(figure: str, average: str) -> Estimate:
        def of(one: Margins) -> Array:
            if figure == "balanced_accuracy":
                return one.balanced_accuracy
            figures: Array = getattr(one, figure)
            return one.macro(figures) if average == "macro" else one.weighted(figures)

        if n == 0:
            return Estimate(None, 0, reason="no rows")
        return measured(float(of(margins)), n, *((None, None) if drawn is None else percentiles(of(drawn))))

    accuracy = proportion(int(margins.hits.sum()), n)
    figures = ("precision", "recall", "f1")
    return {
        "balanced_accuracy": estimate("balanced_accuracy", ""),
        # Each row has one true and one predicted class, so that all three are the accuracy.
        **{f"{figure}_micro": accuracy for figure in figures},
        **{f"{figure}_{average}": estimate(figure, average) for average in ("macro", "weighted") for figure in figures},
    }


def of_each_class(confusion: Confusion) -> list[dict[str, Estimate]]:
    """Return precision, recall and F1 of each class; undefined where nothing was predicted, or true."""
    margins, drawn = confusion.margins, confusion.drawn
    return [_of_class(margins, drawn, index) for index in range(len(confusion.counts))]


def _of_class(margins: Margins, drawn: Margins | None, index: int) -> dict[str, Estimate]:
    hits, true, predicted = (int(part[index]) for part in (margins.hits, margins.true, margins.predicted))
    precision, recall = proportion(hits, predicted), proportion(hits, true)
    if not predicted:
        precision = Estimate(None, 0, reason="no row was predicted so")
    if not true:
        recall = Estimate(None, 0, reason="no row of this class")
        f1 = recall
    else:
        bounds = (None, None) if drawn is None else percentiles(drawn.f1[:, index])
        f1 = measured(float(margins.f1[index]), true, *bounds)
    return {"precision": precision, "recall": recall, "f1": f1}


def _grouped(cells: Array, classes: Array, num_classes: int) -> Array:
    """Return the sums (B, C) of cells (B, K) that belong to classes (K,)."""
    order = np.argsort(classes, kind="stable")
    present, starts = np.unique(classes[order], return_index=True)
    sums = np.zeros((len(cells), num_classes), np.int64)
    sums[:, present] = np.add.reduceat(cells[:, order], starts, axis=1)
    return sums


def _ratio(sums: Array, counts: Array, otherwise: float = np.nan) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(counts > 0, sums / counts, otherwise))
