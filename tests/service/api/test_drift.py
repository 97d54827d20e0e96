"""Drift over HTTP."""

import io
import time
from dataclasses import replace
from typing import Any

import httpx
import pytest
from PIL import Image

from service.api.evaluation_schemas import DriftInfo
from service.learning.questions import DriftQuestion
from service.registry.catalog import Catalog
from service.settings import SHIPPED_CHECKPOINTS
from tests.clothes import pictures, predict
from tests.service.api.support import MAX_ROWS, Asked, keeps_to, problem_of, rows_for
from tests.stores import OpenStore, open_seen

URL = "/v1/models/clothes/drift"
# Of the same tasks.
REFERENCES = {"clothes": "fashion", "mood": "sentiment", "rent": "house-price"}


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> OpenStore:
    """Of each test's own; first versions have the references of shipped ones."""
    root = tmp_path_factory.mktemp("references")
    for model, shipped in REFERENCES.items():
        (root / model).symlink_to(SHIPPED_CHECKPOINTS / shipped)
    return replace(open_seen(tmp_path_factory.mktemp("store"), catalog), roots=[root])


async def test_the_latest_predictions_are_compared_with_the_reference(
    client: httpx.AsyncClient, store: OpenStore
) -> None:
    now = time.time()
    predict(store, pictures(300), now=now - 100, model="clothes")
    found = (await client.get(URL)).json()
    assert (found["model"], found["version"], found["n"], found["drifted"]) == ("clothes", "1", 300, False)
    assert found["reference"] == {"rows": 10_000}
    assert 0.8 < found["estimated_accuracy"]["value"] < 1
    predict(store, 255 - pictures(300), now=now, model="clothes", right=0.9)
    found = (await client.get(URL, params={"rows": 300})).json()
    assert (found["n"], found["drifted"], found["inputs"]["pixel_mean"]["drifted"]) == (300, True, True)
    assert found["predictions"]["drifted"] is False
    assert found["window"]["from"] < found["window"]["to"]
    assert found["estimated_accuracy"]["scored"]["actual"]["n"] == 300
    assert keeps_to(DriftInfo, found)


@pytest.mark.parametrize("count", [0, MAX_ROWS])
async def test_the_answer_keeps_to_its_schema(client: httpx.AsyncClient, catalog: Catalog, count: int) -> None:
    for model in catalog.models:
        if count:
            body = {"instances": rows_for(catalog, model, count)}
            assert (await client.post(f"/v1/models/{model}/predict", json=body)).status_code == 200
        found = (await client.get(f"/v1/models/{model}/drift")).json()
        assert keeps_to(DriftInfo, found)
        assert (found["n"], found["drifted"]) == (count, None)
        assert ("reason" in found["reference"]) is (model not in REFERENCES)
        if count and model in REFERENCES:
            assert found["inputs"]
            assert found["predictions"]["reason"] == "fewer than 200 rows"
        is_sure = model in ("clothes", "thumbnails", "mood", "codes")
        assert (found["estimated_accuracy"] is not None) is bool(count and is_sure)


async def test_the_champion_is_compared_unless_a_version_is_named(client: httpx.AsyncClient, asked: Asked) -> None:
    assert problem_of(await client.get(URL))["status"] == 503
    await client.get(URL, params={"version": 2, "rows": 500})
    assert asked.questions == [DriftQuestion("clothes", 1), DriftQuestion("clothes", 2, 500)]


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/v1/models/nothing/drift", "unknown-model"), (f"{URL}?version=3", "unknown-version")],
)
async def test_what_is_not_there_is_a_404(client: httpx.AsyncClient, asked: Asked, path: str, kind: str) -> None:
    problem = problem_of(await client.get(path))
    assert (problem["status"], problem["type"]) == (404, f"urn:servoloop:problem:{kind}")
    assert asked.questions == []


@pytest.mark.parametrize(
    "wrong",
    [{"rows": 99}, {"rows": 10_001}, {"rows": "many"}, {"version": 0}, {"version": "champion"}, {"window": "7d"}],
)
async def test_malformed_filters_are_refused(client: httpx.AsyncClient, asked: Asked, wrong: dict[str, Any]) -> None:
    assert problem_of(await client.get(URL, params=wrong))["status"] == 422
    assert asked.questions == []


@pytest.mark.parametrize(
    ("accept", "media_type"), [("image/png", "image/png"), ("image/svg+xml, image/png;q=0.5", "image/svg+xml")]
)
async def test_a_picture_is_drawn_where_one_is_accepted(
    client: httpx.AsyncClient, asked: Asked, accept: str, media_type: str
) -> None:
    response = await client.get(URL, params={"version": 2, "rows": 500}, headers={"Accept": accept})
    assert (response.status_code, response.headers["Content-Type"]) == (200, media_type)
    assert response.headers["Vary"] == "Accept"
    assert asked.questions == [DriftQuestion("clothes", 2, 500)]


@pytest.mark.parametrize("accept", ["*/*", "", "application/json, image/png", "text/html"])
async def test_all_else_is_answered_as_json(client: httpx.AsyncClient, accept: str) -> None:
    response = await client.get(URL, headers={"Accept": accept})
    assert (response.headers["Content-Type"], response.headers["Vary"]) == ("application/json", "Accept")
    assert response.json()["model"] == "clothes"


@pytest.mark.parametrize("model", ["clothes", "motion"])
async def test_whatever_is_known_can_be_drawn(client: httpx.AsyncClient, catalog: Catalog, model: str) -> None:
    for count in (0, MAX_ROWS):
        if count:
            await client.post(f"/v1/models/{model}/predict", json={"instances": rows_for(catalog, model, count)})
        response = await client.get(f"/v1/models/{model}/drift", headers={"Accept": "image/png"})
        assert Image.open(io.BytesIO(response.content)).format == "PNG"
