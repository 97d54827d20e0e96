"""Versions on trial over HTTP."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.api.deps import Services
from service.api.rollout_schemas import AliasHistory, DecisionInfo, RolloutInfo
from service.domain import Ref, Stage
from service.errors import StoreUnavailable
from service.registry.catalog import Catalog
from service.serving.router import Router
from service.store.following import StateFollower
from tests.service.api.support import CountingEngine, keeps_to, problem_of
from tests.stores import OpenStore, open_seen

MODEL = "/v1/models/clothes"
ROLLOUT = f"{MODEL}/rollout"
SHADOW = {"version": "2", "stage": "shadow", "share": 0.5, "reason": "try it"}
CANARY = {**SHADOW, "stage": "canary", "share": 1.0}
PIXELS = [[0] * 28] * 28
BEGUN = b'{"version": "2", "stage": "canary", "share": 1, %s}'


def nested(depth: int) -> bytes:
    return depth * b"[" + depth * b"]"


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> OpenStore:
    """Of each test's own, with every version seen."""
    return open_seen(tmp_path_factory.mktemp("store"), catalog)


@pytest.fixture
def router(catalog: Catalog) -> Router:
    return Router(catalog)


async def version_of(client: httpx.AsyncClient, path: str = MODEL, **headers: str) -> str:
    response = await client.post(f"{path}/predict", json={"instances": [PIXELS]}, headers=headers)
    assert response.status_code == 200
    version: str = response.json()["version"]
    return version


async def test_a_trial_is_begun_shown_changed_and_ended_by_a_promotion(client: httpx.AsyncClient) -> None:
    response = await client.put(ROLLOUT, json={**SHADOW, "policy": {"alpha": 0.05}})
    assert response.status_code == 200
    begun = response.json()
    assert keeps_to(RolloutInfo, begun)
    began = datetime.fromisoformat(begun.pop("began"))
    assert (began.tzinfo, datetime.fromisoformat(begun.pop("stage_began"))) == (UTC, began)
    assert begun == {
        "model": "clothes",
        "version": "2",
        "stage": "shadow",
        "share": 0.5,
        "paused": False,
        "policy": {"alpha": 0.05},
        "actor": "anonymous",
        "reason": "try it",
    }
    assert (await client.get(MODEL)).json()["aliases"]["challenger"] == "2"
    assert await version_of(client) == "1"
    changed = (await client.put(ROLLOUT, json={**CANARY, "expected_stage": "shadow"})).json()
    assert (changed["stage"], changed["share"], changed["policy"]) == ("canary", 1.0, {"alpha": 0.05})
    assert (await client.get(ROLLOUT)).json() == changed
    assert await version_of(client) == "2"
    promoted = (await client.post(f"{MODEL}/promote", json={"reason": "it is better", "expected": "1"})).json()
    assert keeps_to(DecisionInfo, promoted)
    assert (promoted["kind"], promoted["actor"], promoted["reason"]) == ("promoted", "anonymous", "it is better")
    assert promoted["before"]["champion"] == "1"
    assert promoted["before"]["rollout"]["version"] == "2"
    assert promoted["after"] == {"champion": "2", "rollout": None}
    assert (await client.get(MODEL)).json()["aliases"] == {"champion": "2"}
    assert await version_of(client) == "2"
    problem = problem_of(await client.get(ROLLOUT))
    assert (problem["status"], problem["type"]) == (404, "urn:servoloop:problem:no-rollout")


async def test_a_rollback_ends_the_trial_and_then_goes_back_to_the_champion_before(client: httpx.AsyncClient) -> None:
    await client.put(ROLLOUT, json=CANARY)
    assert await version_of(client) == "2"
    decided = (await client.post(f"{MODEL}/rollback", json={"reason": "it is worse", "expected": "2"})).json()
    assert (decided["kind"], decided["after"]) == ("rolled_back", {"champion": "1", "rollout": None})
    assert await version_of(client) == "1"
    await client.post(f"{MODEL}/promote", json={"version": "2"})
    assert await version_of(client) == "2"
    assert (await client.post(f"{MODEL}/rollback")).json()["after"]["champion"] == "1"
    assert await version_of(client) == "1"
    assert problem_of(await client.post(f"{MODEL}/rollback"))["type"] == "urn:servoloop:problem:nothing-to-roll-back"


async def test_the_history_has_the_moves_and_the_decisions(client: httpx.AsyncClient) -> None:
    await client.put(ROLLOUT, json=SHADOW)
    await client.post(f"{MODEL}/promote", json={"reason": "it is better"})
    history = (await client.get(f"{MODEL}/history")).json()
    assert keeps_to(AliasHistory, history)
    assert [(one["alias"], one["version"]) for one in history["history"]] == [
        ("champion", "2"),
        ("challenger", "2"),
        ("champion", "1"),
    ]
    assert [(one["kind"], one["reason"]) for one in history["decisions"]] == [
        ("promoted", "it is better"),
        ("rollout_began", "try it"),
    ]
    assert history["decisions"][0]["revision"] == history["history"][0]["revision"]
    assert len((await client.get(f"{MODEL}/history?limit=1")).json()["decisions"]) == 1


