import asyncio

import httpx
import pytest

from service.api.deps import Services
from service.domain import Loading, Ref
from service.registry.fleet import Standing, VersionState
from service.store.base import WishChange
from tests.fakes import FakeFleet
from tests.patience import PATIENCE
from tests.service.api.inference.support import error_of
from tests.service.api.support import CountingEngine, Supervised

CLOTHES = [Ref("clothes", 1), Ref("clothes", 2)]


async def index(client: httpx.AsyncClient, body: bytes = b"") -> dict[tuple[str, str], tuple[str, str]]:
    response = await client.post("/v2/repository/index", content=body)
    assert response.status_code == 200, response.text
    return {(one["name"], one["version"]): (one["state"], one["reason"]) for one in response.json()}


async def test_the_index_names_every_version(client: httpx.AsyncClient) -> None:
    found = await index(client)
    assert list(found) == [
        ("clothes", "1"), ("clothes", "2"), ("codes", "1"), ("mood", "1"), ("motion", "1"), ("rent", "1"),
        ("sensors", "1"), ("thumbnails", "1"),
    ]  # fmt: skip
    assert set(found.values()) == {("READY", "")}


@pytest.mark.parametrize(
    ("standing", "state", "reason"),
    [
        (Standing(VersionState.LOADING, ""), "LOADING", "its engine has not loaded it yet"),
        (Standing(VersionState.UNLOADED, ""), "UNAVAILABLE", "an operator wants it unloaded"),
        (Standing(VersionState.UNLOADED, "", None, ("engine-0",)), "UNLOADING", "an operator wants it unloaded"),
        (Standing(VersionState.ON_DEMAND, ""), "UNAVAILABLE", "it is loaded when it is asked for"),
        (Standing(VersionState.FAILED, "", "its weights are broken"), "UNAVAILABLE", "its weights are broken"),
    ],
)
async def test_the_index_says_where_a_version_stands(
    client: httpx.AsyncClient,
    engine: CountingEngine,
    fleet: FakeFleet,
    standing: Standing,
    state: str,
    reason: str,
) -> None:
    engine.ready -= {CLOTHES[1]}
    fleet.show(CLOTHES[1], standing)
    assert (await index(client))["clothes", "2"] == (state, reason)
    assert ("clothes", "2") not in await index(client, b'{"ready": true}')
    assert ("clothes", "1") in await index(client, b'{"ready": true}')


@pytest.mark.parametrize("body", [b'{"ready": "perhaps"}', b'{"ready": "yes"}', b'{"ready": 1}', b"[]", b"{"])
async def test_an_index_that_is_asked_for_wrongly(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/v2/repository/index", content=body)
    assert response.status_code == 400
    assert error_of(response)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"parameters": {"unload_dependents": true}}'])
async def test_a_model_is_unloaded_whole_and_loaded_again(
    client: httpx.AsyncClient, supervised: Supervised, body: bytes
) -> None:
    response = await client.post("/v2/repository/models/clothes/unload", content=body)
    assert (response.status_code, response.json()) == (200, {})
    wishes = supervised.store.control.state().wishes
    assert [wishes[ref].loading for ref in CLOTHES] == [Loading.UNLOADED] * 2
    response = await client.post("/v2/repository/models/clothes/load")
    assert (response.status_code, response.json()) == (200, {})
    assert not supervised.store.control.state().wishes


@pytest.mark.parametrize("name", ["config", "file:1/model.safetensors"])
async def test_what_comes_with_a_load_is_refused(client: httpx.AsyncClient, name: str) -> None:
    response = await client.post("/v2/repository/models/clothes/load", json={"parameters": {name: "{}"}})
    assert response.status_code == 501
    assert error_of(response).startswith(f"parameters.{name}: not supported; expected a checkpoint that is registered")


@pytest.mark.parametrize("verb", ["load", "unload"])
async def test_a_model_that_isnt_there(client: httpx.AsyncClient, verb: str) -> None:
    response = await client.post(f"/v2/repository/models/nobody/{verb}")
    assert response.status_code == 404
    assert error_of(response).startswith("there is no model named 'nobody'")


async def test_a_load_that_fails_says_why(
    client: httpx.AsyncClient, supervised: Supervised, engine: CountingEngine, fleet: FakeFleet
) -> None:
    supervised.slow = True
    engine.ready -= {CLOTHES[0]}
    fleet.show(CLOTHES[0], Standing(VersionState.FAILED, "", "its weights are broken", wished=1))
    response = await client.post("/v2/repository/models/clothes/load")
    assert response.status_code == 503
    assert error_of(response) == "clothes/1 is not ready: its weights are broken"


async def test_an_unload_that_takes_too_long_says_so(client: httpx.AsyncClient, supervised: Supervised) -> None:
    supervised.slow = True
    response = await client.post("/v2/repository/models/clothes/unload", headers={"X-Request-Timeout-Ms": "1"})
    assert response.status_code == 503
    assert "clothes is still being unloaded" in error_of(response)


async def test_an_unload_that_a_load_overtakes_waits_no_longer(
    client: httpx.AsyncClient, supervised: Supervised, services: Services
) -> None:
    supervised.slow = True
    asked = asyncio.create_task(client.post("/v2/repository/models/clothes/unload"))
    async with asyncio.timeout(PATIENCE):
        while supervised.store.control.state().wishes.keys() != set(CLOTHES):
            await asyncio.sleep(0.001)
    for ref in CLOTHES:
        await supervised.store.change_wish(ref, WishChange(load=True))
    await services.follower.take_up()
    response = await asyncio.wait_for(asked, PATIENCE)
    assert (response.status_code, response.json()) == (200, {})
