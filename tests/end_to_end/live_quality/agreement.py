"""Whether what the service says of a model is what scikit-learn says.

Shapes: n rows, C labels.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn import metrics as reference
from sklearn.preprocessing import label_binarize

from models.metrics import Array
from tests.end_to_end.live_quality.speaker import Conversation

_NAMES = ("precision", "recall", "f1")
# Sums in another order; what is kept of each row as float32; steps of the logit (docs/api.md, "Live evaluation").
_SUMS, _KEPT, _STEPS = 1e-12, 1e-6, 1e-4
_LEAST = 1e-12


class Agreement(NamedTuple):
    """A figure as the service and as scikit-learn has it, and by how much they may differ."""

    figure: str
    service: float | None
    scikit_learn: float
    allowed: float

    @property
    def apart(self) -> float:
        """Infinity where the service has no such figure."""
        return math.inf if self.service is None else abs(self.service - self.scikit_learn)

    @property
    def holds(self) -> bool:
        return self.apart <= self.allowed

    def to_row(self) -> dict[str, Any]:
        """As a table shows it."""
        ours = "-" if self.service is None else f"{self.service:.6f}"
        return {
            "figure": self.figure,
            "service": ours,
            "scikit-learn": f"{self.scikit_learn:.6f}",
            "apart": f"{self.apart:.1e}" if self.apart else "nothing",
            "allowed": f"{self.allowed:.0e}" if self.allowed else "nothing",
            "holds": "yes" if self.holds else "NO",
        }


class Labelled(NamedTuple):
    """What the log has of the predictions that something was said of: indices (n,), probabilities (n, C)."""

    actual: Array
    predicted: Array
    probabilities: Array


def labelled_of(conversation: Conversation, kept: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Labelled:
    """Of the predictions that are kept, those that something was said of, with what is true of them."""
    by_name = {one.picture.name: one.picture for one in conversation.statements if one.by_name}
    by_id = {conversation.ids[one.picture.name]: one.picture for one in conversation.statements if not one.by_name}
    pictures = [by_id.get(one["prediction_id"]) or by_name.get(one["external_id"]) for one in kept]
    chosen = [(one, picture) for one, picture in zip(kept, pictures, strict=True) if picture is not None]
    return Labelled(
        np.array([labels.index(picture.label) for _, picture in chosen]),
        np.array([one["prediction"]["index"] for one, _ in chosen]),
        np.array([one["probabilities"] for one, _ in chosen], np.float64),
    )


def agreements(found: Mapping[str, Any], rows: Labelled, labels: Sequence[str]) -> list[Agreement]:
    """Each figure that both have; of those of each label the one that is farthest apart."""
    actual, predicted = rows.actual, rows.predicted
    # As the service counts a probability that is next to nothing; scikit-learn wants sums of 1 in float64.
    probabilities = np.maximum(rows.probabilities, _LEAST)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    classes = np.arange(len(labels))

    def of(name: str, expected: float, allowed: float) -> Agreement:
        return Agreement(name, found["metrics"][name]["value"], float(expected), allowed)

    both = [
        of("accuracy", reference.accuracy_score(actual, predicted), 0),
        of("balanced_accuracy", reference.balanced_accuracy_score(actual, predicted), _SUMS),
    ]
    for average in ("micro", "macro", "weighted"):
        scores = reference.precision_recall_fscore_support(actual, predicted, average=average, zero_division=0)
        both += [of(f"{name}_{average}", score, _SUMS) for name, score in zip(_NAMES, scores, strict=False)]
    both += [
        of("log_loss", reference.log_loss(actual, probabilities, labels=classes), _KEPT),
        of("brier", reference.brier_score_loss(actual, probabilities, labels=classes, scale_by_half=False), _KEPT),
        of("auc", reference.roc_auc_score(actual, probabilities, multi_class="ovr", labels=classes), _STEPS),
        of("pr_auc", reference.average_precision_score(label_binarize(actual, classes=classes), probabilities), _STEPS),
    ]
    of_each = reference.precision_recall_fscore_support(actual, predicted, labels=classes, zero_division=np.nan)
    for name, scores in zip(_NAMES, of_each, strict=False):
        each = [
            Agreement(f"{name} of each label", found["per_label"][label][name]["value"], score, _SUMS)
            for label, score in zip(labels, scores.tolist(), strict=True)
            if not np.isnan(score)
        ]
        both.append(max(each, key=lambda one: one.apart))
    return both


def same_matrix(found: Mapping[str, Any], rows: Labelled, labels: Sequence[str]) -> bool:
    """Whether the confusion matrix is scikit-learn's, count by count."""
    expected = reference.confusion_matrix(rows.actual, rows.predicted, labels=np.arange(len(labels)))
    return bool(found["confusion_matrix"] == {"labels": list(labels), "counts": expected.tolist()})
