"""Predictions and aliases as the store has them, over HTTP."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.api.deps import Services
from service.domain import Ref
from service.errors import StoreUnavailable
from service.registry.catalog import Catalog
from service.serving.router import Router
from service.store.base import AliasMove
from service.store.following import StateFollower
from tests.service.api.support import CountingEngine, problem_of
from tests.stores import OpenStore, a_record, open_seen

ALIAS = "/v1/models/clothes/aliases/champion"


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> OpenStore:
    """Of each test's own, with every version seen."""
    return open_seen(tmp_path_factory.mktemp("store"), catalog)


@pytest.fixture
def router(catalog: Catalog) -> Router:
    return Router(catalog)


async def predict(client: httpx.AsyncClient, model: str, instances: list[Any], **parameters: Any) -> dict[str, Any]:
    body = {"instances": instances, "parameters": parameters}
    headers = {"X-Request-Id": "request-7", "X-Routing-Key": "from-header"}
    response = await client.post(f"/v1/models/{model}/predict", json=body, headers=headers)
    assert response.status_code == 200
    answer: dict[str, Any] = response.json()
    return answer


async def test_a_prediction_is_found_by_its_id_with_all_that_is_known_of_it(
    client: httpx.AsyncClient, catalog: Catalog
) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    tags = {"país": "España"}
    answer = await predict(client, "mood", ["good", "bad"], external_ids=["a", "b"], tags=tags, key="user-7", top_k=2)
    found = (await client.get(f"/v1/predictions/{answer['prediction_ids'][1]}")).json()
    assert before <= datetime.fromisoformat(found.pop("time")) <= datetime.now(UTC)
    assert found.pop("latency_ms") > 0
    second = answer["predictions"][1]
    assert found == {
        "prediction_id": answer["prediction_ids"][1],
        "model": "mood",
        "version": "1",
        "digest": catalog.models["mood"].versions[1].manifest.digest,
        "role": "answered",
        "paired_with": None,
        "propensity": 1.0,
        "external_id": "b",
        "key": "user-7",
        "tags": tags,
        "prediction": {name: second[name] for name in ("label", "index", "probability")},
        "probabilities": None,
        "principal": "anonymous",
        "request_id": "request-7",
    }


async def test_a_routing_key_in_the_header_is_kept_too(client: httpx.AsyncClient) -> None:
    answer = await predict(client, "rent", [[50, 2]])
    found = (await client.get(f"/v1/predictions/{answer['prediction_ids'][0]}")).json()
    assert found["key"] == "from-header"
    assert found["prediction"] == answer["predictions"][0]


async def test_the_probabilities_of_all_labels_are_kept(client: httpx.AsyncClient) -> None:
    pixels = [[7] * 28] * 28
    answer = await predict(client, "clothes", [pixels], return_probabilities=True)
    found = (await client.get(f"/v1/predictions/{answer['prediction_ids'][0]}")).json()
    expected = list(answer["predictions"][0]["probabilities"].values())
    assert found["probabilities"] == pytest.approx(expected, rel=1e-6)


async def test_long_vectors_are_not_kept(client: httpx.AsyncClient) -> None:
    answer = await predict(client, "motion", [[[1, 2, 3]]])
    found = (await client.get(f"/v1/predictions/{answer['prediction_ids'][0]}")).json()
    assert found["prediction"] == {}


async def test_a_row_that_failed_alone_is_kept_with_its_error(
    client: httpx.AsyncClient, engine: CountingEngine
) -> None:
    engine.failures = {0: "it is not finite"}
    answer = await predict(client, "rent", [[50, 2], [60, 3]])
    found = (await client.get(f"/v1/predictions/{answer['prediction_ids'][0]}")).json()
    assert found["prediction"] == {"error": {"type": "prediction_failed", "detail": "it is not finite"}}


