"""Offline evaluation: what the client sends, and how it reads what was found."""

import json
from typing import Any

import httpx
import pytest

from servoloop import Figure
from tests.servoloop.support import Service, problem

ACCURACY = {"value": 0.5, "low": 0.1, "high": 0.9, "n": 2}
VERSION = {"version": "1", "n": 2, "metrics": {"accuracy": ACCURACY}, "added_later": True}
COMPARISON = {
    "rows": 2,
    "only_first_right": 0,
    "only_second_right": 1,
    "p_value": 1.0,
    "differences": {"accuracy": ACCURACY},
    "winner": None,
    "verdict": "No difference is shown.",
}
REPORT: dict[str, Any] = {
    "id": "0199",
    "model": "mood",
    "time": "2026-01-31T08:00:00Z",
    "dataset": "by hand",
    "digest": "ab",
    "rows": 2,
    "failed_rows": 0,
    "versions": [VERSION],
    "comparison": None,
}


def created(**members: Any) -> httpx.Response:
    return httpx.Response(201, json={**REPORT, **members})


def test_rows_are_sent_one_a_line_and_told_of() -> None:
    service, told = Service(created()), []
    with service.client() as client:
        report = client.evaluate("mood", ["good", "bad"] * 10, ["a", "b"] * 10, version=2, name="x", on_row=told.append)
    [request] = service.requests
    assert request.url.raw_path == b"/v1/models/mood/evaluations?version=2&name=x"
    assert request.headers["Content-Type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in request.content.splitlines()]
    assert lines == [{"instance": "good", "label": "a"}, {"instance": "bad", "label": "b"}] * 10
    assert told == [16, 20]
    assert (report.rows, report.dataset, report.comparison) == (2, "by hand", None)
    assert report.versions[0].metrics == {"accuracy": Figure(0.5, 2, 0.1, 0.9)}
    assert report.versions[0].confusion_matrix is None


def test_rows_are_sent_again_where_the_service_was_busy() -> None:
    service = Service(problem(503, "overloaded", {"Retry-After": "0"}, detail="busy"), created())
    with service.client() as client:
        client.evaluate("mood", ["good"], ["a"])
    first, second = service.requests
    assert first.content == second.content != b""


def test_two_versions_are_compared() -> None:
    service = Service(created(versions=[VERSION, {**VERSION, "version": "2"}], comparison=COMPARISON))
    with service.client() as client:
        report = client.evaluate_held_out("mood", version=2, against="1")
    assert json.loads(service.requests[0].content) == {"dataset": "held-out", "version": "2", "against": "1"}
    assert report.comparison is not None
    assert (report.comparison.winner, report.comparison.verdict) == (None, "No difference is shown.")
    assert report.comparison.differences["accuracy"].low == 0.1


def test_what_was_found_is_listed() -> None:
    service = Service(httpx.Response(200, json={"evaluations": [REPORT], "next_cursor": "0198"}))
    with service.client() as client:
        page = client.evaluations("mood", version=1, cursor="0197")
    assert (page.next_cursor, page.reports[0].id) == ("0198", "0199")
    assert service.requests[0].url.raw_path == b"/v1/models/mood/evaluations?version=1&limit=20&cursor=0197"


def test_labels_and_rows_must_be_as_many() -> None:
    service = Service(created())
    with service.client() as client, pytest.raises(ValueError, match="zip"):
        client.evaluate("mood", ["good"], ["a", "b"])
    assert service.requests == []


async def test_the_client_for_asyncio_asks_the_same() -> None:
    service = Service(created(), httpx.Response(200, json={"evaluations": [], "next_cursor": None}))
    async with service.async_client() as client:
        report = await client.evaluate("mood", ["good"], ["a"])
        assert (await client.evaluations("mood")).reports == ()
    assert report.id == "0199"
    assert json.loads(service.requests[0].content) == {"instance": "good", "label": "a"}
