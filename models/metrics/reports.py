"""Every figure of a task, from rows that were predicted and of which is known what they should have been.

Shapes: n rows, C labels. In binary tasks 1 is the positive class.
"""

from dataclasses import dataclass

import numpy as np

from models.metrics.calibration import calibration
from models.metrics.confusion import Confusion, Margins, averages, confusion_matrix, of_each_class
from models.metrics.estimates import Array, Estimate, drawn_means, mean, measured, percentiles, proportion
from models.metrics.numbers import errors
from models.metrics.ranking import areas

_TINY = 1e-12
# A covariance of three times as many columns is what intervals of more would take.
_MOST_LABELS = 100
_NOT_KEPT = "the probabilities of all labels were not kept"


@dataclass(frozen=True, slots=True)
class Classified:
    """Rows of a multiclass or a binary task.

    `labels` and `predicted` (n,) are class indices. `log_loss` and `brier` (n,) are each row's own, `confidence` (n,)
    is the probability of the class predicted, and of a binary task that of the positive one. `scores` are probabilities
    or codes of them (models.metrics.ranking): (n, C), of a binary task (n,). NaN, or no scores, where they were not
    kept.
    """

    labels: Array
    predicted: Array
    log_loss: Array
    brier: Array
    confidence: Array
    scores: Array | None
    num_classes: int
    is_binary: bool = False

    @property
    def correct(self) -> Array:
        """What `confidence` says the probability of (n,)."""
        return np.asarray(self.labels == 1 if self.is_binary else self.labels == self.predicted)


def multiclass(probabilities: Array, labels: Array, *, seed: int = 0) -> dict[str, Estimate]:
    """Return the figures of `classification`. `probabilities` is (n, C) with rows that sum to 1, `labels` (n,).

    Raises ValueError when they don't fit.
    """
    probabilities, labels = _checked(probabilities, labels, num_axes=2)
    rows = np.arange(len(labels))
    return classification(
        Classified(
            labels,
            probabilities.argmax(axis=1) if len(labels) else labels,
            -np.log(np.maximum(probabilities[rows, labels], _TINY)),
            np.square(probabilities - np.eye(probabilities.shape[1])[labels]).sum(axis=1),
            probabilities.max(axis=1, initial=0.0),
            probabilities,
            probabilities.shape[1],
        ),
        seed=seed,
    )


def binary(probabilities: Array, labels: Array, *, threshold: float = 0.5, seed: int = 0) -> dict[str, Estimate]:
    """Return the figures of `classification`; precision, recall and F1 without more words are the positive class's.

    `probabilities` is (n,): that of the positive class. Raises ValueError when they don't fit.
    """
    probabilities, labels = _checked(probabilities, labels, num_axes=1)
    of_truth = np.where(labels == 1, probabilities, 1 - probabilities)
    return classification(
        Classified(
            labels,
            (probabilities >= threshold).astype(np.int64),
            -np.log(np.maximum(of_truth, _TINY)),
            np.square(1 - of_truth),
            probabilities,
            probabilities,
            2,
            is_binary=True,
        ),
        seed=seed,
    )


def classification(rows: Classified, confusion: Confusion | None = None, *, seed: int = 0) -> dict[str, Estimate]:
    """Return accuracy, its kin by averages over classes, log loss, Brier score, calibration error, and both areas.

    `confusion` is that of these rows, where it is known already.
    """
    if confusion is None:
        confusion = Confusion.of(confusion_matrix(rows.labels, rows.predicted, rows.num_classes), seed=seed)
    n = len(rows.labels)
    positive = {}
    if rows.is_binary:
        positive = of_each_class(confusion)[1]
    return {
        "accuracy": proportion(int(np.trace(confusion.counts)), n),
        **positive,
        **averages(confusion),
        "log_loss": _mean_of_kept(rows.log_loss, seed),
        "brier": _mean_of_kept(rows.brier, seed),
        "ece": calibration(rows.confidence, rows.correct, seed=seed),
        **_areas(rows.scores, rows.labels),
    }


