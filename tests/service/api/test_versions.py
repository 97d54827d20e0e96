"""What is wanted of versions, over HTTP, and what is answered while it is done."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.api.deps import Services
from service.domain import Loading, Precision, Ref, Wish
from service.errors import StoreUnavailable
from service.registry.catalog import Catalog
from service.registry.fleet import EngineInfo, Standing, VersionState, View
from service.serving.router import Router
from service.store.base import WishChange
from tests.fakes import FakeFleet
from tests.service.api.support import CountingEngine, Supervised, loaded, problem_of, unloaded
from tests.stores import OpenStore, found_in, open_store

CHAMPION, OTHER = Ref("clothes", 1), Ref("clothes", 2)
PATH = "/v1/models/clothes/versions/2"
ON_DEMAND = Standing(VersionState.ON_DEMAND, "")
WITHOUT_WAITING = {"wait_ms": 0}
PATIENTLY = {"wait_ms": 300_000}


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> OpenStore:
    """Of each test's own, with every version seen."""
    opened = open_store(tmp_path_factory.mktemp("store"))
    opened.control.crown_new_models(found_in(catalog))
    return opened


@pytest.fixture
def router(catalog: Catalog) -> Router:
    return Router(catalog)


@pytest.fixture
def slow(supervised: Supervised) -> Supervised:
    """A supervisor that does nothing before the test says so."""
    supervised.slow = True
    return supervised


async def while_it_waits(asked: Awaitable[httpx.Response], store: OpenStore, before: int) -> asyncio.Task[Any]:
    """The request under way, once its change is in the store."""
    task = asyncio.ensure_future(asked)
    async with asyncio.timeout(20):
        while store.control.revision() == before:
            await asyncio.sleep(0.002)
    assert not task.done()
    return task  # type: ignore[return-value]


def wish_of(store: OpenStore, ref: Ref = OTHER) -> Wish:
    return store.control.state().wishes.get(ref, Wish())


async def test_a_version_says_where_it_stands_and_what_is_wanted_of_it(
    client: httpx.AsyncClient, services: Services, store: OpenStore, fleet: FakeFleet
) -> None:
    wish = store.control.change_wish(OTHER, WishChange(Loading.PINNED, 2, Precision.BFLOAT16))
    await services.follower.refresh()
    fleet.show(OTHER, loaded(wish))
    shown = (await client.get(PATH)).json()
    assert shown == (await client.get("/v1/models/clothes")).json()["versions"][1]
    names = ("version", "state", "ready", "pinned", "replicas", "precision", "engines", "resident_bytes")
    assert [shown[name] for name in names] == ["2", "loaded", True, True, 2, "bfloat16", ["engine-0"], 4096]


@pytest.mark.parametrize(
    ("standing", "reason"),
    [
        (ON_DEMAND, "it is loaded when it is asked for"),
        (unloaded(), "an operator wants it unloaded"),
        (Standing(VersionState.NO_ROOM, ""), "no device has room for it"),
        (Standing(VersionState.FAILED, "", "its weights hold NaN"), "its weights hold NaN"),
    ],
)
async def test_a_version_that_is_not_loaded_says_why(
    client: httpx.AsyncClient, fleet: FakeFleet, standing: Standing, reason: str
) -> None:
    fleet.show(OTHER, replace(standing, num_bytes=0))
    shown = (await client.get(PATH)).json()
    assert (shown["state"], shown["ready"], shown["reason"]) == (standing.state, False, reason)
    assert (shown["engines"], shown["resident_bytes"]) == ([], None)


async def test_a_version_that_the_supervisor_has_not_told_of_is_on_its_way(
    client: httpx.AsyncClient, fleet: FakeFleet, engine: CountingEngine
) -> None:
    fleet.show(OTHER, None)
    engine.ready = frozenset()
    assert (await client.get(PATH)).json()["state"] == "loading"


# Loading


