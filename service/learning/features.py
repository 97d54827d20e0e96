"""The latest inputs of versions, as the numbers by which they are watched."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from models.reference import Array
from service.domain import Ref
from service.learning.references import Watched
from service.store.base import Input, KeptInput

_READ_AT_ONCE = 100
_MOST_BYTES = 64 << 20


class KeptInputs(Protocol):
    """Inputs of predictions. Raises StoreUnavailable."""

    def latest_inputs(self, ref: Ref, since: float, *, limit: int) -> Sequence[KeptInput]: ...

    def inputs(self, ids: Sequence[str]) -> Sequence[Input]: ...


@dataclass(slots=True)
class _Read:
    """Of one version: the features' names, and their values (k,) by prediction."""

    names: list[str] = field(default_factory=list)
    rows: dict[str, Array] = field(default_factory=dict)


class LatestFeatures:
    """Reads each input once, while it is among the latest `rows`, or as many more as are asked for."""

    def __init__(self, inputs: KeptInputs, rows: int) -> None:
        self._inputs = inputs
        self._rows = rows
        self._read: dict[Ref, _Read] = {}

    def of(self, ref: Ref, watched: Watched, since: float, *, limit: int) -> dict[str, Array]:
        """The values (n,) of each feature that the reference has, of the latest. Raises StoreUnavailable.

        Of inputs that came as callers give them: those that came prepared have other numbers.
        """
        wanted = _within(self._inputs.latest_inputs(ref, since, limit=max(limit, self._rows)), _MOST_BYTES)
        known = self._read.setdefault(ref, _Read())
        known.rows = {one: known.rows[one] for one in wanted if one in known.rows}
        new = [one for one in wanted if one not in known.rows]
        for start in range(0, len(new), _READ_AT_ONCE):
            read = self._inputs.inputs(new[start : start + _READ_AT_ONCE])
            raw = [one for one in read if one.form != "prepared"]
            if raw:
                found = watched.features(raw)
                known.names = list(found)
                columns = np.column_stack(list(found.values())).astype(np.float64)
                known.rows |= {one.prediction_id: row for one, row in zip(raw, columns, strict=True)}
        latest = [known.rows[one] for one in wanted[:limit] if one in known.rows]
        return dict(zip(known.names, np.stack(latest).T, strict=True)) if latest else {}

    def forget(self, but: Collection[Ref]) -> None:
        """Of all other versions."""
        for ref in self._read.keys() - set(but):
            del self._read[ref]


def _within(latest: Sequence[KeptInput], num_bytes: int) -> list[str]:
    """The newest of them that take so many bytes."""
    ends = np.cumsum([one.size for one in latest])
    return [one.prediction_id for one in latest[: int(np.searchsorted(ends, num_bytes, side="right"))]]
