"""What is shown of how good models are."""

import math

from prometheus_client import CollectorRegistry

from service.domain import Ref
from service.telemetry.quality import Distance, LoopTelemetry, Standing, Unlabelled
from tests.fakes import sample

FASHION = {"model": "fashion", "version": "1"}


def test_what_stands_no_more_is_no_number(registry: CollectorRegistry) -> None:
    telemetry = LoopTelemetry(registry)
    first = Standing(Ref("fashion", 1), "accuracy", 0.5, 0.25, 0.75, labelled=4, predictions=16)
    second = Standing(Ref("rent", 1), "mae", 3.0, None, None, labelled=1, predictions=0)
    telemetry.show([first, second])
    telemetry.show([first._replace(value=0.6)])
    assert (
        sample(registry, "servoloop_online_metric", {"model": "fashion", "version": "1", "metric": "accuracy"}) == 0.6
    )
    gone = sample(registry, "servoloop_online_metric", {"model": "rent", "version": "1", "metric": "mae"})
    assert math.isnan(gone)
    telemetry.show([second])
    assert sample(registry, "servoloop_online_metric", {"model": "rent", "version": "1", "metric": "mae"}) == 3.0


def test_what_is_known_without_labels_is_shown(registry: CollectorRegistry) -> None:
    telemetry = LoopTelemetry(registry)
    distances = {"inputs": Distance(0.5, drifted=True), "confidence": Distance(0.01, drifted=False)}
    telemetry.show([], [Unlabelled(Ref("fashion", 1), distances, (0.75, 0.5, 0.875))])
    for subject, psi, drifted in (("inputs", 0.5, 1.0), ("confidence", 0.01, 0.0)):
        labels = {**FASHION, "subject": subject}
        assert sample(registry, "servoloop_drift_psi", labels) == psi
        assert sample(registry, "servoloop_drifted", labels) == drifted
    accuracy = [sample(registry, f"servoloop_estimated_accuracy{bound}", FASHION) for bound in ("", "_low", "_high")]
    assert accuracy == [0.75, 0.5, 0.875]
    telemetry.show([], [Unlabelled(Ref("fashion", 1), {}, None)])
    assert math.isnan(sample(registry, "servoloop_estimated_accuracy", FASHION))
    assert math.isnan(sample(registry, "servoloop_drifted", {**FASHION, "subject": "inputs"}))


def test_label_delay_is_shown_by_quantile(registry: CollectorRegistry) -> None:
    standing = Standing(Ref("fashion", 1), "accuracy", 0.5, 0.25, 0.75, 4, 16, {"0.5": 60.0, "0.99": 3600.0})
    LoopTelemetry(registry).show([standing])
    assert sample(registry, "servoloop_label_delay_seconds", {**FASHION, "quantile": "0.99"}) == 3600.0