async def test_what_is_refused_is_not_kept(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/models/mood/predict", json={"instances": [7]})).status_code == 422
    assert (await client.get("/v1/predictions")).json() == {"predictions": [], "next_cursor": None}


@pytest.mark.parametrize("text", ["\0", "a\0b", "line\nbreak", "\x7f"])
@pytest.mark.parametrize("where", ["tags", "tag name", "key", "external_ids"])
async def test_control_characters_are_refused_at_the_edge(client: httpx.AsyncClient, where: str, text: str) -> None:
    parameters: dict[str, Any] = {
        "tags": {"tags": {"a": text}},
        "tag name": {"tags": {text: "a"}},
        "key": {"key": text},
        "external_ids": {"external_ids": [text]},
    }[where]
    response = await client.post("/v1/models/mood/predict", json={"instances": ["good"], "parameters": parameters})
    assert problem_of(response)["status"] == 422


async def test_predictions_are_listed_newest_first_and_page_by_page(client: httpx.AsyncClient) -> None:
    ids = [(await predict(client, "mood", ["good"]))["prediction_ids"][0] for _ in range(3)]
    await predict(client, "rent", [[50, 2]])
    first = (await client.get("/v1/predictions", params={"model": "mood", "limit": 2})).json()
    assert [one["prediction_id"] for one in first["predictions"]] == ids[:0:-1]
    more = {"model": "mood", "limit": 2, "cursor": first["next_cursor"]}
    second = (await client.get("/v1/predictions", params=more)).json()
    assert [one["prediction_id"] for one in second["predictions"]] == ids[:1]
    assert second["next_cursor"] is None


async def test_predictions_are_found_by_every_filter(client: httpx.AsyncClient, store: OpenStore) -> None:
    old = a_record(made=1_700_000_000.0, external_id="order é")
    new = a_record(made=1_700_000_001.5, version=2)
    store.predictions.append([old, new])

    async def found(**filters: object) -> list[str]:
        response = await client.get("/v1/predictions", params=filters)  # type: ignore[arg-type]
        return [one["prediction_id"] for one in response.json()["predictions"]]

    assert await found(since="2023-11-14T22:13:20Z") == [new.id, old.id]
    assert await found(since="2023-11-14T23:13:20.001+01:00") == [new.id]
    assert await found(until="2023-11-14T22:13:21.5Z") == [old.id]
    assert await found(version=2) == [new.id]
    assert await found(external_id="order é") == [old.id]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("modle=mood", "modle"),
        ("model=Mood", "model"),
        ("model=..%2Fx", "model"),
        ("version=0", "version"),
        ("version=one", "version"),
        ("version=99999999999999999999", "version"),
        ("since=yesterday", "since"),
        ("since=2023-11-14T22:13:20", "since"),
        ("since=2026", "since"),
        ("until=NaN", "until"),
        ("until=1700000000.5", "until"),
        ("external_id=", "external_id"),
        ("external_id=%00", "external_id"),
        ("external_id=" + 257 * "a", "external_id"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=all", "limit"),
        ("cursor=1", "cursor"),
    ],
)
async def test_a_malformed_filter_is_named(client: httpx.AsyncClient, query: str, field: str) -> None:
    problem = problem_of(await client.get(f"/v1/predictions?{query}"))
    assert (problem["status"], problem["field"]) == (422, f"query.{field}")


async def test_an_id_that_names_nothing_is_404_and_what_is_no_id_422(client: httpx.AsyncClient) -> None:
    problem = problem_of(await client.get(f"/v1/predictions/{a_record().id}"))
    assert (problem["status"], problem["type"]) == (404, "urn:servoloop:problem:unknown-prediction")
    for wrong in ("x", "%00", "1" * 5000):
        assert problem_of(await client.get(f"/v1/predictions/{wrong}"))["status"] == 422


