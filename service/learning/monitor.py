"""What is known of versions without labels: drift, and how good they are by their own word."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from models.metrics import Estimate
from models.reference import Reference
from service.domain import Ref
from service.learning import unlabelled
from service.learning.drift import Distances, DriftPolicy, compare
from service.learning.features import KeptInputs, LatestFeatures
from service.learning.instants import written
from service.learning.live import LiveModel
from service.learning.questions import DriftQuestion
from service.learning.references import References, Watched
from service.store.base import Filters, Page, Record
from service.telemetry.quality import Distance, Unlabelled

_DAY = 86_400.0


class Log(KeptInputs, Protocol):
    """Predictions that were made. Raises StoreUnavailable."""

    def list(self, filters: Filters, *, limit: int, cursor: str | None = None) -> Page: ...

    def served_since(self, model: str, time: float) -> Sequence[int]: ...


class Monitor:
    """Call it from one thread at a time. `model` gives what is known of a model by its name."""

    def __init__(
        self,
        references: References,
        log: Log,
        model: Callable[[str], LiveModel],
        policy: DriftPolicy,
        clock: Callable[[], float],
    ) -> None:
        """`clock` in seconds since 1970."""
        self._references = references
        self._log = log
        self._model = model
        self._policy = policy
        self._clock = clock
        self._features = LatestFeatures(log, policy.rows)

    def answer(self, question: DriftQuestion) -> dict[str, Any]:
        """As GET /v1/models/{model}/drift answers it. Raises UnknownModel or StoreUnavailable."""
        ref, now = Ref(question.model, question.version), self._clock()
        policy = replace(self._policy, rows=question.rows or self._policy.rows)
        model, records, watched = self._model(ref.model), self._latest(ref, policy.rows), self._references.of(ref)
        reference = watched.reference if isinstance(watched, Watched) else None
        distances = self._distances(ref, watched, records, policy)
        estimate, by = _estimate(model, ref.version, reference, records, now)
        return {
            "model": ref.model,
            "version": str(ref.version),
            "window": {"from": written(records[-1].time), "to": written(records[0].time)} if records else None,
            "n": len(records),
            "minimum_n": policy.minimum_rows,
            "reference": {"rows": 0, "reason": watched} if reference is None else {"rows": reference.rows},
            "drifted": distances.drifted,
            "inputs": {name: one.to_dict() for name, one in distances.inputs.items()},
            "predictions": distances.predictions.to_dict() if distances.predictions else None,
            "confidence": distances.confidence.to_dict() if distances.confidence else None,
            "estimated_accuracy": None
            if estimate is None
            else {
                **estimate.to_dict(),
                "calibrated_by": by.source,
                "calibration_n": by.n,
                "scored": unlabelled.scored(model, ref.version, reference, now - _DAY, now),
            },
        }

    def unlabelled(self, models: Iterable[str]) -> list[Unlabelled]:
        """How those versions of these models stand that predicted within a day.

        Raises UnknownModel or StoreUnavailable.
        """
        now = self._clock()
        seen = [Ref(name, version) for name in models for version in self._log.served_since(name, now - _DAY)]
        self._features.forget(but=seen)
        return [self._standing(ref, now) for ref in seen]

    def _standing(self, ref: Ref, now: float) -> Unlabelled:
        records, watched = self._latest(ref, self._policy.rows), self._references.of(ref)
        reference = watched.reference if isinstance(watched, Watched) else None
        estimate, _ = _estimate(self._model(ref.model), ref.version, reference, records, now)
        distances = self._distances(ref, watched, records, self._policy)
        accuracy = None
        if estimate is not None and estimate.value is not None and estimate.n >= self._policy.minimum_rows:
            accuracy = estimate.value, estimate.low, estimate.high
        return Unlabelled(ref, _told(distances), accuracy)

    def _latest(self, ref: Ref, limit: int) -> list[Record]:
        """The version's latest predictions of a day that have an answer, the newest first."""
        since = self._clock() - _DAY
        if ref.version not in self._log.served_since(ref.model, since):
            return []
        page = self._log.list(Filters(ref.model, ref.version, since=since), limit=limit)
        return [record for record in page.records if "error" not in record.outputs]

    def _distances(self, ref: Ref, watched: Watched | str, records: Sequence[Record], policy: DriftPolicy) -> Distances:
        if not isinstance(watched, Watched) or not records:
            return Distances()
        features = self._features.of(ref, watched, self._clock() - _DAY, limit=policy.rows)
        return compare(watched.reference, features, records, policy)


def _told(distances: Distances) -> dict[str, Distance]:
    """What is said to Prometheus, of what anything can be said of."""
    return {
        subject: Distance(one.psi, one.drifted)
        for subject, one in distances.farthest.items()
        if one.psi is not None and one.drifted is not None
    }


def _estimate(
    model: LiveModel, version: int, reference: Reference | None, records: Sequence[Record], now: float
) -> tuple[Estimate | None, unlabelled.Calibration]:
    """The accuracy of predictions by how sure they are; None of those that are not sure of one label."""
    by = unlabelled.calibration(model, version, reference, records[-1].time if records else now)
    sure = [record.outputs["probability"] for record in records if "probability" in record.outputs]
    return (unlabelled.of_confidence(np.array(sure), by) if sure else None), by
