"""Live evaluation over HTTP."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from service.api.evaluation_schemas import EvaluationInfo
from service.learning.questions import Question
from service.registry.catalog import Catalog
from tests.service.api.support import MAX_ROWS, Asked, keeps_to, problem_of, rows_for
from tests.stores import OpenStore, a_record, open_seen

URL = "/v1/models/mood/evaluation"


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> OpenStore:
    """Of each test's own, with every version seen."""
    return open_seen(tmp_path_factory.mktemp("store"), catalog)


async def test_what_was_said_of_predictions_is_what_a_model_is_measured_by(client: httpx.AsyncClient) -> None:
    body = {"instances": ["good", "bad", "so so"], "parameters": {"tags": {"tier": "a"}}}
    answer = (await client.post("/v1/models/mood/predict", json=body)).json()
    labels = [prediction["label"] for prediction in answer["predictions"]]
    wrong = "negative" if labels[1] == "positive" else "positive"
    for prediction_id, label in zip(answer["prediction_ids"], (labels[0], wrong), strict=False):
        await client.post("/v1/feedback", json={"prediction_id": prediction_id, "label": label})
    response = await client.get(URL)
    assert response.status_code == 200
    found = response.json()
    assert (found["model"], found["version"], found["role"], found["slice"]) == ("mood", None, "answered", None)
    assert (found["n"], found["predictions"], found["coverage"]) == (2, 3, pytest.approx(2 / 3))
    accuracy = found["metrics"]["accuracy"]
    assert (accuracy["value"], accuracy["n"]) == (0.5, 2)
    assert accuracy["low"] < 0.5 < accuracy["high"]
    assert sum(map(sum, found["confusion_matrix"]["counts"])) == 2
    assert found["confusion_matrix"]["labels"] == ["negative", "positive"]
    assert (await client.get(URL, params={"slice": "tier:a"})).json()["n"] == 2
    assert (await client.get(URL, params={"slice": "tier:b"})).json()["predictions"] == 0


async def labelled(
    client: httpx.AsyncClient, catalog: Catalog, model: str, count: int, *, right: bool = True, **tags: str
) -> None:
    """So many predictions of which somebody says that they are right, or wrong."""
    labels = catalog.models[model].versions[1].manifest.labels
    for _ in range(count // MAX_ROWS):
        body = {"instances": rows_for(catalog, model, MAX_ROWS), "parameters": {"tags": tags}}
        answer = (await client.post(f"/v1/models/{model}/predict", json=body)).json()
        items = [
            {"prediction_id": one, **said_of(prediction, labels, right=right)}
            for one, prediction in zip(answer["prediction_ids"], answer["predictions"], strict=True)
        ]
        told = (await client.post("/v1/feedback", json=items)).json()
        assert told["accepted"] == MAX_ROWS


def said_of(prediction: dict[str, Any], labels: Sequence[str], *, right: bool) -> dict[str, Any]:
    match prediction:
        case {"label": label}:
            return {"label": label if right else next(one for one in labels if one != label)}
        case {"labels": several}:
            return {"label": [one["label"] for one in several] if right else []}
        case {"value": value}:
            return {"value": value if right else value + 1}
    return {"rating": 5 if right else 1}


async def test_the_answer_keeps_to_its_schema(client: httpx.AsyncClient, catalog: Catalog) -> None:
    for model in catalog.models:
        url = f"/v1/models/{model}/evaluation"
        assert keeps_to(EvaluationInfo, (await client.get(url)).json())
        for country in ("DE", "FR"):
            await labelled(client, catalog, model, 32, country=country)
        found = (await client.get(url, params={"buckets": 3, "by": "country"})).json()
        assert keeps_to(EvaluationInfo, found)
        assert found["n"] == sum(group["n"] for group in found["slices"]["groups"])
        assert found["n"] == (0 if model == "motion" else 64)


async def test_groups_that_differ_in_a_tag_are_told_apart(client: httpx.AsyncClient, catalog: Catalog) -> None:
    await labelled(client, catalog, "mood", 40, country="DE", tier="a")
    await labelled(client, catalog, "mood", 32, right=False, country="FR", tier="a")
    await labelled(client, catalog, "mood", 8, country="IT")
    found = (await client.get(URL, params={"by": "country"})).json()
    slices = found["slices"]
    assert found["n"] == 80
    assert (slices["tag"], slices["minimum_n"], slices["suppressed"], slices["omitted"]) == (
        "country",
        30,
        ["country:IT"],
        0,
    )
    german, french = slices["groups"]
    assert (german["slice"], german["n"], german["predictions"]) == ("country:DE", 40, 40)
    assert (french["metrics"]["accuracy"]["value"], french["differences"]["accuracy"]["value"]) == (0.0, -1.0)
    assert slices["worst"] == {"slice": "country:FR", "is_shown": True}
    within = (await client.get(URL, params={"by": "country", "slice": "tier:a"})).json()["slices"]
    assert [group["predictions"] for group in within["groups"]] == [None, None]
    assert (await client.get(URL)).json().get("slices") is None


async def test_without_more_words_the_last_seven_days_are_meant(client: httpx.AsyncClient, asked: Asked) -> None:
    before = time.time()
    response = await client.get(URL)
    assert problem_of(response)["status"] == 503
    [question] = asked.questions
    assert question.since is not None
    assert before <= question.since + 7 * 86_400 <= time.time()
    assert question == Question("mood", since=question.since)


async def test_a_window_is_said_as_a_length_or_by_its_ends(client: httpx.AsyncClient, asked: Asked) -> None:
    await client.get(URL, params={"window": "90m", "until": "2026-01-31T08:00:00Z"})
    since = "2026-01-31T08:00:00Z"
    await client.get(URL, params={"since": since, "role": "all", "matured": "true", "version": 1, "by": "país"})
    end = datetime(2026, 1, 31, 8, tzinfo=UTC).timestamp()
    assert asked.questions == [
        Question("mood", since=end - 90 * 60, until=end),
        Question("mood", version=1, role=None, since=end, matured=True, by="país"),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": "7"},
        {"window": "0d"},
        {"window": "7w"},
        {"since": "yesterday"},
        {"since": "2026-01-31T08:00:00Z", "until": "2026-01-31T08:00:00Z"},
        {"slice": "tier"},
        {"role": "none"},
        {"version": 0},
        {"matured": "maybe"},
        {"colour": "a"},
        {"by": "country:DE"},
        {"by": "c" * 257},
        {"by": "\0"},
        {"slice": "\0:\0"},
        {"slice": "tier:a\0"},
        {"slice": "tier:"},
        {"until": "0001-01-02T00:00:00Z"},
        {"since": "0001-01-01T00:00:00+14:00"},
        {"until": "9999-12-31T23:59:59-14:00"},
        {"since": "1969-12-31T23:59:59Z"},
    ],
)
async def test_malformed_filters_are_refused(client: httpx.AsyncClient, wrong: dict[str, Any]) -> None:
    assert problem_of(await client.get(URL, params=wrong))["status"] == 422