async def test_a_moved_champion_answers_from_then_on(client: httpx.AsyncClient) -> None:
    response = await client.put(ALIAS, json={"version": "2", "reason": "it is better", "expected": "1"})
    assert response.status_code == 200
    move = response.json()
    assert datetime.fromisoformat(move.pop("time")) <= datetime.now(UTC)
    assert move == {
        "model": "clothes",
        "alias": "champion",
        "version": "2",
        "previous": "1",
        "actor": "anonymous",
        "reason": "it is better",
        "revision": 2,
    }
    assert (await predict(client, "clothes", [[[0] * 28] * 28]))["version"] == "2"
    assert (await client.get("/v1/models/clothes")).json()["aliases"]["champion"] == "2"
    history = (await client.get("/v1/models/clothes/history")).json()
    assert history["model"] == "clothes"
    assert [(one["version"], one["previous"], one["actor"]) for one in history["history"]] == [
        ("2", "1", "anonymous"),
        ("1", None, "supervisor"),
    ]
    assert len((await client.get("/v1/models/clothes/history?limit=1")).json()["history"]) == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        (ALIAS, b"{", 400, "body"),
        (ALIAS, b"\xff", 400, "body"),
        (ALIAS, b"", 400, "body"),
        (ALIAS, b"[]", 422, "body"),
        (ALIAS, b"{}", 422, "body.version"),
        (ALIAS, b'{"version": 2}', 422, "body.version"),
        (ALIAS, b'{"version": "02"}', 422, "body.version"),
        (ALIAS, b'{"version": "2", "expect": "1"}', 422, "body.expect"),
        (ALIAS, b'{"version": "2", "reason": "a\\u0000b"}', 422, "body.reason"),
        (ALIAS, b'{"version": "2", "reason": "%s"}' % (1001 * b"a"), 422, "body.reason"),
        (ALIAS, b'{"version": "2", "reason": "%s"}' % (20_000 * b"a"), 413, "body"),
        (ALIAS, b'{"version": "9"}', 404, "version"),
        ("/v1/models/nobody/aliases/champion", b'{"version": "1"}', 404, "model"),
        ("/v1/models/clothes/aliases/Champion", b'{"version": "1"}', 422, "alias"),
    ],
)
async def test_a_move_that_is_wrong_says_what_is(
    client: httpx.AsyncClient, store: OpenStore, path: str, body: bytes, status: int, field: str
) -> None:
    problem = problem_of(await client.put(path, content=body))
    assert (problem["status"], problem["field"]) == (status, field)
    assert store.control.revision() == 1


async def test_a_move_from_elsewhere_than_expected_is_a_conflict(client: httpx.AsyncClient) -> None:
    problem = problem_of(await client.put(ALIAS, json={"version": "1", "expected": "2"}))
    assert (problem["status"], problem["title"]) == (409, "Conflict")


async def test_an_alias_does_not_move_to_a_version_that_is_not_loaded(
    client: httpx.AsyncClient, engine: CountingEngine, store: OpenStore
) -> None:
    engine.ready = frozenset({Ref("clothes", 1)})
    response = await client.put(ALIAS, json={"version": "2"}, headers={"X-Request-Timeout-Ms": "20"})
    assert problem_of(response)["type"] == "urn:servoloop:problem:not-ready"
    assert response.headers["retry-after"]
    assert store.control.aliases()["clothes"] == {"champion": 1}


async def test_a_move_counts_even_where_the_store_cannot_be_read_afterwards(
    client: httpx.AsyncClient, app: FastAPI, services: Services, router: Router, store: OpenStore
) -> None:
    away: Any = Away()
    app.state.services = replace(services, follower=StateFollower(away, router.use_state))
    response = await client.put(ALIAS, json={"version": "2"})
    assert (response.status_code, response.json()["version"]) == (200, "2")
    assert store.control.aliases()["clothes"] == {"champion": 2}


async def test_the_history_of_an_unknown_model_is_404(client: httpx.AsyncClient) -> None:
    assert problem_of(await client.get("/v1/models/nobody/history"))["status"] == 404


class Away:
    """A store that does not answer."""

    def __getattr__(self, name: str) -> Any:
        raise StoreUnavailable("it is away")

    async def move_alias(self, *_: object, **__: object) -> AliasMove:
        raise StoreUnavailable("it is away")


async def test_while_the_store_is_away_predictions_are_answered_and_the_rest_is_503(
    client: httpx.AsyncClient, app: FastAPI, services: Services, router: Router
) -> None:
    away: Any = Away()
    follower = StateFollower(away, router.use_state)
    app.state.services = replace(services, predictions=away, control=away, changes=away, follower=follower)
    await predict(client, "mood", ["good"])
    for response in (
        await client.get("/v1/predictions"),
        await client.get(f"/v1/predictions/{a_record().id}"),
        await client.get("/v1/models/clothes/history"),
        await client.put(ALIAS, json={"version": "2"}),
    ):
        assert problem_of(response)["type"] == "urn:servoloop:problem:store-unavailable"
        assert response.headers["retry-after"]
