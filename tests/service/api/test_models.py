from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI

from service.api.deps import Services
from service.domain import Ref
from service.registry.catalog import Broken, Catalog
from service.serving.engine_client import EngineStatus
from service.serving.router import Router
from tests.service.api.support import CountingEngine, problem_of


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
        "backend": {"name": "openvino", "precision": "bfloat16", "threads": 2, "reason": "it was measured"},
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
    engine.status = EngineStatus(ready=frozenset({Ref("clothes", 2)}), failed={Ref("clothes", 1): "it holds NaN"})
    body = (await client.get("/v1/models/clothes")).json()
    assert body["ready"] is False
    assert [(version["ready"], version["reason"]) for version in body["versions"]] == [
        (False, "it holds NaN"),
        (True, None),
    ]
    waiting = (await client.get("/v1/models/mood")).json()
    assert waiting["versions"][0]["reason"] == "its engine has not loaded it yet"


async def test_checkpoints_that_cannot_be_served_are_listed_with_their_reasons(
    client: httpx.AsyncClient, app: FastAPI, services: Services, engine: CountingEngine, catalog: Catalog
) -> None:
    found_broken = Catalog(catalog.models, [Broken("old", "3", "weights.safetensors is missing")])
    app.state.services = replace(services, router=Router(found_broken))
    engine.status = EngineStatus(failed={Ref("mood", 1): "it holds NaN"})
    assert (await client.get("/v1/models")).json()["broken"] == [
        {"model": "old", "version": "3", "reason": "weights.safetensors is missing"},
        {"model": "mood", "version": "1", "reason": "it holds NaN"},
    ]
