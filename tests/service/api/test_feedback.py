"""Feedback over HTTP."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest
from uuid_utils import uuid7

from service.api.deps import Services
from service.api.routes.feedback import MAX_BYTES
from service.errors import StoreUnavailable
from service.learning.intake import MAX_LINE_BYTES
from service.learning.items import _digest
from service.registry.catalog import Catalog
from service.store.feedback import FeedbackEvent, FeedbackFilters, Outcome
from tests.fakes import sample
from tests.service.api.support import problem_of
from tests.stores import OpenStore, a_record, open_seen

LINES = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> OpenStore:
    """Of each test's own, with every version seen."""
    return open_seen(tmp_path_factory.mktemp("store"), catalog)


@pytest.fixture
def prediction(store: OpenStore) -> str:
    """A prediction of the model `mood`, whose labels are negative and positive."""
    record = a_record(model="mood", external_id="order-1")
    store.predictions.append([record])
    return record.id


async def give(client: httpx.AsyncClient, body: Any, **headers: str) -> httpx.Response:
    return await client.post("/v1/feedback", json=body, headers=headers)


async def events(client: httpx.AsyncClient, **filters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/v1/feedback", params=filters)).json()["events"]
    return found


def lines(*items: Any) -> bytes:
    return b"\n".join(orjson.dumps(item) for item in items)


# What is said


async def test_a_label_is_kept_with_all_that_is_known_of_it(client: httpx.AsyncClient, prediction: str) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    answer = await give(client, {"prediction_id": prediction, "label": "positive"})
    assert answer.status_code == 200
    [result] = answer.json()["results"]
    event_id = result["event_id"]
    assert answer.json() == {
        "accepted": 1,
        "results": [{"index": 0, "event_id": event_id, "prediction_id": prediction, "status": "joined", "error": None}],
        "omitted": 0,
    }
    [event] = await events(client)
    labelled, received = (datetime.fromisoformat(event.pop(name)) for name in ("labelled_at", "received_at"))
    assert before <= labelled == received <= datetime.now(UTC)
    assert event == {
        "event_id": event_id,
        "prediction_id": prediction,
        "model": "mood",
        "external_id": None,
        "kind": "label",
        "label": "positive",
        "value": None,
        "rating": None,
        "source": "user",
        "trust": 1,
        "actor": None,
        "principal": "anonymous",
        "supersedes": None,
        "idempotency_key": None,
        "status": "joined",
    }


async def test_what_else_is_said_is_kept_too(client: httpx.AsyncClient) -> None:
    first = str(uuid7())
    item = {
        "model": "mood",
        "external_id": "order-2",
        "kind": "correction",
        "label": "negative",
        "source": "expert",
        "actor": "ann",
        "labelled_at": "2026-01-31T08:00:00+01:00",
        "supersedes": first,
        "idempotency_key": "k",
    }
    [result] = (await give(client, item)).json()["results"]
    assert (result["status"], result["prediction_id"]) == ("pending", None)
    [event] = await events(client)
    expected = {**item, "labelled_at": "2026-01-31T07:00:00Z", "trust": 2, "status": "pending"}
    assert {name: event[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"rating": 4}, {"kind": "rating", "rating": 4.0}),
        ({"rating": -1.5, "kind": "rating"}, {"kind": "rating", "rating": -1.5}),
        ({"kind": "retraction"}, {"kind": "retraction"}),
    ],
)
async def test_ratings_and_retractions(
    client: httpx.AsyncClient, prediction: str, said: dict[str, Any], shown: dict[str, Any]
) -> None:
    assert (await give(client, {"prediction_id": prediction, **said})).status_code == 200
    [event] = await events(client)
    told = {name: event[name] for name in ("kind", "label", "value", "rating")}
    assert told == {"label": None, "value": None, "rating": None, **shown}


