"""How good versions are on labelled rows that all of them were given, and whether one is better."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models import metrics
from models.metrics import Array, Comparison, Estimate
from service.errors import BrokenContract
from service.learning.questions import RowsQuestion

# More are read by machines, which can count them.
_MOST_TABLED_LABELS = 200


def judge(question: RowsQuestion, arrays: Sequence[Array]) -> dict[str, Any]:
    """Return {"versions": [{"version", "n", "metrics", ...}], "comparison": {..., "verdict"} of two, or None}.

    `arrays`: what n rows are, then what each version says of them. multiclass: label indices (n,), probabilities
    (n, C); binary: 0 or 1 (n,), the second label's probability (n,); multilabel: booleans (n, C), probabilities (n, C);
    regression: values (n,) both. Raises BrokenContract.
    """
    truth, *said = arrays
    if len(said) != len(question.versions) or any(len(one) != len(truth) for one in said):
        raise BrokenContract("labelled rows", expected=f"{len(truth)} of each version", got=[len(one) for one in said])
    versions = [
        {"version": version, "n": len(truth), **_figures(question, truth, one, threshold)}
        for version, one, threshold in zip(question.versions, said, question.thresholds, strict=True)
    ]
    if len(said) < 2:
        return {"versions": versions, "comparison": None}
    names = [f"version {version}" for version in question.versions]
    compared = _compared(question, truth, said)
    winner = {"first": question.versions[0], "second": question.versions[1], None: None}[compared.winner]
    told = {**compared.to_dict(), "winner": winner, "verdict": metrics.verdict(compared, names[0], names[1])}
    return {"versions": versions, "comparison": told}


def _figures(question: RowsQuestion, truth: Array, said: Array, threshold: float) -> dict[str, Any]:
    labels = question.labels
    predicted = predicted_by(question.task, said, threshold)
    match question.task:
        case "regression":
            edges, counts = metrics.residuals(said, truth)
            found = metrics.regression(said, truth)
            return {"metrics": _told(found), "residuals": {"edges": edges.tolist(), "counts": counts.tolist()}}
        case "multilabel":
            each = [
                metrics.of_each_class(
                    metrics.Confusion.of(metrics.confusion_matrix(truth[:, index], predicted[:, index], 2))
                )[1]
                for index in range(len(labels))
            ]
            return {"metrics": _told(metrics.multilabel(predicted, truth, said)), **_each_label(labels, each)}
        case "binary":
            found = metrics.binary(said, truth, threshold=threshold)
        case _:
            found = metrics.multiclass(said, truth)
    counts = metrics.confusion_matrix(truth, predicted, len(labels))
    bins = [
        {"low": one.low, "high": one.high, "n": one.n, "confidence": one.confidence, "accuracy": one.accuracy.to_dict()}
        for one in metrics.reliability(*confidence_of(question.task, truth, said))
    ]
    told = {
        "metrics": _told(found),
        **_each_label(labels, metrics.of_each_class(metrics.Confusion.of(counts))),
        "reliability": bins,
    }
    if len(labels) <= _MOST_TABLED_LABELS:
        told["confusion_matrix"] = {"labels": labels, "counts": counts.tolist()}
    return told


def _compared(question: RowsQuestion, truth: Array, said: Sequence[Array]) -> Comparison:
    first, second = (
        predicted_by(question.task, one, threshold) for one, threshold in zip(said, question.thresholds, strict=True)
    )
    match question.task:
        case "regression":
            return metrics.compare_numbers(truth, first, second)
        case "multilabel":
            return metrics.compare_label_sets(truth, first, second)
        case _:
            return metrics.compare_classified(truth, first, second, len(question.labels))


def predicted_by(task: str, said: Array, threshold: float) -> Array:
    """What a version predicted, by what it said as `judge` takes it: in the shape of what n rows are."""
    match task:
        case "regression":
            return said
        case "multilabel":
            return np.asarray(said >= threshold)
        case "binary":
            return (said >= threshold).astype(np.int64)
        case _:
            return np.asarray(said.argmax(axis=1))


def confidence_of(task: str, truth: Array, said: Array) -> tuple[Array, Array]:
    """What a version of a binary or a multiclass task said the probability of (n,), and whether that was so (n,).

    That is the label predicted, and of a binary task the second label.
    """
    if task == "binary":
        return said, np.asarray(truth == 1)
    return said.max(axis=1, initial=0.0), np.asarray(said.argmax(axis=1) == truth)


def _told(found: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: one.to_dict() for name, one in found.items()}


def _each_label(labels: Sequence[str], each: Sequence[Mapping[str, Estimate]]) -> dict[str, Any]:
    return {"per_label": {label: _told(figures) for label, figures in zip(labels, each, strict=True)}}