def multilabel(
    predicted: Array, labels: Array, probabilities: Array | None = None, *, seed: int = 0
) -> dict[str, Estimate]:
    """Return the share of rows of which all labels are right, precision, recall and F1 as micro, macro and weighted
    averages over labels, and of probabilities (n, C), log loss and Brier score as means over labels, and both areas.

    `predicted` and `labels` are (n, C) booleans. Raises ValueError when they don't fit.
    """
    predicted, labels = np.asarray(predicted, bool), np.asarray(labels, bool)
    if predicted.ndim != 2 or predicted.shape != labels.shape:
        raise ValueError(f"labels must both have shape (n, C), got {predicted.shape} and {labels.shape}")
    n = len(labels)
    return {
        "accuracy": proportion(int((predicted == labels).all(axis=1).sum()), n),
        **_averages_over_labels(predicted, labels, seed),
        **_of_probabilities(probabilities, labels, seed),
    }


def regression(predicted: Array, actual: Array, *, delta: float = 1.0, seed: int = 0) -> dict[str, Estimate]:
    """Return `models.metrics.errors` for values (n,). Raises ValueError when they don't fit."""
    predicted, actual = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
    if predicted.ndim != 1 or predicted.shape != actual.shape:
        raise ValueError(f"values must both have shape (n,), got {predicted.shape} and {actual.shape}")
    return errors(predicted, actual, delta=delta, seed=seed)


def _averages_over_labels(predicted: Array, labels: Array, seed: int) -> dict[str, Estimate]:
    n, num_labels = labels.shape
    figures = ("precision", "recall", "f1")
    names = [f"{figure}_{average}" for average in ("micro", "macro", "weighted") for figure in figures]
    if n == 0:
        return dict.fromkeys(names, Estimate(None, 0, reason="no rows"))
    hits = predicted & labels
    margins = Margins(hits.mean(axis=0), labels.mean(axis=0), predicted.mean(axis=0))
    drawn = None
    if num_labels <= _MOST_LABELS:
        means = np.maximum(drawn_means(np.concatenate([hits, labels, predicted], axis=1).astype(float), seed=seed), 0.0)
        drawn = Margins(*np.split(means, 3, axis=1))
    return {name: _average(margins, drawn, name, n) for name in names}


def _average(margins: Margins, drawn: Margins | None, name: str, n: int) -> Estimate:
    figure, _, average = name.partition("_")

    def of(one: Margins) -> Array:
        if average == "micro":
            summed = Margins(*(part.sum(axis=-1) for part in (one.hits, one.true, one.predicted)))
            return np.asarray(getattr(summed, figure))
        figures: Array = getattr(one, figure)
        return one.macro(figures) if average == "macro" else one.weighted(figures)

    value = float(of(margins))
    if np.isnan(value):
        return Estimate(None, n, reason="no label was true or predicted")
    return measured(value, n, *((None, None) if drawn is None else percentiles(of(drawn))))


def _of_probabilities(probabilities: Array | None, labels: Array, seed: int) -> dict[str, Estimate]:
    names = ("log_loss", "brier", "auc", "pr_auc")
    if probabilities is None:
        return dict.fromkeys(names, Estimate(None, len(labels), reason=_NOT_KEPT))
    of_truth = np.where(labels, probabilities, 1 - probabilities)
    return {
        "log_loss": _mean_of_kept(-np.log(np.maximum(of_truth, _TINY)).mean(axis=1), seed),
        "brier": _mean_of_kept(np.square(1 - of_truth).mean(axis=1), seed),
        **_areas(probabilities, labels),
    }


def _mean_of_kept(values: Array, seed: int) -> Estimate:
    """The mean of those that are not NaN."""
    is_missing = np.isnan(values)
    kept = values[~is_missing] if is_missing.any() else values
    if not len(kept) and len(values):
        return Estimate(None, len(values), reason=_NOT_KEPT)
    return mean(kept, seed=seed)


def _areas(scores: Array | None, labels: Array) -> dict[str, Estimate]:
    if scores is None:
        return dict.fromkeys(("auc", "pr_auc"), Estimate(None, len(labels), reason=_NOT_KEPT))
    return dict(zip(("auc", "pr_auc"), areas(scores, labels), strict=True))


def _checked(probabilities: Array, labels: Array, num_axes: int) -> tuple[Array, Array]:
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    if probabilities.ndim != num_axes or labels.shape != probabilities.shape[:1]:
        raise ValueError(f"probabilities {probabilities.shape} and labels {labels.shape} don't fit together")
    num_classes = probabilities.shape[1] if num_axes == 2 else 2
    if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
        raise ValueError(f"labels must be in 0..{num_classes - 1}, got {labels.min()}..{labels.max()}")
    return probabilities, labels.astype(np.int64)