async def test_a_load_answers_once_the_version_is_loaded(
    client: httpx.AsyncClient, slow: Supervised, store: OpenStore, fleet: FakeFleet
) -> None:
    fleet.show(OTHER, unloaded())
    store.control.change_wish(OTHER, WishChange(Loading.UNLOADED))
    before = store.control.revision()
    asked = await while_it_waits(client.post(f"{PATH}/load", json=PATIENTLY), store, before)
    fleet.show(OTHER, Standing(VersionState.LOADING, ""))
    await asyncio.sleep(0)
    assert not asked.done()
    fleet.show(OTHER, loaded())
    response = await asked
    assert (response.status_code, response.json()["state"]) == (200, "loaded")
    assert set(fleet.wanted) == {OTHER}
    assert wish_of(store) == Wish()


async def test_a_load_without_a_body_changes_nothing_that_was_wished(
    client: httpx.AsyncClient, store: OpenStore
) -> None:
    wish = store.control.change_wish(OTHER, WishChange(Loading.PINNED, 1, Precision.FLOAT16))
    response = await client.post(f"{PATH}/load")
    assert (response.status_code, response.json()["pinned"]) == (200, True)
    assert wish_of(store) == wish


async def test_a_load_says_how_the_version_is_wanted(client: httpx.AsyncClient, store: OpenStore) -> None:
    response = await client.post(f"{PATH}/load", json={"pinned": True, "precision": "bfloat16"})
    assert (response.status_code, response.json()["pinned"], response.json()["precision"]) == (200, True, "bfloat16")
    assert wish_of(store) == Wish(Loading.PINNED, 1, Precision.BFLOAT16, generation=1)
    response = await client.post(f"{PATH}/load", json={"pinned": False})
    assert (response.json()["pinned"], response.json()["precision"]) == (False, "bfloat16")


async def test_more_replicas_than_devices_are_not_waited_for(
    client: httpx.AsyncClient, slow: Supervised, fleet: FakeFleet, store: OpenStore
) -> None:
    response = await client.post(f"{PATH}/load", json={"replicas": 9})
    assert (response.status_code, response.json()["replicas"]) == (200, 9)
    engines = tuple(EngineInfo(f"engine-{number}", "") for number in range(2))
    fleet.view = View(0, engines, fleet.view.versions)
    response = await client.post(f"{PATH}/load", json=WITHOUT_WAITING)
    assert response.status_code == 202
    fleet.show(OTHER, replace(loaded(), slots=("engine-0", "engine-1")))
    assert (await client.post(f"{PATH}/load", json=WITHOUT_WAITING)).status_code == 200


async def test_what_takes_longer_than_the_caller_waits_is_202_and_goes_on(
    client: httpx.AsyncClient, slow: Supervised, fleet: FakeFleet, store: OpenStore
) -> None:
    fleet.show(OTHER, ON_DEMAND)
    for body, headers in ((WITHOUT_WAITING, {}), ({"wait_ms": 20}, {}), (PATIENTLY, {"X-Request-Timeout-Ms": "20"})):
        response = await client.post(f"{PATH}/load", json={**body, "pinned": True}, headers=headers)
        assert (response.status_code, response.json()["state"]) == (202, "on_demand")
        assert response.json()["pinned"] is True
    assert wish_of(store).loading is Loading.PINNED


@pytest.mark.parametrize("state", [VersionState.FAILED, VersionState.NO_ROOM])
async def test_a_load_that_fails_is_503_with_the_reason(
    client: httpx.AsyncClient, slow: Supervised, store: OpenStore, fleet: FakeFleet, state: VersionState
) -> None:
    fleet.show(OTHER, ON_DEMAND)
    store.control.change_wish(OTHER, WishChange(Loading.PINNED))
    before = store.control.revision()
    asked = await while_it_waits(client.post(f"{PATH}/load", json={"pinned": False}), store, before)
    fleet.show(OTHER, Standing(state, "", "it needs 9 GB, and the largest device has 8"))
    problem = problem_of(await asked)
    assert (problem["status"], problem["type"]) == (503, "urn:servoloop:problem:not-ready")
    assert problem["detail"] == "clothes/2 is not ready: it needs 9 GB, and the largest device has 8"
    assert asked.result().headers["retry-after"] == "30", "it does not pass by itself"


