"""From a network's numbers to what a caller reads, by task."""

import math
from typing import Any, NamedTuple

import numpy as np

from models.manifest import Manifest
from models.preprocess.tensors import Array
from service.domain import PredictParameters
from service.errors import PredictionFailed, QuarantinedInput
from service.wire.inference import Outputs

Prediction = dict[str, Any]
Probabilities = list[list[float]]
"""Of all labels, in a list for each row; of binary tasks those of both."""


class Interpretation(NamedTuple):
    """What the network's numbers mean: a prediction for each row, and the probabilities behind it.

    `probabilities` is None for tasks that have none; a row that failed has an empty list.
    """

    predictions: list[Prediction]
    probabilities: Probabilities | None


# Of as many, one row's softmax takes plain Python less than numpy's six calls. Rows do not count here: a row's numbers
# must not depend, to the last bit, on how many others were asked for with it.
_FEW_LABELS = 32


def interpret(outputs: Outputs, manifest: Manifest, parameters: PredictParameters) -> Interpretation:
    """A prediction for each row, or, in its place, why that row has none."""
    values = outputs.values
    if not outputs.failures:
        return postprocess(values, manifest, parameters)
    good = [index for index in range(len(values)) if index not in outputs.failures]
    answered, behind = postprocess(values[good], manifest, parameters)
    places = dict(zip(good, range(len(good)), strict=True))
    predictions = [
        answered[places[index]] if index in places else {"error": _row_error(outputs, index)}
        for index in range(len(values))
    ]
    if behind is None:
        return Interpretation(predictions, None)
    return Interpretation(
        predictions, [behind[places[index]] if index in places else [] for index in range(len(values))]
    )


def _row_error(outputs: Outputs, index: int) -> dict[str, str]:
    kind = QuarantinedInput.kind if index in outputs.quarantined else PredictionFailed.kind
    return {"type": kind, "detail": outputs.failures[index]}


def postprocess(outputs: Array, manifest: Manifest, parameters: PredictParameters) -> Interpretation:
    """One prediction a row of `outputs`, (n, k) float32.

    multiclass: softmax; binary: sigmoid, and the second label from `threshold` on; `probability` is always that of the
    label that is named. multilabel: sigmoid, every label from `threshold` on. regression: value * std + mean.
    """
    match manifest.task:
        case "multiclass":
            rows = softmax(outputs)
            return Interpretation(_labelled(rows, outputs.argmax(axis=1).tolist(), manifest, parameters), rows)
        case "binary":
            positive = sigmoid(outputs[:, 0])
            rows = np.stack([1 - positive, positive], axis=1).tolist()
            chosen = (positive >= manifest.threshold).astype(int).tolist()
            return Interpretation(_labelled(rows, chosen, manifest, parameters), rows)
        case "multilabel":
            rows = sigmoid(outputs).tolist()
            return Interpretation([_multilabel(row, manifest, parameters) for row in rows], rows)
        case "regression":
            assert manifest.target is not None
            values = outputs[:, 0].astype(np.float64) * manifest.target.std + manifest.target.mean
            return Interpretation([{"value": value} for value in values.tolist()], None)
        case "embedding":
            return Interpretation([{"embedding": row} for row in outputs.tolist()], None)


def softmax(logits: Array) -> Probabilities:
    """Probabilities of (n, k) logits."""
    if logits.shape[1] <= _FEW_LABELS:
        return [_softmax(row) for row in logits.tolist()]
    # The ufuncs themselves: for few rows, the methods that stand for them take as long again.
    shifted = logits.astype(np.float64) - np.maximum.reduce(logits, axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    probabilities: Probabilities = (exponentials / np.add.reduce(exponentials, axis=1, keepdims=True)).tolist()
    return probabilities


def _softmax(row: list[float]) -> list[float]:
    greatest = max(row)
    exponentials = [math.exp(logit - greatest) for logit in row]
    total = sum(exponentials)
    return [one / total for one in exponentials]


def sigmoid(logits: Array) -> Array:
    """Probabilities of logits, float64, without overflow at either end."""
    x = logits.astype(np.float64)
    small = np.exp(-np.abs(x))
    probabilities: Array = np.where(x >= 0, 1 / (1 + small), small / (1 + small))
    return probabilities


def _labelled(
    rows: Probabilities, chosen: list[int], manifest: Manifest, parameters: PredictParameters
) -> list[Prediction]:
    labels = manifest.labels
    predictions: list[Prediction] = [
        {"label": labels[index], "index": index, "probability": row[index]}
        for row, index in zip(rows, chosen, strict=True)
    ]
    if parameters.top_k is not None:
        order = np.argsort(-np.array(rows), axis=1, kind="stable")[:, : parameters.top_k].tolist()
        for prediction, row, best in zip(predictions, rows, order, strict=True):
            prediction["top"] = [{"label": labels[i], "index": i, "probability": row[i]} for i in best]
    if parameters.return_probabilities:
        for prediction, row in zip(predictions, rows, strict=True):
            prediction["probabilities"] = dict(zip(labels, row, strict=True))
    return predictions


def _multilabel(row: list[float], manifest: Manifest, parameters: PredictParameters) -> Prediction:
    scored = list(zip(manifest.labels, row, strict=True))
    prediction: Prediction = {"labels": [_named(*item) for item in scored if item[1] >= manifest.threshold]}
    if parameters.top_k is not None:
        best = sorted(scored, key=lambda item: -item[1])[: parameters.top_k]
        prediction["top"] = [_named(*item) for item in best]
    if parameters.return_probabilities:
        prediction["probabilities"] = dict(scored)
    return prediction


def _named(label: str, probability: float) -> Prediction:
    return {"label": label, "probability": probability}
