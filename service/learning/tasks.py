"""What each task keeps of a labelled prediction, and the figures that follow from it.

Shapes: n rows, C labels.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from models import metrics
from models.metrics import Array, Classified, Estimate, ReliabilityBin
from service.learning.table import Column, Table
from service.store.base import Known
from service.store.feedback import ModelContract

UNLABELLED, LABELLED, UNKNOWN_LABEL = 0, 1, 2
"""Of a row: what its label is."""

_NAN = float("nan")
_TINY = 1e-12
# Of more labels, probabilities would take more memory than all else that is known of a row.
_MOST_SCORED_LABELS = 64


@dataclass(frozen=True, slots=True)
class Figures:
    """What follows from labelled rows; None and nothing where a task has no such thing."""

    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    confusion: Array | None = None
    per_label: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    reliability: Sequence[ReliabilityBin] = ()
    residuals: tuple[Array, Array] | None = None


class Rate(NamedTuple):
    """A figure that is the mean of `values` (n,), shares of booleans, over rows that are `counted` (n,); None is all.

    `is_error`: less of it is better.
    """

    values: Array
    counted: Array | None = None
    is_error: bool = False

    def over(self, rows: Array) -> Estimate:
        """Its estimate over some of the rows, a mask (n,)."""
        values = self.values[rows if self.counted is None else rows & self.counted]
        return metrics.proportion(int(values.sum()), len(values)) if values.dtype == bool else metrics.mean(values)


class Task(Protocol):
    """`values` gives every column of `columns`, and `state`, for rows (n,); `figures` looks at some of them.

    `rates` are figures that are means: what each row adds, and which rows count; by the first, a model is followed.
    `judged` is how probable the label was that was predicted, and whether it was right; None where there is no such
    thing.
    """

    def columns(self) -> dict[str, Column]: ...

    def values(self, known: Sequence[Known]) -> dict[str, Array]: ...

    def figures(self, table: Table, rows: Array) -> Figures: ...

    def rates(self, table: Table, rows: Array) -> dict[str, Rate]: ...

    def judged(self, table: Table, rows: Array) -> tuple[Array, Array] | None: ...


def task_of(contract: ModelContract) -> Task:
    """How a model's labels are kept."""
    match contract.task:
        case "regression":
            return Numbers()
        case "multilabel":
            return LabelSets(contract.labels)
        case "embedding":
            return Vectors()
        case task:
            return Classes(contract.labels, is_binary=task == "binary")


class Classes:
    """Multiclass and binary tasks."""

    def __init__(self, labels: Sequence[str], *, is_binary: bool) -> None:
        self._labels = labels
        self._indices = {label: index for index, label in enumerate(labels)}
        self._is_binary = is_binary
        self._is_scored = len(labels) <= _MOST_SCORED_LABELS

    def columns(self) -> dict[str, Column]:
        columns = {"predicted": Column("i4"), "actual": Column("i4")}
        columns |= {name: Column("f4", empty=_NAN) for name in ("log_loss", "brier", "confidence")}
        if self._is_scored:
            columns |= {
                "codes": Column("u2", () if self._is_binary else (len(self._labels),)),
                "is_scored": Column("?"),
            }
        return columns

    def values(self, known: Sequence[Known]) -> dict[str, Array]:
        outputs = [one.outputs or {} for one in known]
        predicted = np.array([output.get("index", -1) for output in outputs], np.int32)
        actual = np.array([self._index(one.label) for one in known], np.int32)
        state = np.where(actual < 0, UNKNOWN_LABEL, LABELLED)
        state[(predicted < 0) | np.array([one.label is None for one in known])] = UNLABELLED
        confidence = np.array([output.get("probability", _NAN) for output in outputs], np.float64)
        probabilities = self._probabilities(known, predicted, confidence)
        of_truth = probabilities[np.arange(len(known)), np.maximum(actual, 0)]
        squared = np.square(probabilities).sum(axis=1) - 2 * of_truth + 1
        values: dict[str, Array] = {
            "predicted": predicted,
            "actual": actual,
            "state": state,
            "log_loss": -np.log(np.maximum(of_truth, _TINY)),
            "brier": np.square(1 - of_truth) if self._is_binary else squared,
            "confidence": probabilities[:, 1] if self._is_binary else confidence,
        }
        if self._is_scored:
            scores = probabilities[:, 1] if self._is_binary else probabilities
            values["codes"] = metrics.codes_of(np.nan_to_num(scores, nan=0.5))
            values["is_scored"] = ~np.isnan(of_truth)
        return values

    def figures(self, table: Table, rows: Array) -> Figures:
        confidence = table["confidence"][rows].astype(np.float64)
        classified = Classified(
            table["actual"][rows],
            table["predicted"][rows],
            table["log_loss"][rows].astype(np.float64),
            table["brier"][rows].astype(np.float64),
            np.nan_to_num(confidence),
            table["codes"][rows] if self._is_scored and table["is_scored"][rows].all() else None,
            len(self._labels),
            self._is_binary,
        )
        counts = metrics.confusion_matrix(classified.labels, classified.predicted, len(self._labels))
        confusion = metrics.Confusion.of(counts)
        return Figures(
            metrics.classification(classified, confusion),
            counts,
            dict(zip(self._labels, metrics.of_each_class(confusion), strict=True)),
            metrics.reliability(classified.confidence, classified.correct),
        )

    def rates(self, table: Table, rows: Array) -> dict[str, Rate]:
        actual, predicted = table["actual"][rows], table["predicted"][rows]
        rates = {"accuracy": Rate(actual == predicted)}
        if self._is_binary:
            taken = predicted == 1
            rates["positive_rate"] = Rate(taken)
            rates["recall"] = Rate(taken, actual == 1)
            rates["false_positive_rate"] = Rate(taken, actual == 0)
        return rates

    def judged(self, table: Table, rows: Array) -> tuple[Array, Array] | None:
        confidence, predicted = table["confidence"][rows].astype(np.float64), table["predicted"][rows]
        if self._is_binary:
            confidence = np.where(predicted == 1, confidence, 1 - confidence)
        kept = ~np.isnan(confidence)
        return confidence[kept], (predicted == table["actual"][rows])[kept]

    def _index(self, label: Any) -> int:
        return self._indices.get(label, -1) if isinstance(label, str) else -1

    def _probabilities(self, known: Sequence[Known], predicted: Array, confidence: Array) -> Array:
        """Of all labels, (n, C); NaN where they were not kept."""
        probabilities = np.full((len(known), len(self._labels)), _NAN)
        if self._is_binary:
            probabilities[:, 1] = np.where(predicted == 1, confidence, 1 - confidence)
            probabilities[:, 0] = 1 - probabilities[:, 1]
            return probabilities
        for row, one in enumerate(known):
            if one.scores is not None:
                probabilities[row] = _scores(one.scores)
        return probabilities


