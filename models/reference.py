"""How inputs, outputs and confidence are distributed where a version is as good as it was found to be: reference.json.

It holds `{"schema_version": 1, "rows": n, "inputs": {name: histogram}, "outputs": ..., "confidence": histogram,
"right": k counts}`. A histogram is `{"edges": k + 1 ascending numbers, "counts": k}`; the outer bins also take what
lies beyond them. Outputs are `{"labels": {label: count}}`, or `{"value": histogram}` for a regression, which has no
confidence. `right` says how many rows of each bin of the confidence were predicted right; it may be missing.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.inputs import InputContract
from models.preprocess import RawRows

Array = np.ndarray[Any, np.dtype[Any]]

REFERENCE_FILE = "reference.json"
NUM_BINS = 20

_Count = Annotated[int, Field(ge=0, le=1 << 53)]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_MOST_BINS = 1_000
_MOST_FEATURES = 10_000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Histogram(_Strict):
    """k counts between k + 1 ascending edges."""

    edges: Annotated[list[_Number], Field(min_length=2, max_length=_MOST_BINS + 1)]
    counts: Annotated[list[_Count], Field(min_length=1, max_length=_MOST_BINS)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.edges) != len(self.counts) + 1:
            raise ValueError("there is one more edge than counts")
        if any(low >= high for low, high in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("edges must ascend")
        return self


class Outputs(_Strict):
    """Either how often each label was predicted, or the values of a regression."""

    labels: dict[str, _Count] | None = None
    value: Histogram | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.labels is None) == (self.value is None):
            raise ValueError("either labels or value")
        return self


class Reference(_Strict):
    """What a version's live predictions are compared with."""

    schema_version: Literal[1]
    rows: _Count
    inputs: Annotated[dict[str, Histogram], Field(max_length=_MOST_FEATURES)]
    outputs: Outputs
    confidence: Histogram | None = None
    right: list[_Count] | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.right is not None:
            bins = [] if self.confidence is None else self.confidence.counts
            if len(self.right) != len(bins) or any(hits > n for hits, n in zip(self.right, bins, strict=True)):
                raise ValueError("right counts rows of each bin of the confidence")
        return self


def parse_reference(data: bytes) -> Reference:
    """Read the file's bytes. Raises ValueError that says what is wrong."""
    try:
        return Reference.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{REFERENCE_FILE}: {place + ': ' if place else ''}{first['msg']}") from None


def features(contract: InputContract, rows: RawRows, lengths: Array | None) -> dict[str, Array]:
    """Return the numbers (n,) by which inputs are watched; `lengths` (n,) are those of prepared texts, in tokens.

    Images: mean and standard deviation of the pixels, 0..255. Texts: characters and tokens. Columns: each by its
    name. Tensors: mean of the numbers, and steps where the length varies.
    """
    match contract.kind:
        case "image":
            images = np.asarray(rows).reshape(len(rows), -1)
            return {"pixel_mean": images.mean(axis=1), "pixel_std": images.std(axis=1)}
        case "text":
            assert lengths is not None  # texts become sequences
            return {"characters": np.array([len(row) for row in rows]), "tokens": lengths}
        case "columns":
            table = np.asarray(rows)
            return {name: table[:, i] for i, name in enumerate(contract.names)}
        case _:
            means = {"mean": np.array([np.mean(np.asarray(row)) for row in rows])}
            return means if not contract.variable else {**means, "steps": np.array([len(row) for row in rows])}


def bins_of(values: Array, edges: Sequence[float]) -> Array:
    """Return the bin (n,) of each value (n,): the outer ones also take what lies beyond."""
    return np.asarray(np.searchsorted(np.asarray(edges)[1:-1], values, side="right"))


def histogram(values: Array, edges: Array | None = None) -> dict[str, list[float] | list[int]]:
    """Return the counts of values (n,) between `edges`; without them, between quantiles, so that bins fill evenly."""
    values = np.asarray(values, np.float64)
    if edges is None:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, NUM_BINS + 1)))
        if len(edges) == 1:  # all values are equal
            edges = np.array([edges[0] - 0.5, edges[0] + 0.5])
    counts = np.bincount(bins_of(values, edges.tolist()), minlength=len(edges) - 1)
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def confidence_edges() -> Array:
    """Return the edges between which confidence is counted."""
    return np.linspace(0.0, 1.0, NUM_BINS + 1)