async def test_what_failed_before_is_tried_again_and_not_mistaken_for_the_outcome(
    client: httpx.AsyncClient, slow: Supervised, store: OpenStore, fleet: FakeFleet
) -> None:
    fleet.show(OTHER, Standing(VersionState.FAILED, "", "out of memory"))
    before = store.control.revision()
    asked = await while_it_waits(client.post(f"{PATH}/load"), store, before)
    wish = wish_of(store)
    assert wish.generation == 1
    fleet.show(OTHER, loaded(wish))
    assert (await asked).status_code == 200


async def test_a_reload_is_done_when_the_new_generation_is_loaded(
    client: httpx.AsyncClient, slow: Supervised, store: OpenStore, fleet: FakeFleet
) -> None:
    before = store.control.revision()
    asked = await while_it_waits(client.post(f"{PATH}/reload"), store, before)
    fleet.show(OTHER, replace(loaded(), num_bytes=5000))  # still the old one
    await asyncio.sleep(0.01)
    assert not asked.done()
    fleet.show(OTHER, loaded(wish_of(store)))
    assert (await asked).status_code == 200
    assert set(fleet.wanted) == {OTHER}


async def test_a_reload_that_fails_says_why_although_the_old_replica_answers(
    client: httpx.AsyncClient, slow: Supervised, store: OpenStore, fleet: FakeFleet
) -> None:
    fleet.show(OTHER, replace(loaded(), reason="what went wrong last time"))
    asked = await while_it_waits(client.post(f"{PATH}/reload"), store, store.control.revision())
    await asyncio.sleep(0.01)
    assert not asked.done()
    fleet.show(OTHER, replace(loaded(), wished=1, reason="its sha256 differs"))
    problem = problem_of(await asked)
    assert problem["status"] == 503
    assert "answers as before: its sha256 differs" in problem["detail"]


async def test_a_version_that_could_not_be_loaded_anew_says_so_although_it_answers(
    client: httpx.AsyncClient, fleet: FakeFleet
) -> None:
    fleet.show(OTHER, replace(loaded(), reason="its sha256 differs"))
    shown = (await client.get(PATH)).json()
    assert (shown["state"], shown["ready"], shown["reason"]) == ("loaded", True, "its sha256 differs")


@pytest.mark.parametrize("verb", ["load", "alias"])
async def test_a_version_is_asked_for_as_long_as_it_is_waited_for(
    client: httpx.AsyncClient, slow: Supervised, fleet: FakeFleet, engine: CountingEngine, verb: str
) -> None:
    fleet.show(OTHER, ON_DEMAND)
    engine.ready = frozenset({CHAMPION})
    asked = asyncio.ensure_future(
        client.post(f"{PATH}/load", json=PATIENTLY)
        if verb == "load"
        else client.put("/v1/models/clothes/aliases/champion", json={"version": "2"})
    )
    async with asyncio.timeout(20):
        while len(fleet.wanted) < 4:
            await asyncio.sleep(0.002)
    engine.ready = frozenset({CHAMPION, OTHER})
    fleet.show(OTHER, loaded())
    assert (await asked).status_code == 200
    asked_for = len(fleet.wanted)
    await asyncio.sleep(0.1)
    assert len(fleet.wanted) == asked_for


@pytest.mark.parametrize(
    ("devices", "status"), [(["cpu"], 422), (["cpu", "cpu"], 422), (["cpu", "cuda:1"], 200), ([""], 200), ([], 200)]
)
async def test_float16_is_refused_where_no_device_computes_in_it(
    client: httpx.AsyncClient, store: OpenStore, fleet: FakeFleet, devices: list[str], status: int
) -> None:
    engines = tuple(EngineInfo(f"engine-{number}", "", device) for number, device in enumerate(devices))
    fleet.view = View(0, engines, fleet.view.versions)
    before = store.control.state()
    response = await client.post(f"{PATH}/load", json={"precision": "float16"})
    assert response.status_code == status
    if status == 422:
        problem = problem_of(response)
        assert (problem["field"], problem["expected"]) == ("body.precision", "float32 or bfloat16")
        assert store.control.state() == before


