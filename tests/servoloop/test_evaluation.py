"""Live evaluation: what the client asks, and how it reads the answer."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

import servoloop
from servoloop import AsyncClient, Figure
from tests.servoloop.support import Service, problem

ACCURACY = {"value": 0.5, "low": 0.1, "high": 0.9, "n": 2}
UNDEFINED = {"value": None, "n": 2, "reason": "needs rows of every class"}
ANSWER: dict[str, Any] = {
    "model": "mood",
    "version": None,
    "role": "answered",
    "slice": None,
    "window": {"from": "2026-01-31T08:00:00Z", "to": "2026-01-31T09:00:00Z"},
    "n": 2,
    "predictions": 3,
    "coverage": 0.67,
    "unknown_labels": 1,
    "label_delay_seconds": {"p50": 7.0},
    "matured_until": None,
    "metrics": {"accuracy": ACCURACY, "auc": UNDEFINED},
    "rating": UNDEFINED,
    "per_label": {"a": {"recall": ACCURACY}},
    "confusion_matrix": {"labels": ["a", "b"], "counts": [[1, 0], [1, 0]]},
    "reliability": [{"low": 0.4, "high": 0.6, "n": 2, "confidence": 0.5, "accuracy": ACCURACY}],
    "added_later": True,
}


def test_figures_are_read_with_their_intervals() -> None:
    service = Service(httpx.Response(200, json=ANSWER))
    with service.client() as client:
        found = client.evaluation("mood")
    assert found.metrics == {
        "accuracy": Figure(0.5, 2, 0.1, 0.9),
        "auc": Figure(None, 2, reason="needs rows of every class"),
    }
    assert (found.n, found.predictions, found.since, found.until) == (
        2,
        3,
        "2026-01-31T08:00:00Z",
        "2026-01-31T09:00:00Z",
    )
    assert (found.labels, found.confusion_matrix) == (["a", "b"], [[1, 0], [1, 0]])
    assert found.per_label == {"a": {"recall": Figure(0.5, 2, 0.1, 0.9)}}
    assert found.residuals is None
    assert service.requests[0].url.raw_path == b"/v1/models/mood/evaluation"


def test_a_task_without_labels_has_none() -> None:
    answer = {
        name: value for name, value in ANSWER.items() if name not in ("per_label", "confusion_matrix", "reliability")
    }
    service = Service(httpx.Response(200, json={**answer, "residuals": {"edges": [0, 1], "counts": [2]}}))
    with service.client() as client:
        found = client.evaluation("rent")
    assert (found.per_label, found.labels, found.confusion_matrix, found.reliability) == (None, None, None, None)
    assert found.residuals == {"edges": [0, 1], "counts": [2]}


def test_what_is_asked_for_is_sent() -> None:
    service = Service(httpx.Response(200, json=ANSWER))
    with service.client() as client:
        client.evaluation(
            "mood",
            version=2,
            since=datetime(2026, 1, 31, 8, tzinfo=UTC),
            role="all",
            slice="país:España",
            matured=True,
            window=None,
        )
        client.evaluation("mood", window="24h", matured=False)
    first, second = service.requests
    assert dict(first.url.params) == {
        "version": "2",
        "since": "2026-01-31T08:00:00+00:00",
        "role": "all",
        "slice": "país:España",
        "matured": "true",
    }
    assert dict(second.url.params) == {"window": "24h"}


async def test_a_model_that_is_none_is_not_found() -> None:
    service = Service(problem(404, "unknown-model", detail="there is none"))
    async with AsyncClient(transport=httpx.MockTransport(service.handle)) as client:
        with pytest.raises(servoloop.NotFound, match="there is none"):
            await client.evaluation("nothing")
