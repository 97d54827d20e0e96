"""Whether a version's latest predictions are like those that it was measured on.

What is compared are its latest predictions, so that a change is seen after some hundreds of them, however many came
before: inputs, as far as they are kept, what was predicted, and how sure it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.metrics import Array, Drift, drift
from models.reference import Histogram, Reference, bins_of
from service.store.base import Record


@dataclass(frozen=True, slots=True)
class DriftPolicy:
    """How many of the latest predictions of a day are compared, the fewest of which something is said, and from when
    on they count as drifted (models.metrics.drift)."""

    rows: int = 1_000
    minimum_rows: int = 200
    psi: float = 0.2
    jensen_shannon: float = 0.1


@dataclass(frozen=True, slots=True)
class Compared:
    """k counts of one distribution beside the reference's; the bins are edges (k + 1,) or names (k,)."""

    drift: Drift
    bins: Mapping[str, Sequence[float] | Sequence[str]]
    reference: Sequence[int]
    counts: Sequence[int]

    def to_dict(self) -> dict[str, Any]:
        """As the API answers it."""
        return {**self.drift.to_dict(), **self.bins, "reference": list(self.reference), "counts": list(self.counts)}


@dataclass(frozen=True, slots=True)
class Distances:
    """How far predictions are from a reference: of inputs, each feature by its name."""

    inputs: Mapping[str, Compared] = field(default_factory=dict)
    predictions: Compared | None = None
    confidence: Compared | None = None

    @property
    def parts(self) -> dict[str, list[Compared]]:
        """What was compared."""
        alone = {"predictions": self.predictions, "confidence": self.confidence}
        return {"inputs": [*self.inputs.values()], **{name: [one] if one else [] for name, one in alone.items()}}

    @property
    def farthest(self) -> dict[str, Drift]:
        """Of inputs, predictions and confidence, as far as they were compared, what is farthest."""
        return {
            name: max((one.drift for one in each), key=lambda one: one.psi or 0.0)
            for name, each in self.parts.items()
            if each
        }

    @property
    def drifted(self) -> bool | None:
        """Whether anything did; None where nothing can be said."""
        said = [one.drift.drifted for each in self.parts.values() for one in each]
        return None if all(one is None for one in said) else any(said)


def compare(
    reference: Reference, features: Mapping[str, Array], records: Sequence[Record], policy: DriftPolicy
) -> Distances:
    """Compare features (n,) and answered predictions with a reference."""
    beside = _Beside(policy, comparisons=len(reference.inputs) + 2)
    inputs = {name: beside.numbers(reference.inputs[name], values) for name, values in features.items()}
    outputs = [record.outputs for record in records]
    predictions = confidence = None
    if reference.outputs.value is not None:
        predictions = beside.numbers(reference.outputs.value, _numbers(outputs, "value"))
    elif reference.outputs.labels is not None:
        predictions = beside.labels(reference.outputs.labels, [one["label"] for one in outputs if "label" in one])
    if reference.confidence is not None:
        confidence = beside.numbers(reference.confidence, _numbers(outputs, "probability"))
    return Distances(inputs, predictions, confidence)


@dataclass(frozen=True, slots=True)
class _Beside:
    policy: DriftPolicy
    comparisons: int

    def numbers(self, reference: Histogram, values: Array) -> Compared:
        counts = np.bincount(bins_of(values, reference.edges), minlength=len(reference.counts))
        return self._compared(reference.counts, counts.tolist(), {"edges": reference.edges})

    def labels(self, reference: Mapping[str, int], predicted: Sequence[str]) -> Compared:
        # A label that the reference lacks is one more.
        names = list(dict.fromkeys([*reference, *predicted]))
        counts = [predicted.count(name) for name in names]
        return self._compared([reference.get(name, 0) for name in names], counts, {"labels": names})

    def _compared(
        self, reference: Sequence[int], counts: Sequence[int], bins: Mapping[str, Sequence[float] | Sequence[str]]
    ) -> Compared:
        found = drift(
            np.array(reference),
            np.array(counts),
            minimum_n=self.policy.minimum_rows,
            psi_threshold=self.policy.psi,
            jensen_shannon_threshold=self.policy.jensen_shannon,
            comparisons=self.comparisons,
        )
        return Compared(found, bins, reference, counts)


def _numbers(outputs: Sequence[Mapping[str, Any]], name: str) -> Array:
    return np.array([one[name] for one in outputs if name in one], np.float64)
