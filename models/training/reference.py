"""Writes reference.json (models.reference) from the rows that were held out."""

from typing import Any

import numpy as np
import orjson

from models.inputs import InputContract
from models.preprocess import RawRows, Tensors
from models.reference import bins_of, confidence_edges, features, histogram
from models.training.evaluate import Answers

Array = np.ndarray[Any, np.dtype[Any]]


def build(
    contract: InputContract,
    labels: list[str],
    rows: RawRows,
    tensors: Tensors,
    answers: Answers,
    judged: tuple[Answers, Array],
) -> bytes:
    """Return the file's bytes for n raw rows, what preprocessing made of them, and the answers to them.

    `judged`: answers, of which confidence and how often it was right are taken, and what is true (m,), class indices or
    values in the target's unit; of the same rows, or of others that nothing was learned from.
    """
    inputs = {name: histogram(values) for name, values in features(contract, rows, tensors.lengths).items()}
    content: dict[str, Any] = {"schema_version": 1, "rows": len(answers.predicted), "inputs": inputs}
    if answers.confidence is None:
        content["outputs"] = {"value": histogram(answers.predicted)}
    else:
        counts = np.bincount(answers.predicted, minlength=len(labels)).tolist()
        content["outputs"] = {"labels": dict(zip(labels, counts, strict=True))}
        edges, (held, truth) = confidence_edges(), judged
        assert held.confidence is not None
        content["confidence"] = histogram(held.confidence, edges)
        bins = bins_of(held.confidence[held.predicted == truth], edges.tolist())
        content["right"] = np.bincount(bins, minlength=len(edges) - 1).tolist()
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
