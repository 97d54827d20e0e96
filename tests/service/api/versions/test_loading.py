"""Loads, reloads, and aliases that wait for them: what is answered while they are done."""

import asyncio
from dataclasses import replace

import httpx
import pytest

from service.domain import Loading, Precision, Wish
from service.registry.fleet import EngineInfo, Standing, VersionState, View
from service.store.base import WishChange
from tests.fakes import FakeFleet
from tests.patience import PATIENCE
from tests.service.api.support import CountingEngine, Supervised, loaded, problem_of, unloaded
from tests.service.api.versions.support import (
    CHAMPION,
    ON_DEMAND,
    OTHER,
    PATH,
    PATIENTLY,
    WITHOUT_WAITING,
    while_it_waits,
    wish_of,
)
from tests.stores import OpenStore


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
    async with asyncio.timeout(PATIENCE):
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


# Aliases


async def test_an_alias_moves_to_a_version_on_demand_once_that_is_loaded(
    client: httpx.AsyncClient, fleet: FakeFleet, engine: CountingEngine, store: OpenStore
) -> None:
    fleet.show(OTHER, ON_DEMAND)
    engine.ready = frozenset({CHAMPION})
    asked = asyncio.ensure_future(client.put("/v1/models/clothes/aliases/champion", json={"version": "2"}))
    async with asyncio.timeout(PATIENCE):
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
