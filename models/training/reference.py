"""reference.json: how inputs, outputs and confidence are distributed on the held-out set.

It holds `{"schema_version": 1, "rows": n, "inputs": {name: histogram}, "outputs": ..., "confidence": histogram}`.
A histogram is `{"edges": k + 1 ascending numbers, "counts": k}`; the outer bins also take what lies beyond them.
Outputs are `{"labels": {label: count}}`, or `{"value": histogram}` for a regression, which has no confidence.
"""

from typing import Any

import numpy as np
import orjson

from models.inputs import InputContract
from models.preprocess import RawRows, Tensors
from models.training.evaluate import Answers

Array = np.ndarray[Any, np.dtype[Any]]

NUM_BINS = 20


def build(contract: InputContract, labels: list[str], rows: RawRows, tensors: Tensors, answers: Answers) -> bytes:
    """Return the file's bytes for n raw rows, what preprocessing made of them, and the answers to them."""
    inputs = {name: histogram(values) for name, values in features(contract, rows, tensors).items()}
    content: dict[str, Any] = {"schema_version": 1, "rows": len(answers.predicted), "inputs": inputs}
    if answers.confidence is None:
        content["outputs"] = {"value": histogram(answers.predicted)}
    else:
        counts = np.bincount(answers.predicted, minlength=len(labels)).tolist()
        content["outputs"] = {"labels": dict(zip(labels, counts, strict=True))}
        content["confidence"] = histogram(answers.confidence, np.linspace(0.0, 1.0, NUM_BINS + 1))
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def features(contract: InputContract, rows: RawRows, tensors: Tensors) -> dict[str, Array]:
    """Return the numbers (n,) by which inputs are watched.

    Images: mean and standard deviation of the pixels, 0..255. Texts: characters and tokens. Columns: each by its
    name. Tensors: mean of the numbers, and steps where the length varies.
    """
    match contract.kind:
        case "image":
            images = np.asarray(rows).reshape(len(rows), -1)
            return {"pixel_mean": images.mean(axis=1), "pixel_std": images.std(axis=1)}
        case "text":
            assert tensors.lengths is not None  # texts become sequences
            return {"characters": np.array([len(row) for row in rows]), "tokens": tensors.lengths}
        case "columns":
            table = np.asarray(rows)
            return {name: table[:, i] for i, name in enumerate(contract.names)}
        case _:
            means = {"mean": np.array([np.mean(np.asarray(row)) for row in rows])}
            return means if not contract.variable else {**means, "steps": np.array([len(row) for row in rows])}


def histogram(values: Array, edges: Array | None = None) -> dict[str, list[float] | list[int]]:
    """Return the counts of values (n,) between `edges`; without them, between quantiles, so that bins fill evenly."""
    values = np.asarray(values, np.float64)
    if edges is None:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, NUM_BINS + 1)))
        if len(edges) == 1:  # all values are equal
            edges = np.array([edges[0] - 0.5, edges[0] + 0.5])
    bins = np.searchsorted(edges[1:-1], values, side="right")
    return {"edges": edges.tolist(), "counts": np.bincount(bins, minlength=len(edges) - 1).tolist()}
