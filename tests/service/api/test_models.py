from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from service.api.deps import Services
from service.domain import Ref
from service.registry.catalog import CHANGED, Broken, Catalog
from service.registry.fleet import Standing, VersionState
from service.store.following import StateFollower
from tests.fakes import FakeFleet
from tests.service.api.support import CountingEngine, problem_of
from tests.stores import OpenStore, found_in, open_store


async def test_all_models_are_listed_by_name(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/models")).json()
    assert [model["name"] for model in body["models"]] == [
        "clothes",
        "codes",
        "mood",
        "motion",
        "rent",
        "sensors",
        "thumbnails",
    ]
    assert body["broken"] == []


async def test_a_model_says_what_it_takes_and_gives(client: httpx.AsyncClient, catalog: Catalog) -> None:
    body = (await client.get("/v1/models/clothes")).json()
    assert body["task"] == "multiclass"
    assert body["input"] == {"kind": "image", "channels": 1, "height": 28, "width": 28, "fit": "stretch"}
    assert body["content_types"] == ["application/json", "image/png", "image/jpeg", "image/webp", "application/x-npy"]
    assert body["labels"][9] == "Ankle boot"
    assert body["target"] is None
    assert body["aliases"] == {"champion": "1", "candidate": "2"}
    assert body["ready"] is True
    first, second = body["versions"]
    assert first == {
        "version": "1",
        "state": "loaded",
        "ready": True,
        "reason": None,
        "description": "",
        "architecture": "cnn",
        "digest": catalog.models["clothes"].versions[1].manifest.digest,
        "metrics": {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 100, "reason": None}},
        "pinned": False,
        "replicas": 1,
        "precision": "float32",
        "engines": ["engine-0"],
        "resident_bytes": 4096,
        "backend": {
            "name": "openvino",
            "precision": "bfloat16",
            "threads": 2,
            "reason": "it was measured",
            "pending": False,
        },
    }
    assert (second["version"], second["metrics"]) == ("2", {})


