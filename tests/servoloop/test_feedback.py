"""Feedback: what the client sends, and how it reads what became of it."""

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

import servoloop
from servoloop import AsyncClient, Prediction
from tests.servoloop.support import IDS, Service, problem

RESULT = {
    "index": 0,
    "event_id": IDS[1],
    "prediction_id": IDS[0],
    "status": "joined",
    "error": None,
    "added_later": True,
}
EVENT = {
    "event_id": IDS[1],
    "prediction_id": IDS[0],
    "model": "fashion",
    "external_id": None,
    "kind": "label",
    "label": "Bag",
    "value": None,
    "rating": None,
    "source": "user",
    "trust": 1,
    "actor": None,
    "principal": "anonymous",
    "labelled_at": "2026-01-31T08:00:00Z",
    "received_at": "2026-01-31T08:00:01Z",
    "supersedes": None,
    "idempotency_key": None,
    "status": "joined",
    "added_later": True,
}


def told(*results: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json={"accepted": len(results), "results": list(results), "omitted": 0})


def bodies(service: Service) -> list[Any]:
    return [json.loads(request.content) for request in service.requests]


@pytest.mark.parametrize("prediction", [IDS[0], Prediction(IDS[0], "fashion", "1")])
def test_a_label_is_told_of_a_prediction_or_of_its_id(prediction: Prediction | str) -> None:
    service = Service(told(RESULT))
    with service.client() as client:
        result = client.feedback(prediction, label="Bag")
    assert result == servoloop.FeedbackResult("joined", IDS[1], IDS[0], None)
    assert result.accepted
    [request] = service.requests
    assert (request.method, request.url.path) == ("POST", "/v1/feedback")
    assert bodies(service) == [{"prediction_id": IDS[0], "label": "Bag"}]


def test_all_else_that_is_said_is_sent() -> None:
    service = Service(told(RESULT))
    with service.client() as client:
        client.feedback(
            external_id="order-1",
            model="fashion",
            value=1.5,
            kind="correction",
            source="expert",
            actor="ann",
            labelled_at=datetime(2026, 1, 31, 8, tzinfo=UTC),
            supersedes=IDS[1],
            idempotency_key="k",
        )
        client.feedback(IDS[0], rating=0)
        client.feedback(IDS[0], kind="retraction")
    assert bodies(service) == [
        {
            "external_id": "order-1",
            "model": "fashion",
            "value": 1.5,
            "kind": "correction",
            "source": "expert",
            "actor": "ann",
            "labelled_at": "2026-01-31T08:00:00+00:00",
            "supersedes": IDS[1],
            "idempotency_key": "k",
        },
        {"prediction_id": IDS[0], "rating": 0},
        {"prediction_id": IDS[0], "kind": "retraction"},
    ]


def test_what_is_tried_again_has_the_same_key_and_each_call_its_own() -> None:
    service = Service(problem(503, "store-unavailable"), told(RESULT))
    with service.client() as client:
        client.feedback(IDS[0], label="Bag")
        client.feedback(IDS[0], label="Bag")
    first, again, other = [request.headers["Idempotency-Key"] for request in service.requests]
    assert first == again != other


def test_several_items_are_lines_in_groups() -> None:
    items = [{"prediction_id": IDS[0], "rating": number} for number in range(501)]
    service = Service(told(*[RESULT] * 500), told({**RESULT, "status": "rejected", "error": "why"}))
    with service.client() as client:
        results = client.feedback_many(iter(items))
    assert [result.accepted for result in results] == [*[True] * 500, False]
    assert results[-1].error == "why"
    first, second = service.requests
    assert first.headers["Content-Type"] == "application/x-ndjson"
    assert [json.loads(line) for line in first.content.split(b"\n") + second.content.split(b"\n")] == items
    assert first.headers["Idempotency-Key"] != second.headers["Idempotency-Key"]


def test_a_request_is_no_larger_than_the_service_takes() -> None:
    items = [{"prediction_id": IDS[0], "label": [f"{number}-{'x' * 50}" for number in range(60)]} for _ in range(500)]
    service = Service(*[told(*[RESULT] * count) for count in (310, 190)])
    with service.client() as client:
        assert len(client.feedback_many(items)) == 500
    contents = [request.content for request in service.requests]
    assert [json.loads(line) for content in contents for line in content.split(b"\n")] == items
    assert max(map(len, contents)) <= 1 << 20


def test_a_time_without_its_zone_is_refused() -> None:
    service = Service(told(RESULT))
    naive = datetime(2026, 1, 31)  # noqa: DTZ001
    with service.client() as client, pytest.raises(ValueError, match="a time needs its zone, got 2026-01-31T00:00:00"):
        client.feedback(IDS[0], label="Bag", labelled_at=naive)
    assert service.requests == []


def test_what_the_service_refuses_is_an_error() -> None:
    service = Service(problem(422, "unprocessable-input", detail="no label", field="label"))
    with service.client() as client, pytest.raises(servoloop.InvalidInput, match="no label"):
        client.feedback(IDS[0], label="Hat")
    service = Service(problem(409, "feedback-conflict", detail="the key was used"))
    with service.client() as client, pytest.raises(servoloop.Conflict, match="the key was used"):
        client.feedback(IDS[0], label="Bag", idempotency_key="k")


def test_events_are_read_page_by_page() -> None:
    service = Service(httpx.Response(200, json={"events": [EVENT], "next_cursor": IDS[0]}))
    with service.client() as client:
        page = client.feedback_events(
            model="fashion", kind="label", since=datetime(2026, 1, 31, 8, tzinfo=UTC), cursor=IDS[1], limit=7
        )
    assert (page.next_cursor, page.events[0].label, page.events[0].trust) == (IDS[0], "Bag", 1)
    assert dict(service.requests[0].url.params) == {
        "model": "fashion",
        "kind": "label",
        "since": "2026-01-31T08:00:00+00:00",
        "limit": "7",
        "cursor": IDS[1],
    }


async def test_feedback_is_given_and_read_asynchronously() -> None:
    service = Service(told(RESULT), told(RESULT, RESULT), httpx.Response(200, json={"events": [], "next_cursor": None}))
    async with AsyncClient(transport=httpx.MockTransport(service.handle)) as client:
        assert (await client.feedback(IDS[0], label="Bag")).status == "joined"
        assert len(await client.feedback_many([{"prediction_id": IDS[0], "rating": 1}] * 2)) == 2
        assert (await client.feedback_events()).events == ()