async def test_a_load_tries_again_what_could_not_be_loaded_anew(
    client: httpx.AsyncClient, slow: Supervised, store: OpenStore, fleet: FakeFleet
) -> None:
    fleet.show(OTHER, replace(loaded(), reason="its sha256 differs"))
    asked = await while_it_waits(client.post(f"{PATH}/load"), store, store.control.revision())
    wish = wish_of(store)
    assert wish.generation == 1
    fleet.show(OTHER, loaded(wish))
    assert (await asked).status_code == 200


async def test_a_load_is_not_done_before_the_engine_answers(
    client: httpx.AsyncClient, engine: CountingEngine, store: OpenStore
) -> None:
    engine.ready = frozenset({CHAMPION})
    before = store.control.revision()
    asked = await while_it_waits(client.post(f"{PATH}/load", json={"pinned": True}), store, before)
    await asyncio.sleep(0.01)
    assert not asked.done()
    engine.ready = frozenset({CHAMPION, OTHER})  # no new view says so
    assert (await asked).status_code == 200


# Unloading


async def test_an_unload_answers_once_no_device_has_the_version(
    client: httpx.AsyncClient, slow: Supervised, store: OpenStore, fleet: FakeFleet
) -> None:
    asked = await while_it_waits(client.post(f"{PATH}/unload"), store, store.control.revision())
    fleet.show(OTHER, replace(unloaded(), slots=("engine-0",)))  # it answers what waits in its queue
    await asyncio.sleep(0.01)
    assert not asked.done()
    fleet.show(OTHER, unloaded())
    response = await asked
    assert (response.status_code, response.json()["state"], response.json()["engines"]) == (200, "unloaded", [])
    assert wish_of(store) == Wish(Loading.UNLOADED)


async def test_what_an_alias_names_is_neither_unloaded_nor_deleted(client: httpx.AsyncClient, store: OpenStore) -> None:
    before = store.control.state()
    champion = "/v1/models/clothes/versions/1"
    for response in (await client.post(f"{champion}/unload"), await client.delete(champion)):
        problem = problem_of(response)
        assert (problem["status"], problem["type"]) == (409, "urn:servoloop:problem:version-in-use")
        assert "champion" in problem["detail"]
        assert "name another version first" in problem["detail"]
    assert store.control.state() == before


async def test_an_unloaded_version_is_not_reloaded_and_gets_no_alias(
    client: httpx.AsyncClient, store: OpenStore, engine: CountingEngine
) -> None:
    await client.post(f"{PATH}/unload")
    alias = "/v1/models/clothes/aliases/champion"
    # Whether this process has heard of it yet or not.
    responses = [await client.post(f"{PATH}/reload"), await client.put(alias, json={"version": "2"})]
    engine.ready = frozenset({CHAMPION})
    responses.append(await client.put(alias, json={"version": "2"}))
    for response in responses:
        problem = problem_of(response)
        assert (problem["status"], problem["type"]) == (409, "urn:servoloop:problem:version-unloaded")
        assert problem["detail"].endswith("load it first")
    assert store.control.aliases()["clothes"] == {"champion": 1}


# Aliases