async def test_a_regression_takes_values(client: httpx.AsyncClient, store: OpenStore) -> None:
    record = a_record(model="rent")
    store.predictions.append([record])
    assert (await give(client, {"prediction_id": record.id, "value": 812})).status_code == 200
    problem = problem_of(await give(client, {"prediction_id": record.id, "label": "dear"}))
    assert (problem["status"], problem["field"]) == (422, "label")
    assert "expected a value, as a regression has" in problem["detail"]
    [event] = await events(client)
    assert (event["value"], event["label"]) == (812.0, None)


# Several


async def test_of_several_items_each_has_its_own_outcome(client: httpx.AsyncClient, prediction: str) -> None:
    items = [
        {"prediction_id": prediction, "label": "positive", "idempotency_key": "k"},
        {"prediction_id": prediction, "label": "positive", "idempotency_key": "k"},
        {"prediction_id": prediction, "label": "negative", "idempotency_key": "k"},
        {"prediction_id": prediction, "label": "splendid"},
        {"prediction_id": prediction},
        {"prediction_id": str(uuid7()), "label": "positive"},
        7,
    ]
    response = await give(client, items)
    assert response.status_code == 200
    answer = response.json()
    statuses = [result["status"] for result in answer["results"]]
    assert statuses == ["joined", "duplicate", "conflict", "rejected", "rejected", "pending", "rejected"]
    assert answer["accepted"] == 3
    first = answer["results"][0]["event_id"]
    assert [result["event_id"] == first for result in answer["results"]] == [True, True, True, *[False] * 4]
    errors = [result["error"] for result in answer["results"]]
    assert errors[3] == "'splendid' is no label of the model; expected one of negative, positive"
    assert errors[4] == "it must say one of label, value or rating"
    assert errors[6] is not None
    assert len(await events(client)) == 2


