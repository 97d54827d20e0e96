"""Unloads and deletions: what is answered while they are done, and what is not done."""

import asyncio
from dataclasses import replace

import httpx
import pytest

from service.domain import Loading, Wish
from tests.fakes import FakeFleet
from tests.service.api.support import CountingEngine, Supervised, problem_of, unloaded
from tests.service.api.versions.support import CHAMPION, OTHER, PATH, WITHOUT_WAITING, while_it_waits, wish_of
from tests.stores import OpenStore


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
