"""Live evaluation and drift: what the client asks, and how it reads the answer."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

import servoloop
from servoloop import AsyncClient, Compared, EstimatedAccuracy, Figure, SliceFigures, Slices
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
SLICES: dict[str, Any] = {
    "tag": "country",
    "minimum_n": 30,
    "groups": [
        {
            "slice": "country:DE",
            "n": 40,
            "predictions": 90,
            "metrics": {"accuracy": ACCURACY},
            "differences": {"accuracy": UNDEFINED},
            "added_later": True,
        }
    ],
    "worst": {"slice": "country:DE", "is_shown": True},
    "suppressed": ["country:FR"],
    "omitted": 3,
    "added_later": True,
}
FAR = {
    "psi": 0.31,
    "jensen_shannon": 0.12,
    "n": 400,
    "reference_n": 1000,
    "psi_threshold": 0.2,
    "jensen_shannon_threshold": 0.1,
    "psi_noise": 0.04,
    "drifted": True,
    "edges": [0.0, 1.0, 2.0],
    "reference": [500, 500],
    "counts": [100, 300],
    "added_later": True,
}
FEW = {**FAR, "n": 7, "drifted": None, "reason": "fewer than 200 rows", "counts": [4, 3]}
LABELS = {name: value for name, value in FAR.items() if name != "edges"} | {"labels": ["a", "b"], "drifted": False}
DRIFT: dict[str, Any] = {
    "model": "mood",
    "version": "2",
    "window": {"from": "2026-01-31T08:00:00Z", "to": "2026-01-31T09:00:00Z"},
    "n": 400,
    "minimum_n": 200,
    "reference": {"rows": 1000},
    "drifted": True,
    "inputs": {"characters": FAR, "tokens": FEW},
    "predictions": LABELS,
    "confidence": None,
    "estimated_accuracy": {
        **ACCURACY,
        "calibrated_by": "labels",
        "calibration_n": 300,
        "scored": {"estimated": ACCURACY, "actual": {"value": 0.4, "n": 2, "low": 0.2, "high": 0.6}},
    },
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
    assert (found.residuals, found.slices) == (None, None)
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


def test_groups_are_read_with_what_is_worst() -> None:
    service = Service(
        httpx.Response(200, json={**ANSWER, "slices": SLICES}),
        httpx.Response(200, json={**ANSWER, "slices": {**SLICES, "groups": [], "worst": None}}),
    )
    with service.client() as client:
        found, empty = client.evaluation("mood", by="country").slices, client.evaluation("mood", by="país").slices
    group = SliceFigures(
        "country:DE",
        40,
        90,
        {"accuracy": Figure(0.5, 2, 0.1, 0.9)},
        {"accuracy": Figure(None, 2, reason=UNDEFINED["reason"])},
    )
    assert found == Slices("country", 30, (group,), "country:DE", True, ["country:FR"], 3)
    assert empty == Slices("country", 30, (), None, False, ["country:FR"], 3)
    assert [dict(request.url.params) for request in service.requests] == [{"by": "country"}, {"by": "país"}]


def test_drift_is_read_with_what_was_compared() -> None:
    service = Service(httpx.Response(200, json=DRIFT))
    with service.client() as client:
        found = client.drift("mood", version=2, rows=500)
        client.drift("mood")
    assert (found.model, found.version, found.n, found.minimum_n, found.drifted) == ("mood", "2", 400, 200, True)
    assert (found.since, found.until) == ("2026-01-31T08:00:00Z", "2026-01-31T09:00:00Z")
    assert (found.reference_rows, found.reference_reason) == (1000, None)
    assert found.inputs["characters"] == Compared(
        0.31, 0.12, 400, 1000, 0.2, 0.1, 0.04, True, None, [0.0, 1.0, 2.0], None, [500, 500], [100, 300]
    )
    assert (found.inputs["tokens"].drifted, found.inputs["tokens"].reason) == (None, "fewer than 200 rows")
    assert found.predictions is not None
    assert (found.predictions.labels, found.predictions.edges, found.confidence) == (["a", "b"], None, None)
    figure = Figure(0.5, 2, 0.1, 0.9)
    assert found.estimated_accuracy == EstimatedAccuracy(figure, "labels", 300, figure, Figure(0.4, 2, 0.2, 0.6))
    assert [request.url.raw_path for request in service.requests] == [
        b"/v1/models/mood/drift?version=2&rows=500",
        b"/v1/models/mood/drift",
    ]


def test_where_there_is_nothing_to_compare_drift_is_read_too() -> None:
    nothing = {
        **DRIFT,
        **dict.fromkeys(("window", "drifted", "predictions", "estimated_accuracy")),
        "reference": {"rows": 0, "reason": "its checkpoint has no reference.json"},
        "inputs": {},
    }
    with Service(httpx.Response(200, json=nothing)).client() as client:
        found = client.drift("mood")
    assert (found.since, found.until, found.inputs, found.estimated_accuracy) == (None, None, {}, None)
    assert (found.reference_rows, found.reference_reason) == (0, "its checkpoint has no reference.json")


def drawn() -> Service:
    return Service(httpx.Response(200, content=b"drawn", headers={"Content-Type": "image/png"}))


def asked(service: Service) -> list[tuple[str, bytes]]:
    return [(request.headers["Accept"], request.url.raw_path) for request in service.requests]


async def test_either_comes_as_a_picture() -> None:
    service = drawn()
    with service.client() as client:
        assert client.evaluation_picture("mood", window="24h") == b"drawn"
        assert client.drift_picture("mood", "svg", version=1) == b"drawn"
    urls = [b"/v1/models/mood/evaluation?window=24h", b"/v1/models/mood/drift?version=1"]
    assert asked(service) == [("image/png", urls[0]), ("image/svg+xml", urls[1])]
    service = drawn()
    async with service.async_client() as client_to_await:
        assert await client_to_await.evaluation_picture("mood", "svg", window="24h") == b"drawn"
        assert await client_to_await.drift_picture("mood", version=1) == b"drawn"
    assert asked(service) == [("image/svg+xml", urls[0]), ("image/png", urls[1])]


def test_what_is_no_picture_is_not_taken_for_one() -> None:
    service = Service(httpx.Response(200, json=DRIFT), problem(501, "not-supported", detail="a picture: not supported"))
    with service.client() as client:
        with pytest.raises(servoloop.ApiError, match="did not answer as a Servoloop service does"):
            client.drift_picture("mood")
        with pytest.raises(servoloop.ApiError, match="a picture: not supported"):
            client.drift_picture("mood")
        with pytest.raises(ValueError, match="one of png, svg, got 'gif'"):
            client.evaluation_picture("mood", "gif")


async def test_drift_is_awaited_too() -> None:
    async with Service(httpx.Response(200, json=DRIFT)).async_client() as client:
        assert (await client.drift("mood", 2)).drifted is True


async def test_a_model_that_is_none_is_not_found() -> None:
    service = Service(problem(404, "unknown-model", detail="there is none"))
    async with AsyncClient(transport=httpx.MockTransport(service.handle)) as client:
        with pytest.raises(servoloop.NotFound, match="there is none"):
            await client.evaluation("nothing")