async def test_columns_and_target_come_with_their_units(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/models/rent")).json()
    assert body["input"]["columns"][0] == {"name": "area", "minimum": 0, "maximum": None, "unit": "square metres"}
    assert body["target"] == {"name": "rent", "unit": "EUR", "mean": 500, "std": 100}


@pytest.mark.parametrize("name", ["nobody", "Clothes", "..", "clothes/1"])
async def test_an_unknown_model_is_404(client: httpx.AsyncClient, name: str) -> None:
    assert problem_of(await client.get(f"/v1/models/{name}"))["status"] == 404


async def test_a_version_that_does_not_answer_says_why(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    engine.ready = frozenset({Ref("clothes", 2)})
    engine.failed = {Ref("clothes", 1): "it holds NaN"}
    body = (await client.get("/v1/models/clothes")).json()
    assert body["ready"] is False
    assert [(version["ready"], version["reason"]) for version in body["versions"]] == [
        (False, "it holds NaN"),
        (True, None),
    ]
    waiting = (await client.get("/v1/models/mood")).json()
    assert waiting["versions"][0]["reason"] == "its engine has not loaded it yet"


async def test_checkpoints_that_cannot_be_served_are_listed_with_their_reasons(
    client: httpx.AsyncClient, app: FastAPI, services: Services, fleet: FakeFleet, catalog: Catalog
) -> None:
    found_broken = Catalog(catalog.models, [Broken("old", "3", "weights.safetensors is missing")])
    app.state.services = replace(services, catalog=lambda: found_broken)
    fleet.show(Ref("mood", 1), Standing(VersionState.FAILED, "", "it holds NaN"))
    assert (await client.get("/v1/models")).json()["broken"] == [
        {"model": "old", "version": "3", "reason": "weights.safetensors is missing"},
        {"model": "mood", "version": "1", "reason": "it holds NaN"},
    ]


async def test_what_failed_and_is_not_wanted_any_more_is_not_broken(
    client: httpx.AsyncClient, fleet: FakeFleet, engine: CountingEngine
) -> None:
    engine.ready = frozenset()
    engine.failed = {Ref("mood", 1): "it holds NaN", Ref("gone", 1): "it holds NaN"}
    fleet.show(Ref("mood", 1), Standing(VersionState.UNLOADED, ""))
    assert (await client.get("/v1/models")).json()["broken"] == []


@pytest.fixture
async def followed(app: FastAPI, services: Services, catalog: Catalog, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """A store of the test's own, which the services have read."""
    store = open_store(tmp_path)
    store.control.crown_new_models(found_in(catalog))
    follower = StateFollower(store.control, lambda state: None)
    app.state.services = replace(services, follower=follower, changes=store, catalog=lambda: catalog)
    yield store
    store.close()


async def test_a_model_that_only_the_store_knows_is_listed_and_can_be_deleted(
    client: httpx.AsyncClient, app: FastAPI, followed: OpenStore
) -> None:
    followed.control.crown_new_models({"gone": {1: "d" * 64}})
    await app.state.services.follower.refresh()
    [broken] = (await client.get("/v1/models")).json()["broken"]
    assert (broken["model"], broken["version"]) == ("gone", "1")
    assert "files are missing" in broken["reason"]
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["broken"]) == (200, {"gone": broken["reason"]})
    response = await client.delete("/v1/models/gone")
    assert (response.status_code, response.json()) == (200, {"model": "gone", "versions": [], "unloaded": True})
    assert "gone" not in followed.control.aliases()
    assert (await client.get("/v1/models")).json()["broken"] == []
    assert (await client.delete("/v1/models/gone")).status_code == 404


async def test_a_folder_under_a_deleted_number_is_listed(
    client: httpx.AsyncClient, app: FastAPI, followed: OpenStore, catalog: Catalog
) -> None:
    second = Ref("clothes", 2)
    identities = {version.ref: version.identity for version in catalog.versions() if version.ref != second}
    app.state.services = replace(app.state.services, catalog=lambda: catalog.only(identities))
    assert (await client.get("/v1/models")).json()["broken"] == [], "engines were not told of it yet"
    followed.control.delete_version(second)
    await app.state.services.follower.refresh()
    assert (await client.get("/v1/models")).json()["broken"] == [], "its files are still to be removed"
    followed.control.note_removed(second)
    await app.state.services.follower.refresh()
    reason = "its number was deleted; register it as a new version"
    assert (await client.get("/v1/models")).json()["broken"] == [{"model": "clothes", "version": "2", "reason": reason}]


async def test_a_version_that_changed_on_disk_can_be_managed_where_it_can_t_be_served(
    client: httpx.AsyncClient, app: FastAPI, followed: OpenStore, catalog: Catalog
) -> None:
    identities = {version.ref: version.identity for version in catalog.versions()}
    changed = catalog.only({**identities, Ref("clothes", 2): "another", Ref("rent", 1): "another"})
    served = changed.with_aliases(followed.control.aliases())
    app.state.services = replace(app.state.services, catalog=lambda: served)
    path = "/v1/models/clothes/versions/2"
    problem = problem_of(await client.get("/v1/models/rent/ready"))
    assert (problem["status"], CHANGED in problem["detail"]) == (503, True)
    shown = (await client.get(path)).json()
    assert (shown["state"], shown["ready"], shown["reason"]) == ("loaded", False, CHANGED)
    assert (await client.get("/readyz")).json()["broken"] == {"rent": CHANGED}
    wait = {"wait_ms": 0}
    for verb in ("load", "reload", "unload", "load"):
        assert (await client.post(f"{path}/{verb}", json=wait)).status_code in (200, 202)
    alias = "/v1/models/clothes/aliases/champion"
    assert (await client.put(alias, json={"version": "2"})).status_code == 200
    assert (await client.put(alias, json={"version": "1"})).status_code == 200
    assert (await client.delete(path, params=wait)).status_code in (200, 202)
    assert (await client.delete("/v1/models/rent", params=wait)).status_code in (200, 202)
    assert followed.control.state().deleted == {Ref("clothes", 2), Ref("rent", 1)}