@pytest.mark.parametrize("name", ["slice", "by"])
async def test_an_empty_filter_is_refused(client: httpx.AsyncClient, name: str) -> None:
    response = await client.get(URL, params={name: ""})
    assert (response.status_code, response.json()["field"]) == (422, f"query.{name}")


@pytest.mark.parametrize(
    ("window", "field"),
    [
        ({"since": "5999-12-31T23:59:59Z"}, "query.since"),
        ({"since": "2999-01-01T00:00:00Z", "until": "2999-01-02T00:00:00Z"}, "query.since"),
        ({"until": "2999-01-02T00:00:00Z"}, "query.until"),
    ],
)
async def test_a_window_that_has_not_begun_is_refused(
    client: httpx.AsyncClient, asked: Asked, window: dict[str, str], field: str
) -> None:
    problem = problem_of(await client.get(URL, params=window))
    assert (problem["status"], problem["field"]) == (422, field)
    assert "lies in the future" in problem["detail"]
    assert asked.questions == []


async def test_a_window_within_a_minute_is_of_that_minute(client: httpx.AsyncClient) -> None:
    window = {"since": "2026-01-31T01:00:05Z", "until": "2026-01-31T01:00:50Z"}
    found = (await client.get(URL, params=window)).json()
    assert (found["window"]["from"][11:16], found["window"]["to"][11:16]) == ("01:00", "01:01")


@pytest.mark.parametrize("accept", ["application/json", "image/png"])
async def test_a_version_that_never_was_is_a_404(client: httpx.AsyncClient, accept: str) -> None:
    problem = problem_of(await client.get(URL, params={"version": 999}, headers={"Accept": accept}))
    assert (problem["status"], problem["type"]) == (404, "urn:servoloop:problem:unknown-version")


async def test_a_deleted_version_is_measured_while_its_predictions_are_kept(
    client: httpx.AsyncClient, store: OpenStore
) -> None:
    store.predictions.append([a_record(model="mood", version=7)])
    response = await client.get(URL, params={"version": 7, "slice": "tier:a"})
    assert (response.status_code, response.json()["predictions"]) == (200, 0)
    assert (await client.get(URL, params={"version": 7})).json()["version"] == "7"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("image/png", "image/png"),
        ("image/svg+xml;q=0.9, image/png;q=0.5", "image/svg+xml"),
        ("IMAGE/PNG", "image/png"),
        ("text/html, image/png", "image/png"),
    ],
)
async def test_a_picture_is_drawn_where_one_is_accepted(
    client: httpx.AsyncClient, asked: Asked, accept: str, media_type: str
) -> None:
    response = await client.get(URL, params={"version": 1}, headers={"Accept": accept})
    assert (response.status_code, response.headers["Content-Type"]) == (200, media_type)
    assert response.headers["Vary"] == "Accept"
    [question] = asked.questions
    assert (question.version, question.buckets) == (1, 24)
    await client.get(URL, params={"buckets": 5}, headers={"Accept": accept})
    assert asked.questions[1].buckets == 5


@pytest.mark.parametrize("accept", ["*/*", "", "application/json, image/png", "text/html"])
async def test_all_else_is_answered_as_json(client: httpx.AsyncClient, accept: str) -> None:
    response = await client.get(URL, headers={"Accept": accept})
    assert response.headers["Content-Type"] == "application/json"
    assert response.json()["model"] == "mood"


async def test_a_model_that_is_none_is_a_404(client: httpx.AsyncClient) -> None:
    assert problem_of(await client.get("/v1/models/nothing/evaluation"))["status"] == 404