class LabelSets:
    """Multilabel tasks: a label is a list of names, or one name."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._indices = {label: index for index, label in enumerate(labels)}
        self._is_scored = len(labels) <= _MOST_SCORED_LABELS

    def columns(self) -> dict[str, Column]:
        shape = (len(self._labels),)
        columns = {"predicted": Column("?", shape), "actual": Column("?", shape)}
        return columns | ({"probabilities": Column("f4", shape, _NAN)} if self._is_scored else {})

    def values(self, known: Sequence[Known]) -> dict[str, Array]:
        shape = len(known), len(self._labels)
        predicted, actual = np.zeros(shape, bool), np.zeros(shape, bool)
        probabilities = np.full(shape, _NAN, np.float32)
        state = np.full(len(known), UNLABELLED)
        for row, one in enumerate(known):
            outputs = one.outputs or {}
            if one.label is None or "labels" not in outputs:
                continue
            named = one.label if isinstance(one.label, list) else [one.label]
            indices = [self._indices[label] for label in named if label in self._indices]
            state[row] = LABELLED if len(indices) == len(named) else UNKNOWN_LABEL
            actual[row, indices] = True
            predicted[row, [self._indices[scored["label"]] for scored in outputs["labels"]]] = True
            if one.scores is not None and self._is_scored:
                probabilities[row] = _scores(one.scores)
        values: dict[str, Array] = {"predicted": predicted, "actual": actual, "state": state}
        return values | ({"probabilities": probabilities} if self._is_scored else {})

    def figures(self, table: Table, rows: Array) -> Figures:
        predicted, actual = table["predicted"][rows], table["actual"][rows]
        probabilities = table["probabilities"][rows].astype(np.float64) if self._is_scored else None
        if probabilities is not None and np.isnan(probabilities).any():
            probabilities = None
        per_label = {
            label: metrics.of_each_class(
                metrics.Confusion.of(metrics.confusion_matrix(actual[:, index], predicted[:, index], 2))
            )[1]
            for index, label in enumerate(self._labels)
        }
        return Figures(metrics.multilabel(predicted, actual, probabilities), per_label=per_label)

    def rates(self, table: Table, rows: Array) -> dict[str, Rate]:
        return {"accuracy": Rate((table["actual"][rows] == table["predicted"][rows]).all(axis=1))}

    def judged(self, table: Table, rows: Array) -> tuple[Array, Array] | None:
        return None


class Numbers:
    """Regressions."""

    def columns(self) -> dict[str, Column]:
        return {name: Column("f8", empty=_NAN) for name in ("predicted", "actual")}

    def values(self, known: Sequence[Known]) -> dict[str, Array]:
        predicted = np.array([_number((one.outputs or {}).get("value")) for one in known], np.float64)
        actual = np.array([_number(one.label) for one in known], np.float64)
        state = np.where(np.isnan(actual), UNKNOWN_LABEL, LABELLED)
        state[np.isnan(predicted) | np.array([one.label is None for one in known])] = UNLABELLED
        return {"predicted": predicted, "actual": actual, "state": state}

    def figures(self, table: Table, rows: Array) -> Figures:
        predicted, actual = table["predicted"][rows], table["actual"][rows]
        return Figures(metrics.regression(predicted, actual), residuals=metrics.residuals(predicted, actual))

    def rates(self, table: Table, rows: Array) -> dict[str, Rate]:
        # What is too large for a float is told as such of the figure.
        with np.errstate(over="ignore"):
            return {"mae": Rate(np.abs(table["predicted"][rows] - table["actual"][rows]), is_error=True)}

    def judged(self, table: Table, rows: Array) -> tuple[Array, Array] | None:
        return None


class Vectors:
    """Embeddings, which have ratings alone."""

    def columns(self) -> dict[str, Column]:
        return {}

    def values(self, known: Sequence[Known]) -> dict[str, Array]:
        return {"state": np.full(len(known), UNLABELLED)}

    def figures(self, table: Table, rows: Array) -> Figures:
        return Figures()

    def rates(self, table: Table, rows: Array) -> dict[str, Rate]:
        return {"rating": Rate(table["rating"][rows])}

    def judged(self, table: Table, rows: Array) -> tuple[Array, Array] | None:
        return None


def _scores(packed: str) -> Array:
    """As a record has them (service.serving.recording)."""
    return np.frombuffer(base64.b64decode(packed), "<f4")


def _number(said: Any) -> float:
    """NaN for what is none, and for one that is not a finite float."""
    if not isinstance(said, int | float) or isinstance(said, bool):
        return _NAN
    try:
        number = float(said)
    except OverflowError:
        return _NAN
    return number if math.isfinite(number) else _NAN
