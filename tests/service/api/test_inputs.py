"""Inputs of predictions, and deletion of what is kept, over HTTP."""

import io
from typing import Any

import httpx
import numpy as np
import pytest
from uuid_utils import uuid7

from service.registry.catalog import Catalog
from tests.service.api.support import problem_of
from tests.stores import OpenStore, open_seen


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> OpenStore:
    """Of each test's own, with every version seen."""
    return open_seen(tmp_path_factory.mktemp("store"), catalog)


async def predict(client: httpx.AsyncClient, model: str, instances: list[Any], **parameters: Any) -> list[str]:
    body = {"instances": instances, "parameters": parameters}
    response = await client.post(f"/v1/models/{model}/predict", json=body)
    ids: list[str] = response.json()["prediction_ids"]
    return ids


async def test_a_row_is_read_as_it_came(client: httpx.AsyncClient) -> None:
    text, *_ = await predict(client, "mood", ["naïve"])
    response = await client.get(f"/v1/predictions/{text}/input")
    assert (response.status_code, response.content.decode()) == (200, "naïve")
    assert response.headers["Content-Type"].startswith("text/plain")
    told = {name: response.headers[f"X-Input-{name}"] for name in ("Form", "Chosen", "Probability")}
    assert told == {"Form": "text", "Chosen": "uniform", "Probability": "1.0"}
    _, row = await predict(client, "rent", [[50, 2], [60, 3]])
    response = await client.get(f"/v1/predictions/{row}/input")
    assert response.headers["Content-Type"] == "application/x-npy"
    assert np.load(io.BytesIO(response.content)).tolist() == [60, 3]


async def test_an_input_that_is_not_kept_is_a_404(client: httpx.AsyncClient) -> None:
    problem = problem_of(await client.get(f"/v1/predictions/{uuid7()}/input"))
    assert (problem["status"], problem["type"]) == (404, "urn:servoloop:problem:unknown-input")
    assert problem_of(await client.get("/v1/predictions/7/input"))["status"] == 422


async def test_a_prediction_is_deleted_with_its_input_and_its_feedback(client: httpx.AsyncClient) -> None:
    first, second = await predict(client, "mood", ["good", "bad"])
    await client.post("/v1/feedback", json={"prediction_id": first, "label": "positive"})
    response = await client.delete(f"/v1/predictions/{first}")
    assert (response.status_code, response.json()) == (200, {"deleted": 1, "feedback": 1, "next_cursor": None})
    assert (await client.get("/v1/feedback")).json()["events"] == []
    for path in (f"/v1/predictions/{first}", f"/v1/predictions/{first}/input"):
        assert (await client.get(path)).status_code == 404
    assert (await client.get(f"/v1/predictions/{second}/input")).status_code == 200
    assert problem_of(await client.delete(f"/v1/predictions/{first}"))["status"] == 404


async def test_predictions_are_deleted_by_a_tag(client: httpx.AsyncClient) -> None:
    await predict(client, "mood", ["a", "b"], tags={"user": "7:8"})
    await predict(client, "rent", [[50, 2]], tags={"user": "7:8"})
    (kept,) = await predict(client, "mood", ["c"], tags={"user": "9"})
    response = await client.delete("/v1/predictions", params={"tag": "user:7:8", "model": "mood"})
    assert response.json() == {"deleted": 2, "feedback": 0, "next_cursor": None}
    assert (await client.delete("/v1/predictions", params={"tag": "user:7:8"})).json()["deleted"] == 1
    assert [one["prediction_id"] for one in (await client.get("/v1/predictions")).json()["predictions"]] == [kept]


async def test_a_large_log_is_looked_through_in_several_calls(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.routes.prediction_log._ERASING_SECONDS", -1.0)
    monkeypatch.setattr("service.api.routes.prediction_log._LOOKED_THROUGH", 2)
    await predict(client, "mood", ["a", "b", "c"], tags={"user": "7"})
    first = (await client.delete("/v1/predictions", params={"tag": "user:7"})).json()
    assert first["deleted"] == 2
    second = (await client.delete("/v1/predictions", params={"tag": "user:7", "cursor": first["next_cursor"]})).json()
    assert second == {"deleted": 1, "feedback": 0, "next_cursor": None}


async def test_of_a_prediction_that_is_not_known_what_was_said_is_deleted(client: httpx.AsyncClient) -> None:
    never = str(uuid7())
    await client.post("/v1/feedback", json={"prediction_id": never, "label": "positive"})
    response = await client.delete(f"/v1/predictions/{never}")
    assert (response.status_code, response.json()) == (200, {"deleted": 0, "feedback": 1, "next_cursor": None})
    assert (await client.get("/v1/feedback")).json()["events"] == []
    assert problem_of(await client.delete(f"/v1/predictions/{never}"))["status"] == 404


@pytest.mark.parametrize(
    ("path", "field", "expected"),
    [
        ("/v1/predictions?cursor=abc", "cursor", "an id, as answers give it"),
        ("/v1/predictions?foo=1", "foo", "only the parameters that this path has"),
        ("/v1/predictions?model=A!", "model", "a name of small letters, digits, dots, lines and hyphens"),
        ("/v1/models/mood/evaluation?window=3x", "window", "30m, 24h or 7d, or such"),
        ("/v1/models/mood/evaluation?slice=country", "slice", "name:value"),
        ("/v1/models/mood/evaluation?version=x", "version", "a whole number"),
    ],
)
async def test_a_wrong_parameter_is_told_in_words(
    client: httpx.AsyncClient, path: str, field: str, expected: str
) -> None:
    problem = problem_of(await client.get(path))
    assert (problem["status"], problem["field"], problem["expected"]) == (422, f"query.{field}", expected)


@pytest.mark.parametrize("wrong", [{}, {"tag": "user"}, {"tag": ":7"}, {"tag": "user:"}, {"tag": "a:b", "model": "A!"}])
async def test_what_shall_be_deleted_must_be_said_clearly(client: httpx.AsyncClient, wrong: dict[str, str]) -> None:
    await predict(client, "mood", ["a"], tags={"user": "7"})
    assert problem_of(await client.delete("/v1/predictions", params=wrong))["status"] == 422
    assert len((await client.get("/v1/predictions")).json()["predictions"]) == 1
