"""What the loop process measures, for Prometheus."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Gauge

from service.domain import Ref


class Standing(NamedTuple):
    """How a version stands by labels: its main figure with its 95 % interval, of `labelled` ones of its `predictions`.

    `label_delay` is in seconds, by quantile.
    """

    ref: Ref
    metric: str
    value: float | None
    low: float | None
    high: float | None
    labelled: int
    predictions: int
    label_delay: Mapping[str, float] = {}


class Distance(NamedTuple):
    """How far something is from a reference, and whether that is too far."""

    psi: float
    drifted: bool


class Unlabelled(NamedTuple):
    """How a version stands without labels: `distances` by what was compared, and the accuracy by how sure it is, with
    its 95 % interval where there is one."""

    ref: Ref
    distances: Mapping[str, Distance]
    accuracy: tuple[float, float | None, float | None] | None


class LoopTelemetry:
    """What the loop process measures, of the predictions of the last day of each version."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["model", "version"]

        def gauge(name: str, what: str, *more: str) -> Gauge:
            return Gauge(name, what, [*labels, *more], registry=registry, multiprocess_mode="livemostrecent")

        self.value = gauge("servoloop_online_metric", "Accuracy, or mae of a regression, by labels.", "metric")
        self.low = gauge("servoloop_online_metric_low", "The lower bound of its 95 % interval.", "metric")
        self.high = gauge("servoloop_online_metric_high", "The upper bound of its 95 % interval.", "metric")
        self.labelled = gauge("servoloop_labelled_predictions", "Predictions with a label.")
        self.coverage = gauge("servoloop_label_coverage_ratio", "Labelled predictions of those that were made.")
        self.delay = gauge("servoloop_label_delay_seconds", "From a prediction to its label.", "quantile")
        self.psi = gauge(
            "servoloop_drift_psi",
            "Population stability index of the latest predictions: of inputs, that of the feature that is farthest.",
            "subject",
        )
        self.drifted = gauge("servoloop_drifted", "1 where it is above its threshold, else 0.", "subject")
        self.estimated = gauge("servoloop_estimated_accuracy", "Of the latest predictions, by how sure they are.")
        self.estimated_low = gauge("servoloop_estimated_accuracy_low", "The lower bound of its 95 % interval.")
        self.estimated_high = gauge("servoloop_estimated_accuracy_high", "The upper bound of its 95 % interval.")
        self._shown: set[Gauge] = set()

    def show(self, standings: Iterable[Standing], unlabelled: Iterable[Unlabelled] = ()) -> None:
        """These, and no others: what was shown of others becomes NaN, for a file of ours forgets no series."""
        before, self._shown = self._shown, set()
        for one in standings:
            self._show_standing(one)
        for one_without in unlabelled:
            self._show_unlabelled(one_without)
        for gauge in before - self._shown:
            gauge.set(math.nan)

    def _show_standing(self, one: Standing) -> None:
        ref = one.ref.model, str(one.ref.version)
        for gauge, value in ((self.value, one.value), (self.low, one.low), (self.high, one.high)):
            self._set(gauge, (*ref, one.metric), value)
        self._set(self.labelled, ref, one.labelled)
        self._set(self.coverage, ref, one.labelled / one.predictions if one.predictions else None)
        for quantile, delay in one.label_delay.items():
            self._set(self.delay, (*ref, quantile), delay)

    def _show_unlabelled(self, one: Unlabelled) -> None:
        ref = one.ref.model, str(one.ref.version)
        for subject, distance in one.distances.items():
            self._set(self.psi, (*ref, subject), distance.psi)
            self._set(self.drifted, (*ref, subject), float(distance.drifted))
        if one.accuracy is not None:
            gauges = self.estimated, self.estimated_low, self.estimated_high
            for gauge, value in zip(gauges, one.accuracy, strict=True):
                self._set(gauge, ref, value)

    def _set(self, gauge: Gauge, labels: tuple[str, ...], value: float | None) -> None:
        if value is not None:
            series = gauge.labels(*labels)
            series.set(value)
            self._shown.add(series)