async def test_an_alias_moves_to_a_version_on_demand_once_that_is_loaded(
    client: httpx.AsyncClient, fleet: FakeFleet, engine: CountingEngine, store: OpenStore
) -> None:
    fleet.show(OTHER, ON_DEMAND)
    engine.ready = frozenset({CHAMPION})
    asked = asyncio.ensure_future(client.put("/v1/models/clothes/aliases/champion", json={"version": "2"}))
    async with asyncio.timeout(20):
        while not fleet.wanted:
            await asyncio.sleep(0.002)
    assert set(fleet.wanted) == {OTHER}
    assert store.control.aliases()["clothes"] == {"champion": 1}
    engine.ready = frozenset({CHAMPION, OTHER})
    fleet.show(OTHER, loaded())
    assert (await asked).status_code == 200
    assert store.control.aliases()["clothes"] == {"champion": 2}


async def test_an_alias_does_not_move_to_what_can_t_be_loaded(
    client: httpx.AsyncClient, fleet: FakeFleet, engine: CountingEngine, store: OpenStore
) -> None:
    fleet.show(OTHER, Standing(VersionState.NO_ROOM, "", "it needs 9 GB"))
    engine.ready = frozenset({CHAMPION})
    problem = problem_of(await client.put("/v1/models/clothes/aliases/champion", json={"version": "2"}))
    assert (problem["status"], problem["detail"]) == (503, "clothes/2 is not ready: it needs 9 GB")
    assert store.control.aliases()["clothes"] == {"champion": 1}


# Deletion


async def test_a_deleted_version_is_answered_for_once_no_device_has_it(
    client: httpx.AsyncClient, slow: Supervised, store: OpenStore, fleet: FakeFleet, engine: CountingEngine
) -> None:
    asked = await while_it_waits(client.delete(PATH), store, store.control.revision())
    fleet.show(OTHER, None)
    await asyncio.sleep(0.01)
    assert not asked.done(), "its engine answers still"
    engine.ready = frozenset({CHAMPION})
    response = await asked
    assert (response.status_code, response.json()) == (200, {"model": "clothes", "versions": ["2"], "unloaded": True})
    assert store.control.state().to_remove == {OTHER}


async def test_a_deletion_may_be_left_to_itself(
    client: httpx.AsyncClient, slow: Supervised, store: OpenStore, fleet: FakeFleet
) -> None:
    response = await client.delete(PATH, params=WITHOUT_WAITING)
    assert (response.status_code, response.json()["unloaded"]) == (202, False)
    assert problem_of(await client.delete(PATH))["status"] == 404


async def test_a_deleted_model_loses_every_version_and_alias(
    client: httpx.AsyncClient, store: OpenStore, engine: CountingEngine
) -> None:
    engine.ready = frozenset()
    response = await client.delete("/v1/models/clothes")
    assert response.json() == {"model": "clothes", "versions": ["1", "2"], "unloaded": True}
    state = store.control.state()
    assert state.deleted == {CHAMPION, OTHER}
    assert "clothes" not in state.aliases


@pytest.mark.parametrize("path", ["/v1/models/mood", "/v1/models/mood/versions/1"])
async def test_what_is_shipped_is_not_deleted(client: httpx.AsyncClient, store: OpenStore, path: str) -> None:
    before = store.control.state()
    problem = problem_of(await client.delete(path))
    assert (problem["status"], problem["type"]) == (409, "urn:servoloop:problem:not-removable")
    assert "only registered versions can be deleted" in problem["detail"]
    assert store.control.state() == before


# What is wrong