async def test_a_policy_as_deep_as_it_may_be_is_kept_and_shown(client: httpx.AsyncClient) -> None:
    response = await client.put(ROLLOUT, content=BEGUN % (b'"policy": {"a": %s}' % nested(150)))
    assert response.status_code == 200
    for path in (ROLLOUT, f"{MODEL}/history"):
        assert nested(150) in (await client.get(path)).content


async def test_a_paused_trial_leaves_all_to_the_champion_until_it_goes_on(client: httpx.AsyncClient) -> None:
    await client.put(ROLLOUT, json=CANARY)
    await client.put(ROLLOUT, json={"version": "2", "paused": True})
    assert await version_of(client) == "1"
    assert (await client.get(ROLLOUT)).json()["share"] == 1.0
    await client.put(ROLLOUT, json={"version": "2", "paused": False})
    assert await version_of(client) == "2"


async def test_a_key_of_the_header_meets_one_version_and_who_names_one_gets_it(client: httpx.AsyncClient) -> None:
    await client.put(ROLLOUT, json={**CANARY, "share": 0.5})
    for key in map(str, range(8)):
        assert len({await version_of(client, **{"X-Routing-Key": key}) for _ in range(3)}) == 1
        assert await version_of(client, f"{MODEL}/versions/1", **{"X-Routing-Key": key}) == "1"
        assert await version_of(client, f"{MODEL}/aliases/challenger", **{"X-Routing-Key": key}) == "2"
    assert {await version_of(client, **{"X-Routing-Key": key}) for key in map(str, range(40))} == {"1", "2"}


@pytest.mark.parametrize("wanted", [{}, {"stage": "canary"}, {"share": 0.5}, {"paused": True}])
async def test_a_trial_that_is_not_there_is_not_changed(client: httpx.AsyncClient, wanted: dict[str, Any]) -> None:
    problem = problem_of(await client.put(ROLLOUT, json={"version": "2", **wanted}))
    assert (problem["status"], problem["type"]) == (404, "urn:servoloop:problem:no-rollout")
    assert "a trial begins with a version, a stage and a share" in problem["detail"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("PUT", ROLLOUT, b"{", 400, "body"),
        ("PUT", ROLLOUT, b"", 400, "body"),
        ("PUT", ROLLOUT, b"[]", 422, "body"),
        ("PUT", ROLLOUT, b"{}", 422, "body.version"),
        ("PUT", ROLLOUT, b'{"version": 2}', 422, "body.version"),
        ("PUT", ROLLOUT, b'{"version": "2", "stage": "half"}', 422, "body.stage"),
        ("PUT", ROLLOUT, b'{"version": "2", "stage": "canary", "share": 1.01}', 422, "body.share"),
        ("PUT", ROLLOUT, b'{"version": "2", "stage": "canary", "share": -0.1}', 422, "body.share"),
        ("PUT", ROLLOUT, b'{"version": "2", "stage": "canary", "share": NaN}', 422, "body.share"),
        ("PUT", ROLLOUT, b'{"version": "2", "stage": "canary", "share": "1"}', 422, "body.share"),
        ("PUT", ROLLOUT, BEGUN % (b'"policy": {"a": %s}' % nested(240)), 400, "body"),
        ("PUT", ROLLOUT, BEGUN % b'"paused": 1', 422, "body.paused"),
        ("PUT", ROLLOUT, BEGUN % b'"policy": []', 422, "body.policy"),
        ("PUT", ROLLOUT, BEGUN % b'"policy": {"a": 1e999}', 422, "body.policy"),
        ("PUT", ROLLOUT, BEGUN % b'"policy": {"a": "\\u0000"}', 422, "body.policy"),
        ("PUT", ROLLOUT, BEGUN % (b'"policy": {"a": 1%s}' % (30 * b"0")), 422, "body.policy"),
        ("PUT", ROLLOUT, BEGUN % b'"reason": "a\\u0000b"', 422, "body.reason"),
        ("PUT", ROLLOUT, b'{"version": "2", "stage": "canary", "shares": 1}', 422, "body.shares"),
        ("PUT", ROLLOUT, b'{"version": "9", "stage": "canary", "share": 1}', 404, "version"),
        ("PUT", "/v1/models/nobody/rollout", b'{"version": "2", "stage": "canary", "share": 1}', 404, "model"),
        ("GET", "/v1/models/nobody/rollout", b"", 404, "model"),
        ("POST", f"{MODEL}/promote", b'{"version": "09"}', 422, "body.version"),
        ("POST", f"{MODEL}/promote", b'{"version": "9"}', 404, "version"),
        ("POST", f"{MODEL}/promote", b'{"expect": "1"}', 422, "body.expect"),
        ("POST", "/v1/models/nobody/promote", b"{}", 404, "model"),
        ("POST", f"{MODEL}/rollback", b'{"expected": 1}', 422, "body.expected"),
        ("POST", "/v1/models/nobody/rollback", b"", 404, "model"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_said_and_changes_nothing(
    client: httpx.AsyncClient, store: OpenStore, method: str, path: str, body: bytes, status: int, field: str
) -> None:
    problem = problem_of(await client.request(method, path, content=body))
    assert (problem["status"], problem["field"]) == (status, field)
    assert store.control.revision() == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "kind"),
    [
        ("PUT", ROLLOUT, {**SHADOW, "version": "1"}, "rollout-under-way"),
        ("PUT", ROLLOUT, {"version": "2", "share": 0.1, "expected_stage": "canary"}, "rollout-under-way"),
        ("PUT", f"{MODEL}/aliases/champion", {"version": "2"}, "rollout-under-way"),
        ("POST", f"{MODEL}/promote", {"expected": "2"}, "alias-moved"),
        ("POST", f"{MODEL}/promote", {"version": "1"}, "rollout-under-way"),
        ("POST", f"{MODEL}/rollback", {"expected": "1"}, "alias-moved"),
        ("POST", f"{MODEL}/versions/2/unload", {}, "version-in-use"),
    ],
)
async def test_what_is_not_as_expected_is_a_conflict(
    client: httpx.AsyncClient, store: OpenStore, method: str, path: str, body: dict[str, Any], kind: str
) -> None:
    await client.put(ROLLOUT, json=SHADOW)
    before = store.control.state()
    problem = problem_of(await client.request(method, path, json=body))
    assert (problem["status"], problem["type"]) == (409, f"urn:servoloop:problem:{kind}")
    assert store.control.state() == before


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("PUT", ROLLOUT, {**SHADOW, "version": "1"}, 409, "already-champion"),
        ("PUT", ROLLOUT, {**SHADOW, "expected_stage": "shadow"}, 404, "no-rollout"),
        ("POST", f"{MODEL}/promote", {}, 404, "no-rollout"),
        ("POST", f"{MODEL}/promote", {"version": "1"}, 409, "already-champion"),
        ("POST", f"{MODEL}/rollback", {}, 409, "nothing-to-roll-back"),
    ],
)
async def test_without_a_trial_there_is_nothing_to_end(
    client: httpx.AsyncClient, method: str, path: str, body: dict[str, Any], status: int, kind: str
) -> None:
    problem = problem_of(await client.request(method, path, json=body))
    assert (problem["status"], problem["type"]) == (status, f"urn:servoloop:problem:{kind}")


