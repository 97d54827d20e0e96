"""Measures live models: follows what is known of their predictions, and answers how good they are."""

import functools
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from models.metrics import Estimate, ReliabilityBin
from service.domain import Ref
from service.errors import UnknownModel
from service.learning.instants import written
from service.learning.live import LiveModel, Report, Selection
from service.learning.questions import Question
from service.learning.slices import slices
from service.store.base import Contracts, CountFilters, Known, Position
from service.telemetry.quality import Standing

log = logging.getLogger(__name__)

_PAGE = 5_000
_MINUTE, _DAY = 60.0, 86_400.0


class Truths(Protocol):
    """What is known of predictions. Raises StoreUnavailable."""

    def changes(self, after: Position, *, limit: int) -> Sequence[Known]: ...


class Counts(Protocol):
    """How many predictions were made. Raises StoreUnavailable."""

    def count(self, filters: CountFilters) -> int: ...


class Shared(Protocol):
    """What the versions of each model share. Raises StoreUnavailable."""

    def contracts(self) -> Contracts: ...


class Evaluator:
    """Call it from one thread at a time. `keep` is how long predictions are kept, `clock` in seconds since 1970."""

    def __init__(
        self, truths: Truths, counts: Counts, shared: Shared, keep: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._truths = truths
        self._counts = counts
        self._shared = shared
        self._keep = keep
        self._clock = clock
        self._contracts: Contracts = {}
        self._models: dict[str, LiveModel] = {}
        self._position = Position()
        self._next_cleaning = clock() + keep / 100

    @property
    def models(self) -> Mapping[str, LiveModel]:
        return self._models

    def known_models(self) -> list[str]:
        """Every model that was ever seen. Raises StoreUnavailable."""
        self._contracts = self._shared.contracts()
        return sorted(self._contracts)

    def catch_up(self) -> int:
        """Take in what became known since the last time; how many rows that were. Raises StoreUnavailable."""
        count = 0
        while page := self._truths.changes(self._position, limit=_PAGE):
            by_model: dict[str, list[Known]] = defaultdict(list)
            for one in page:
                by_model[one.model].append(one)
            for name, known in by_model.items():
                try:
                    self.model(name).take(known)
                except UnknownModel:
                    # Models are told of before they answer; this one's store was never told of it.
                    log.warning("feedback on a model that nobody knows is not measured", extra={"model": name})
            self._position = page[-1].position
            count += len(page)
        if self._clock() >= self._next_cleaning:
            self._next_cleaning = self._clock() + self._keep / 100
            for model in self._models.values():
                model.forget_before(self._clock() - self._keep)
        return count

    def evaluate(self, question: Question) -> dict[str, Any]:
        """The evaluation of a model, by all that is known now. Raises UnknownModel or StoreUnavailable."""
        self.catch_up()
        model = self.model(question.model)
        now = self._clock()
        maturity = model.maturity
        question = _aligned(question, now, maturity if question.matured else None)
        selection = Selection(question.version, question.role, question.since, question.until, question.slice)
        filters = CountFilters(
            question.model, question.version, question.role, question.since, question.until, question.slice
        )
        matured_until = None if maturity is None else now - maturity
        shown = _shown(question, model, model.report(selection), self._counts.count(filters), now, matured_until)
        if question.buckets and question.since is not None:
            shown["over_time"] = _over_time(model, selection, question.since, question.until or now, question.buckets)
        if question.by:
            shown["slices"] = slices(model, selection, question.by, functools.partial(self._count_slice, filters))
        return shown

    def _count_slice(self, filters: CountFilters, name: str) -> int | None:
        # What has two tags is not counted.
        return None if filters.slice else self._counts.count(replace(filters, slice=name))

    def standings(self) -> list[Standing]:
        """How every version stands of whose predictions of the last day something is known. Raises StoreUnavailable."""
        now = self._clock()
        since = math.floor((now - _DAY) / _MINUTE) * _MINUTE
        return [
            standing
            for name, model in self._models.items()
            for version in model.versions
            if (standing := self._standing(Ref(name, version), model, since, now)).labelled
        ]

    def _standing(self, ref: Ref, model: LiveModel, since: float, now: float) -> Standing:
        selection = Selection(ref.version, since=since)
        metric, [figure] = model.over_time(selection, [since, now])
        delays = {f"{at:g}": seconds for at, seconds in model.label_delay(selection).items()}
        predictions = self._counts.count(CountFilters(ref.model, ref.version, "answered", since))
        return Standing(ref, metric, figure.value, figure.low, figure.high, figure.n, predictions, delays)

    def model(self, name: str) -> LiveModel:
        """What is known of a model. Raises UnknownModel or StoreUnavailable."""
        model = self._models.get(name)
        if model is None:
            if name not in self._contracts:
                self._contracts = self._shared.contracts()
            if name not in self._contracts:
                raise UnknownModel(name, sorted(self._contracts))
            model = self._models[name] = LiveModel(self._contracts[name])
        return model


def _aligned(question: Question, now: float, maturity: float | None) -> Question:
    """Counts are kept by the minute: a window begins with one, and ends with one where it does not end now.

    What it was to hold it holds; but what has not matured is left out, and the minute with it.
    """
    since = None if question.since is None else math.floor(question.since / _MINUTE) * _MINUTE
    until = None if question.until is None else math.ceil(question.until / _MINUTE) * _MINUTE
    if until is not None and until >= now:
        until = None
    if maturity is not None:
        matured = math.floor((now - maturity) / _MINUTE) * _MINUTE
        until = matured if until is None else min(until, matured)
    if since is not None and until is not None:
        until = max(until, since)
    return replace(question, since=since, until=until)


def _shown(
    question: Question, model: LiveModel, report: Report, predictions: int, now: float, matured_until: float | None
) -> dict[str, Any]:
    """As the API answers it."""
    figures = report.figures
    shown: dict[str, Any] = {
        "model": question.model,
        "version": None if question.version is None else str(question.version),
        "role": question.role,
        "slice": question.slice or None,
        "window": {"from": _written(question.since), "to": _written(now if question.until is None else question.until)},
        "n": report.n,
        "predictions": predictions,
        "coverage": report.n / predictions if predictions else None,
        "unknown_labels": report.unknown_labels,
        "label_delay_seconds": dict(report.label_delay),
        "matured_until": _written(matured_until),
        "metrics": {name: estimate.to_dict() for name, estimate in figures.metrics.items()},
        "rating": report.rating.to_dict(),
    }
    if figures.confusion is not None:
        shown["confusion_matrix"] = {"labels": list(model.contract.labels), "counts": figures.confusion.tolist()}
    if figures.per_label:
        shown["per_label"] = {label: _estimates(each) for label, each in figures.per_label.items()}
    if figures.reliability:
        shown["reliability"] = [_bin(one) for one in figures.reliability]
    if figures.residuals is not None:
        edges, counts = figures.residuals
        shown["residuals"] = {"edges": edges.tolist(), "counts": counts.tolist()}
    return shown


def _over_time(model: LiveModel, selection: Selection, since: float, until: float, buckets: int) -> dict[str, Any]:
    edges = np.linspace(since, until, buckets + 1).tolist()
    name, estimates = model.over_time(selection, edges)
    points = [
        {"from": written(start), "to": written(end), **estimate.to_dict()}
        for start, end, estimate in zip(edges, edges[1:], estimates, strict=False)
    ]
    return {"metric": name, "points": points}


def _estimates(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_dict() for name, estimate in estimates.items()}


def _bin(one: ReliabilityBin) -> dict[str, Any]:
    return {
        "low": one.low,
        "high": one.high,
        "n": one.n,
        "confidence": one.confidence,
        "accuracy": one.accuracy.to_dict(),
    }


def _written(seconds: float | None) -> str | None:
    return None if seconds is None else written(seconds)