@pytest.mark.parametrize(
    ("verb", "body", "status", "field"),
    [
        ("load", b"{", 400, "body"),
        ("load", b"\xff", 400, "body"),
        ("load", b"[]", 422, "body"),
        ("load", b"null", 422, "body"),
        ("load", b'{"pin": true}', 422, "body.pin"),
        ("load", b'{"pinned": 1}', 422, "body.pinned"),
        ("load", b'{"pinned": "true"}', 422, "body.pinned"),
        ("load", b'{"replicas": 0}', 422, "body.replicas"),
        ("load", b'{"replicas": 257}', 422, "body.replicas"),
        ("load", b'{"replicas": 1.5}', 422, "body.replicas"),
        ("load", b'{"replicas": "2"}', 422, "body.replicas"),
        ("load", b'{"precision": "int8"}', 422, "body.precision"),
        ("load", b'{"precision": 16}', 422, "body.precision"),
        ("load", b'{"wait_ms": -1}', 422, "body.wait_ms"),
        ("load", b'{"wait_ms": 300001}', 422, "body.wait_ms"),
        ("load", b'{"wait_ms": NaN}', 422, "body.wait_ms"),
        ("load", b'{"wait_ms": true}', 422, "body.wait_ms"),
        ("load", b'{"wait_ms": null}', 422, "body.wait_ms"),
        ("load", b'{"wait_ms": %s0}' % (20_000 * b" "), 413, "body"),
        ("unload", b'{"pinned": true}', 422, "body.pinned"),
        ("unload", b"{", 400, "body"),
        ("reload", b'{"precision": "float16"}', 422, "body.precision"),
        ("reload", b'{"wait_ms": "1"}', 422, "body.wait_ms"),
    ],
)
async def test_a_body_that_is_wrong_says_where_and_what_was_expected(
    client: httpx.AsyncClient, store: OpenStore, verb: str, body: bytes, status: int, field: str
) -> None:
    before = store.control.state()
    problem = problem_of(await client.post(f"{PATH}/{verb}", content=body))
    assert (problem["status"], problem["field"]) == (status, field)
    assert problem["expected"]
    assert store.control.state() == before


@pytest.mark.parametrize("wait", ["-1", "300001", "NaN", "inf", "soon", ""])
@pytest.mark.parametrize("path", [PATH, "/v1/models/clothes"])
async def test_a_wait_that_is_none_deletes_nothing(
    client: httpx.AsyncClient, store: OpenStore, path: str, wait: str
) -> None:
    problem = problem_of(await client.delete(path, params={"wait_ms": wait}))
    assert (problem["status"], problem["field"]) == (422, "query.wait_ms")
    assert problem["expected"]
    assert store.control.state().deleted == frozenset()


@pytest.mark.parametrize(("method", "tail"), [("GET", ""), ("DELETE", ""), ("POST", "/load"), ("POST", "/unload")])
async def test_what_is_unknown_is_404(client: httpx.AsyncClient, method: str, tail: str) -> None:
    for path, field in (
        ("nobody/versions/1", "model"),
        ("clothes/versions/9", "version"),
        ("clothes/versions/02", "version"),
        ("clothes/versions/-1", "version"),
        ("clothes/versions/champion", "version"),
    ):
        problem = problem_of(await client.request(method, f"/v1/models/{path}{tail}"))
        assert (problem["status"], problem["field"]) == (404, field)


async def test_a_malformed_timeout_changes_nothing(client: httpx.AsyncClient, store: OpenStore) -> None:
    before = store.control.state()
    headers = {"X-Request-Timeout-Ms": "soon"}
    for response in (
        await client.post(f"{PATH}/load", json={"pinned": True}, headers=headers),
        await client.post(f"{PATH}/unload", headers=headers),
        await client.delete(PATH, headers=headers),
        await client.delete("/v1/models/clothes", headers=headers),
    ):
        assert problem_of(response)["field"] == "X-Request-Timeout-Ms"
    assert store.control.state() == before


class Away:
    """A store that does not answer."""

    def __getattr__(self, name: str) -> Any:
        raise StoreUnavailable("it is away")


async def test_while_the_store_is_away_nothing_is_changed(
    client: httpx.AsyncClient, app: FastAPI, services: Services, fleet: FakeFleet
) -> None:
    app.state.services = replace(services, changes=Away())  # type: ignore[arg-type]
    for response in (
        await client.post(f"{PATH}/load"),
        await client.post(f"{PATH}/reload"),
        await client.post(f"{PATH}/unload"),
        await client.delete(PATH),
        await client.delete("/v1/models/clothes"),
    ):
        assert problem_of(response)["type"] == "urn:servoloop:problem:store-unavailable"
        assert response.headers["retry-after"]
    assert fleet.wanted == []
