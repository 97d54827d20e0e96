import dataclasses
from dataclasses import replace

import httpx
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from service.api.deps import Services
from service.domain import Ref
from service.registry.catalog import Catalog, Model
from service.registry.fleet import Standing, VersionState
from service.serving.router import Router
from tests.fakes import FakeFleet
from tests.service.api.support import CountingEngine, problem_of


async def test_the_process_is_alive_whatever_its_engine_does(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    engine.ready = frozenset()
    response = await client.get("/livez")
    assert (response.status_code, response.json()) == (200, {"live": True})


async def test_it_is_ready_when_every_champion_is(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    response = await client.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"ready": True, "waiting_for": {}, "broken": {}})

    engine.ready -= {Ref("clothes", 2)}
    assert (await client.get("/readyz")).status_code == 200


async def test_it_is_not_ready_while_a_champion_is_missing_and_says_which(
    client: httpx.AsyncClient, engine: CountingEngine
) -> None:
    engine.ready -= {Ref("clothes", 1)}
    response = await client.get("/readyz")
    assert response.status_code == 503
    expected = {"ready": False, "waiting_for": {"clothes": "its engine has not loaded it yet"}, "broken": {}}
    assert response.json() == expected


async def test_a_model_that_came_later_does_not_take_readiness_away_until_it_has_answered(
    client: httpx.AsyncClient, engine: CountingEngine, router: Router, catalog: Catalog
) -> None:
    without = {name: model for name, model in catalog.models.items() if name != "clothes"}
    everything, all_ready = router.catalog, engine.ready
    router.catalog = Catalog(without)
    try:
        assert (await client.get("/readyz")).status_code == 200
        router.catalog = everything
        engine.ready = all_ready - {Ref("clothes", 1)}
        later = await client.get("/readyz")
        assert (later.status_code, list(later.json()["waiting_for"])) == (200, ["clothes"])
        engine.ready = all_ready
        assert (await client.get("/readyz")).json()["waiting_for"] == {}
        engine.ready = all_ready - {Ref("clothes", 1)}
        assert (await client.get("/readyz")).status_code == 503
    finally:
        router.catalog = everything


async def test_a_champion_that_no_engine_can_load_costs_its_own_model_only(
    client: httpx.AsyncClient, engine: CountingEngine
) -> None:
    engine.ready -= {Ref("mood", 1)}
    engine.failed = {Ref("mood", 1): "it holds NaN"}
    response = await client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"ready": True, "waiting_for": {}, "broken": {"mood": "it holds NaN"}}


async def test_it_is_not_ready_when_no_champion_can_be_served(
    client: httpx.AsyncClient, app: FastAPI, services: Services, engine: CountingEngine, catalog: Catalog
) -> None:
    left = Model("clothes", catalog.models["clothes"].versions, {"champion": 9})
    app.state.services = replace(services, catalog=lambda: Catalog({"clothes": left}))
    response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["broken"] == {"clothes": "its champion's checkpoint is missing or broken"}


async def test_metrics_count_requests_by_what_became_of_them(client: httpx.AsyncClient) -> None:
    good, wrong, unknown = {"instances": ["good", "bad"]}, {"instances": [7]}, {"instances": ["good"]}
    for path, body in (("mood", good), ("mood", good), ("mood", wrong), ("nobody", unknown)):
        await client.post(f"/v1/models/{path}/predict", json=body)
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    requests = {
        (sample.labels["model"], sample.labels["version"], sample.labels["outcome"]): sample.value
        for sample in families["servoloop_requests"].samples
        if sample.name.endswith("_total")
    }
    assert requests == {("mood", "1", "ok"): 2, ("mood", "1", "unprocessable_input"): 1}
    stages = {sample.labels["stage"] for sample in families["servoloop_stage_duration_seconds"].samples}
    assert stages == {"parse", "preprocess", "queue", "compute", "encode"}
    rows = [s.value for s in families["servoloop_rows"].samples if s.name.endswith("_total")]
    assert rows == [4]


async def test_the_documentation_names_no_third_party(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assert "http://" not in page.text
    assert "https://" not in page.text


async def test_it_is_not_alive_without_its_supervisor(
    client: httpx.AsyncClient, app: FastAPI, services: Services
) -> None:
    app.state.services = dataclasses.replace(services, is_supervised=lambda: False)
    response = await client.get("/livez")
    assert (response.status_code, response.json()) == (503, {"live": False})


async def test_each_model_is_ready_by_itself(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    engine.ready -= {Ref("mood", 1)}
    engine.failed = {Ref("mood", 1): "it holds NaN"}
    response = await client.get("/v1/models/clothes/ready")
    assert (response.status_code, response.json()) == (200, {"model": "clothes", "version": "1", "ready": True})
    response = await client.get("/v1/models/mood/ready")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert problem_of(response)["detail"] == "mood/1 is not ready: it holds NaN"
    assert (await client.get("/v1/models/nobody/ready")).status_code == 404


async def test_a_probe_may_ask_for_the_head_alone(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    assert (await client.head("/livez")).status_code == 200
    assert (await client.head("/readyz")).status_code == 200
    engine.ready = frozenset()
    assert (await client.head("/livez")).status_code == 200
    assert (await client.head("/readyz")).status_code == 503


async def test_a_path_with_a_slash_too_many_is_unknown(client: httpx.AsyncClient) -> None:
    assert problem_of(await client.get("/v1/models/"))["status"] == 404


async def test_a_champion_that_there_is_no_room_for_costs_its_own_model_only(
    client: httpx.AsyncClient, engine: CountingEngine, fleet: FakeFleet
) -> None:
    engine.ready -= {Ref("mood", 1)}
    fleet.show(Ref("mood", 1), Standing(VersionState.NO_ROOM, "", "it needs 9 GB"))
    response = await client.get("/readyz")
    assert (response.status_code, response.json()["broken"]) == (200, {"mood": "it needs 9 GB"})
    assert response.json()["waiting_for"] == {}
    response = await client.get("/v1/models/mood/ready")
    assert (response.status_code, response.headers["retry-after"]) == (503, "30")
