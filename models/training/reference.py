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
    contract: InputContract, labels: list[str], rows: RawRows, tensors: Tensors, answers: Answers, truth: Array
) -> bytes:
    """Return the file's bytes for n raw rows, what preprocessing made of them, the answers to them, and what they are.

    `truth` (n,) holds class indices, or values in the target's unit.
    """
    inputs = {name: histogram(values) for name, values in features(contract, rows, tensors.lengths).items()}
    content: dict[str, Any] = {"schema_version": 1, "rows": len(answers.predicted), "inputs": inputs}
    if answers.confidence is None:
        content["outputs"] = {"value": histogram(answers.predicted)}
    else:
        counts = np.bincount(answers.predicted, minlength=len(labels)).tolist()
        content["outputs"] = {"labels": dict(zip(labels, counts, strict=True))}
        edges = confidence_edges()
        content["confidence"] = histogram(answers.confidence, edges)
        bins = bins_of(answers.confidence[answers.predicted == truth], edges.tolist())
        content["right"] = np.bincount(bins, minlength=len(edges) - 1).tolist()
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