async def test_a_version_that_is_not_loaded_is_neither_tried_nor_promoted(
    client: httpx.AsyncClient, engine: CountingEngine, store: OpenStore
) -> None:
    engine.ready = frozenset({Ref("clothes", 1)})
    headers = {"X-Request-Timeout-Ms": "20"}
    for response in (
        await client.put(ROLLOUT, json=SHADOW, headers=headers),
        await client.post(f"{MODEL}/promote", json={"version": "2"}, headers=headers),
    ):
        assert problem_of(response)["type"] == "urn:servoloop:problem:not-ready"
    assert store.control.revision() == 1


async def test_going_back_loads_the_champion_before_first(
    client: httpx.AsyncClient, engine: CountingEngine, store: OpenStore
) -> None:
    await client.post(f"{MODEL}/promote", json={"version": "2"})
    engine.ready = frozenset({Ref("clothes", 2)})
    response = await client.post(f"{MODEL}/rollback", headers={"X-Request-Timeout-Ms": "20"})
    assert problem_of(response)["type"] == "urn:servoloop:problem:not-ready"
    assert store.control.aliases()["clothes"] == {"champion": 2}


class Away:
    """A store that does not answer."""

    def __getattr__(self, name: str) -> Any:
        raise StoreUnavailable("it is away")


async def test_while_the_store_is_away_trials_go_on_and_none_is_changed(
    client: httpx.AsyncClient, app: FastAPI, services: Services, router: Router, store: OpenStore
) -> None:
    await client.put(ROLLOUT, json=CANARY)
    away: Any = Away()
    app.state.services = replace(services, control=away, changes=away, follower=StateFollower(away, router.use_state))
    assert await version_of(client) == "2"
    for response in (
        await client.put(ROLLOUT, json=CANARY),
        await client.get(ROLLOUT),
        await client.post(f"{MODEL}/promote", json={"version": "2"}),
        await client.post(f"{MODEL}/rollback"),
    ):
        assert problem_of(response)["type"] == "urn:servoloop:problem:store-unavailable"
    assert store.control.state().rollouts["clothes"].stage is Stage.CANARY