async def test_a_time_that_is_none_keeps_no_other_item_out(client: httpx.AsyncClient, prediction: str) -> None:
    item = {"prediction_id": prediction, "rating": 1}
    wrong = [{**item, "labelled_at": at} for at in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")]
    for body, headers in ((orjson.dumps([item, *wrong, item]), {}), (lines(item, *wrong, item), LINES)):
        headers = {"Content-Type": "application/json", **headers}
        answer = (await client.post("/v1/feedback", content=body, headers=headers)).json()
        assert [result["status"] for result in answer["results"]] == ["joined", "rejected", "rejected", "joined"]


async def test_what_nobody_foresaw_of_an_item_keeps_no_other_out(
    client: httpx.AsyncClient, services: Services, prediction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(document: Any) -> str:
        if document.get("actor") == "odd":
            raise OverflowError
        return _digest(document)

    monkeypatch.setattr("service.learning.items._digest", failing)
    item = {"prediction_id": prediction, "rating": 1}
    answer = (await give(client, [{**item, "actor": "odd"}, item])).json()
    assert [(one["status"], one["error"]) for one in answer["results"]] == [
        ("rejected", "this can't be read"),
        ("joined", None),
    ]


async def test_items_come_as_lines(client: httpx.AsyncClient, prediction: str) -> None:
    body = (
        lines({"prediction_id": prediction, "label": "positive"})
        + b"\r\n\n  \n{torn\n"
        + lines({"prediction_id": prediction, "rating": 1})
    )
    answer = (await client.post("/v1/feedback", content=body, headers=LINES)).json()
    assert [result["status"] for result in answer["results"]] == ["joined", "rejected", "joined"]
    assert answer["results"][1]["error"].startswith("this is no JSON")
    assert len(await events(client)) == 2


@pytest.mark.parametrize("in_one_piece", [True, False])
async def test_a_line_that_is_too_long_is_refused_however_it_comes(
    client: httpx.AsyncClient, prediction: str, in_one_piece: bool
) -> None:
    good = {"prediction_id": prediction, "rating": 1}
    content = lines(good, {"actor": "x" * MAX_LINE_BYTES}, good)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]

    response = await client.post("/v1/feedback", content=content if in_one_piece else chunks(), headers=LINES)
    assert (response.status_code, problem_of(response)["expected"]) == (400, f"at most {MAX_LINE_BYTES} bytes a line")


async def test_what_is_rejected_names_the_member_that_it_is_rejected_for(
    client: httpx.AsyncClient, prediction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.sql_feedback.MOST_EVENTS", 1)
    wrong = [{"label": "happy"}, {"value": 3.0}]
    fields = [problem_of(await give(client, {"prediction_id": prediction, **one}))["field"] for one in wrong]
    assert fields == ["label", "value"]
    await give(client, {"prediction_id": prediction, "rating": 1})
    problem = problem_of(await give(client, {"prediction_id": prediction, "kind": "retraction"}))
    assert (problem["status"], problem["field"]) == (422, "prediction_id")


async def test_of_many_lines_only_the_problems_are_told(
    client: httpx.AsyncClient, prediction: str, store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = orjson.dumps({"prediction_id": prediction, "rating": 1}) + b"\n"
    count = MAX_BYTES // len(good) + 700
    monkeypatch.setattr("service.store.sql_feedback.MOST_EVENTS", 3 * count)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(count // 2):
            yield good * 2
        yield b"[]"

    refused = problem_of(await client.post("/v1/feedback", content=chunks(), headers=LINES))
    taken = len(store.feedback.list(FeedbackFilters(), limit=100_000).events)
    assert taken > 0
    assert (refused["status"], refused["expected"]) == (413, f"at most {MAX_BYTES} bytes, or results=problems")
    assert f"of the {taken} items before, {taken} are durable" in refused["detail"]
    response = await client.post("/v1/feedback?results=problems", content=chunks(), headers=LINES)
    answer = response.json()
    assert answer["accepted"] == count // 2 * 2
    assert [(one["index"], one["status"]) for one in answer["results"]] == [(count // 2 * 2, "rejected")]
    assert len(store.feedback.list(FeedbackFilters(), limit=100_000).events) == taken + answer["accepted"]


async def test_what_a_clock_ahead_of_ours_says_was_found_now(client: httpx.AsyncClient, prediction: str) -> None:
    ahead = datetime.now(UTC) + timedelta(seconds=30)
    await give(client, {"prediction_id": prediction, "label": "positive", "labelled_at": ahead.isoformat()})
    [event] = await events(client)
    assert event["labelled_at"] == event["received_at"]


async def test_items_that_are_none_are_counted_as_rejected(
    client: httpx.AsyncClient, services: Services, prediction: str
) -> None:
    good, wrong = {"prediction_id": prediction, "rating": 1}, {"prediction_id": prediction}
    await give(client, wrong)
    await give(client, [good, wrong, wrong])
    await client.post("/v1/feedback", content=lines(good, wrong), headers=LINES)
    assert sample(services.registry, "servoloop_feedback_events_total", {"outcome": "rejected"}) == 4


# What is sent again


async def test_a_key_in_the_header_is_that_of_the_request(client: httpx.AsyncClient, prediction: str) -> None:
    item = {"prediction_id": prediction, "label": "positive"}
    key = {"Idempotency-Key": "req-7"}
    first = (await give(client, item, **key)).json()["results"][0]
    again = (await give(client, item, **key)).json()["results"][0]
    assert (first["status"], again["status"]) == ("joined", "duplicate")
    assert again["event_id"] == first["event_id"]
    problem = problem_of(await give(client, {**item, "label": "negative"}, **key))
    assert (problem["status"], problem["type"]) == (409, "urn:servoloop:problem:feedback-conflict")
    assert first["event_id"] in problem["detail"]


@pytest.mark.parametrize("as_lines", [False, True])
async def test_a_key_in_the_header_counts_for_each_of_several(
    client: httpx.AsyncClient, prediction: str, as_lines: bool
) -> None:
    items = [{"prediction_id": prediction, "label": label} for label in ("positive", "negative")]
    content = lines(*items) if as_lines else orjson.dumps(items)
    media_type = LINES["Content-Type"] if as_lines else "application/json"
    headers = {"Idempotency-Key": "req-7", "Content-Type": media_type}
    statuses = [
        [
            one["status"]
            for one in (await client.post("/v1/feedback", content=content, headers=headers)).json()["results"]
        ]
        for _ in range(2)
    ]
    assert statuses == [["joined", "joined"], ["duplicate", "duplicate"]]


async def test_a_key_in_the_header_is_the_same_as_json_and_as_a_line(
    client: httpx.AsyncClient, prediction: str
) -> None:
    item = {"prediction_id": prediction, "label": "positive"}
    first = (await give(client, item, **{"Idempotency-Key": "req-7"})).json()["results"][0]
    answer = await client.post("/v1/feedback", content=lines(item, item), headers={"Idempotency-Key": "req-7", **LINES})
    results = answer.json()["results"]
    assert [one["status"] for one in results] == ["duplicate", "joined"]
    assert results[0]["event_id"] == first["event_id"]
    assert [one["idempotency_key"] for one in await events(client)] == ["req-7#1", "req-7"]


async def test_the_same_said_in_another_order_of_fields_is_the_same(client: httpx.AsyncClient, prediction: str) -> None:
    item = {"prediction_id": prediction, "label": "positive", "idempotency_key": "k"}
    await give(client, item)
    again = (await give(client, dict(reversed(item.items())))).json()["results"][0]
    assert again["status"] == "duplicate"


async def test_a_whole_number_is_the_same_however_it_is_written(client: httpx.AsyncClient, prediction: str) -> None:
    statuses = []
    for number in ("5", "5.0", "6.0"):
        item = f'{{"prediction_id": "{prediction}", "rating": {number}, "idempotency_key": "k"}}'
        response = await client.post("/v1/feedback", content=item, headers={"Content-Type": "application/json"})
        statuses.append(
            response.status_code if response.status_code != 200 else response.json()["results"][0]["status"]
        )
    assert statuses == ["joined", "duplicate", 409]


async def test_a_malformed_key_is_refused(client: httpx.AsyncClient, prediction: str) -> None:
    problem = problem_of(
        await give(client, {"prediction_id": prediction, "rating": 1}, **{"Idempotency-Key": "k" * 201})
    )
    assert (problem["status"], problem["field"]) == (400, "Idempotency-Key")


# What is wrong

ID = str(uuid7())


@pytest.mark.parametrize(
    ("item", "field", "says"),
    [
        ({}, "body", "it must name a prediction"),
        ({"label": "positive"}, "body", "it must name a prediction"),
        ({"prediction_id": ID}, "body", "it must say one of label, value or rating"),
        ({"prediction_id": ID, "external_id": "a", "model": "mood", "rating": 1}, "body", "it must name a prediction"),
        ({"external_id": "a", "rating": 1}, "body", "external_id needs model"),
        ({"prediction_id": ID, "model": "mood", "rating": 1}, "body", "model belongs to external_id"),
        ({"prediction_id": ID, "rating": 1, "value": 2}, "body", "and says 2"),
        ({"prediction_id": ID, "kind": "retraction", "rating": 1}, "body", "a retraction has no rating"),
        ({"prediction_id": ID, "kind": "label", "rating": 1}, "body", "a label has no rating"),
        ({"prediction_id": ID, "kind": "rating", "label": "positive"}, "body", "a rating has no label"),
        (
            {"prediction_id": ID, "kind": "guess", "rating": 1},
            "kind",
            "'label', 'correction', 'rating' or 'retraction'",
        ),
        ({"prediction_id": "7", "rating": 1}, "prediction_id", "UUID"),
        ({"prediction_id": 7, "rating": 1}, "prediction_id", "UUID"),
        ({"prediction_id": "f47ac10b-58cc-4372-a567-0e02b2c3d479", "rating": 1}, "prediction_id", "none of our ids"),
        ({"prediction_id": ID, "rating": 1, "supersedes": "7"}, "supersedes", "UUID"),
        ({"prediction_id": ID, "rating": True}, "rating", "number"),
        ({"prediction_id": ID, "rating": "1"}, "rating", "number"),
        ({"prediction_id": ID, "label": 7}, "label", "string"),
        ({"prediction_id": ID, "label": ""}, "label", "at least 1 character"),
        ({"prediction_id": ID, "label": "a\0"}, "label", "pattern"),
        ({"prediction_id": ID, "label": ["a", 7]}, "label", ""),
        ({"prediction_id": ID, "rating": 1, "source": "a\nb"}, "source", "pattern"),
        ({"prediction_id": ID, "rating": 1, "labelled_at": 1767225600}, "labelled_at", "a date and a time"),
        ({"prediction_id": ID, "rating": 1, "labelled_at": "2026-01-31T08:00:00"}, "labelled_at", "timezone"),
        ({"prediction_id": ID, "rating": 1, "labelled_at": "2096-01-31T08:00:00Z"}, "labelled_at", "in the future"),
        ({"prediction_id": ID, "rating": 1, "labelled_at": "1969-12-31T08:00:00Z"}, "labelled_at", "1970 to 5999"),
        ({"prediction_id": ID, "rating": 1, "labelled_at": "1970-01-01T00:00:00+14:00"}, "labelled_at", "1970 to 5999"),
        ({"prediction_id": ID, "rating": 1, "labelled_at": "0001-01-01T00:00:00+14:00"}, "labelled_at", "1970 to 5999"),
        ({"prediction_id": ID, "rating": 1, "labelled_at": "9999-12-31T23:59:59-14:00"}, "labelled_at", "1970 to 5999"),
        (
            {"prediction_id": ID, "rating": 1, "labelled_at": "5999-12-31T23:59:59-14:00"},
            "labelled_at",
            "in the future",
        ),
        ({"prediction_id": ID, "rating": 1.1e100}, "rating", "no number from -1e+100 to 1e+100"),
        ({"prediction_id": ID, "value": -1.1e100}, "value", "no number from -1e+100 to 1e+100"),
        ({"prediction_id": ID, "value": 1e308}, "value", "no number from -1e+100 to 1e+100"),
        ({"prediction_id": ID, "rating": 1, "mood": 1}, "mood", "Extra inputs"),
        ({"model": "Mood!", "external_id": "a", "rating": 1}, "model", "pattern"),
        ([7], "body", "no object"),
    ],
)
async def test_what_is_wrong_with_an_item_is_told(client: httpx.AsyncClient, item: Any, field: str, says: str) -> None:
    problem = problem_of(await give(client, item))
    assert problem["status"] == 422
    assert problem["field"].partition(".")[0] == field
    assert says in problem["detail"]
    assert await events(client) == []


@pytest.mark.parametrize("content", [b"{", b"", b"[]", b"\xff", b"NaN", b'{"rating": 1e999}', b"[" * 5000])
async def test_what_is_no_json_is_refused(client: httpx.AsyncClient, content: bytes) -> None:
    response = await client.post("/v1/feedback", content=content, headers={"Content-Type": "application/json"})
    assert problem_of(response)["status"] in (400, 422)


@pytest.mark.parametrize("media_type", ["text/plain", "application/octet-stream", ""])
async def test_other_content_types_are_refused(client: httpx.AsyncClient, media_type: str) -> None:
    response = await client.post(
        "/v1/feedback", content=b"{}", headers={"Content-Type": media_type} if media_type else {}
    )
    assert problem_of(response)["status"] == 415


async def test_a_document_that_is_too_large_is_refused(client: httpx.AsyncClient) -> None:
    body = b"[" + b" " * MAX_BYTES + b"]"
    response = await client.post("/v1/feedback", content=body, headers={"Content-Type": "application/json"})
    assert problem_of(response)["status"] == 413


async def test_a_line_that_has_no_end_is_refused(client: httpx.AsyncClient) -> None:
    body = b'{"actor": "' + b"a" * (MAX_LINE_BYTES + 1)
    problem = problem_of(await client.post("/v1/feedback?results=problems", content=body, headers=LINES))
    assert (problem["status"], problem["expected"]) == (400, f"at most {MAX_LINE_BYTES} bytes a line")


async def test_what_came_before_a_line_that_has_no_end_is_told(
    client: httpx.AsyncClient, store: OpenStore, prediction: str
) -> None:
    good = orjson.dumps({"prediction_id": prediction, "rating": 1}) + b"\n"

    async def chunks() -> AsyncIterator[bytes]:
        yield good * 499 + b"{}\n"
        yield good * 500
        yield b"a" * (MAX_LINE_BYTES + 1)

    problem = problem_of(await client.post("/v1/feedback?results=problems", content=chunks(), headers=LINES))
    assert problem["status"] == 400
    assert "of the 1000 items before, 999 are durable" in problem["detail"]
    assert len(store.feedback.list(FeedbackFilters(), limit=10_000).events) == 999


@pytest.mark.parametrize("query", ["results=none", "foo=1", "results=all&version=2"])
async def test_a_query_that_is_not_understood_is_refused(client: httpx.AsyncClient, query: str) -> None:
    problem = problem_of(await client.post(f"/v1/feedback?{query}", content=b"{}", headers=LINES))
    assert problem["status"] == 422
    assert problem["field"].startswith("query.")


class _Away:
    async def add(self, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        raise StoreUnavailable("the recorder does not answer")


@pytest.mark.parametrize("as_lines", [False, True])
async def test_what_is_not_kept_is_not_acknowledged(
    client: httpx.AsyncClient, services: Services, prediction: str, as_lines: bool
) -> None:
    services.feedback.intake._keeping = _Away()
    item = {"prediction_id": prediction, "rating": 1}
    headers = LINES if as_lines else {"Content-Type": "application/json"}
    response = await client.post("/v1/feedback", content=orjson.dumps(item), headers=headers)
    assert problem_of(response)["status"] == 503
    assert int(response.headers["Retry-After"]) >= 1


# Looking


async def test_events_are_found_by_filters_and_page_by_page(client: httpx.AsyncClient, prediction: str) -> None:
    await give(client, [{"prediction_id": prediction, "rating": number} for number in range(3)])
    await give(client, {"model": "mood", "external_id": "order-1", "label": "positive", "source": "expert"})
    assert [one["rating"] for one in await events(client, kind="rating")] == [2, 1, 0]
    assert len(await events(client, prediction_id=prediction)) == 3
    assert len(await events(client, model="mood")) == 4
    assert len(await events(client, source="expert", external_id="order-1")) == 1
    assert await events(client, until="2026-01-31T08:00:00Z") == []
    assert len(await events(client, since="2026-01-31T08:00:00Z")) == 4
    first = (await client.get("/v1/feedback", params={"limit": 3})).json()
    assert len(first["events"]) == 3
    second = (await client.get("/v1/feedback", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert ([one["rating"] for one in second["events"]], second["next_cursor"]) == ([0], None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"kind": "guess"},
        {"cursor": "a"},
        {"since": "2026"},
        {"colour": "a"},
        {"until": "9999-12-31T23:59:59-14:00"},
    ],
)
async def test_malformed_filters_are_refused(client: httpx.AsyncClient, wrong: dict[str, Any]) -> None:
    assert problem_of(await client.get("/v1/feedback", params=wrong))["status"] == 422
