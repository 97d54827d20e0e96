"""What the Open Inference Protocol says of the server and of models."""

from importlib.metadata import version as version_of
from typing import Any

import httpx
import pytest

from service.api.deps import Services
from service.domain import Ref
from service.registry.fleet import Standing, VersionState
from tests.fakes import FakeFleet
from tests.service.api.inference.support import error_of
from tests.service.api.support import MAX_ROWS, CountingEngine


async def get(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    response = await client.get(path)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def test_the_server_says_what_it_keeps_of_the_protocol(client: httpx.AsyncClient) -> None:
    assert await get(client, "/v2") == {
        "name": "servoloop",
        "version": version_of("servoloop"),
        "extensions": [
            "binary_tensor_data",
            "classification",
            "model_configuration",
            "model_repository",
            "model_repository(unload_dependents)",
            "schedule_policy",
            "statistics",
        ],
    }


async def test_health_is_said_as_the_text_and_as_clients_have_it(client: httpx.AsyncClient) -> None:
    assert await get(client, "/v2/health/live") == {"live": True}
    assert await get(client, "/v2/health/ready") == {"live": True, "ready": True}


async def test_a_service_that_waits_for_a_champion_is_not_ready(
    client: httpx.AsyncClient, engine: CountingEngine, fleet: FakeFleet
) -> None:
    engine.ready -= {Ref("mood", 1)}
    fleet.show(Ref("mood", 1), Standing(VersionState.LOADING, ""))
    response = await client.get("/v2/health/ready")
    assert response.status_code == 503
    assert error_of(response) == "the service is not ready: mood: its engine has not loaded it yet"
    assert await get(client, "/v2/health/live") == {"live": True}


async def test_a_service_that_nobody_looks_after_is_not_live(client: httpx.AsyncClient, services: Services) -> None:
    object.__setattr__(services, "is_supervised", lambda: False)
    response = await client.get("/v2/health/live")
    assert response.status_code == 503
    assert "gives no sign of life" in error_of(response)


@pytest.mark.parametrize("path", ["clothes", "clothes/versions/1", "clothes/versions/candidate"])
async def test_a_model_that_answers_is_ready(client: httpx.AsyncClient, path: str) -> None:
    assert await get(client, f"/v2/models/{path}/ready") == {"name": "clothes", "ready": True}


@pytest.mark.parametrize("path", ["clothes/versions/2", "clothes/versions/candidate"])
async def test_a_version_that_does_not_answer_is_not_ready(
    client: httpx.AsyncClient, engine: CountingEngine, path: str
) -> None:
    engine.ready -= {Ref("clothes", 2)}
    response = await client.get(f"/v2/models/{path}/ready")
    assert response.status_code == 503
    assert error_of(response) == "clothes/2 is not ready: its engine has not loaded it yet"
    assert (await client.get("/v2/models/clothes/ready")).status_code == 200


@pytest.mark.parametrize(
    ("model", "inputs", "outputs"),
    [
        (
            "clothes",
            [("input", "FP32", [-1, 1, 28, 28]), ("image", "BYTES", [-1, 1])],
            [("probabilities", "FP32", [-1, 10]), ("label", "BYTES", [-1, 1]), ("logits", "FP32", [-1, 10])],
        ),
        (
            "thumbnails",
            [("input", "FP32", [-1, 3, 4, 6]), ("image", "BYTES", [-1, 1])],
            [("probabilities", "FP32", [-1, 2]), ("label", "BYTES", [-1, 1]), ("logits", "FP32", [-1, 2])],
        ),
        (
            "mood",
            [("input", "INT64", [-1, -1]), ("text", "BYTES", [-1, 1])],
            [("probabilities", "FP32", [-1, 2]), ("label", "BYTES", [-1, 1]), ("logits", "FP32", [-1, 1])],
        ),
        (
            "codes",
            [("input", "INT64", [-1, -1])],
            [("probabilities", "FP32", [-1, 3]), ("label", "BYTES", [-1, 1]), ("logits", "FP32", [-1, 3])],
        ),
        (
            "sensors",
            [("input", "FP32", [-1, 4])],
            [("probabilities", "FP32", [-1, 3]), ("logits", "FP32", [-1, 3])],
        ),
        ("motion", [("input", "FP32", [-1, -1, 3])], [("embedding", "FP32", [-1, -1])]),
        (
            "rent",
            [("input", "FP32", [-1, 2]), ("columns", "FP64", [-1, 2])],
            [("value", "FP64", [-1, 1])],
        ),
    ],
)
async def test_a_model_says_which_tensors_it_takes_and_gives(
    client: httpx.AsyncClient,
    model: str,
    inputs: list[tuple[str, str, list[int]]],
    outputs: list[tuple[str, str, list[int]]],
) -> None:
    body = await get(client, f"/v2/models/{model}")
    assert (body["name"], body["platform"]) == (model, "pytorch_safetensors")
    assert [(one["name"], one["datatype"], one["shape"]) for one in body["inputs"]] == inputs
    assert [(one["name"], one["datatype"], one["shape"]) for one in body["outputs"]] == outputs
    config = await get(client, f"/v2/models/{model}/config")
    assert config["max_batch_size"] == MAX_ROWS
    for configured, described in ((config["input"], inputs), (config["output"], outputs)):
        assert [one["name"] for one in configured] == [name for name, *_ in described]
        assert [one["dims"] for one in configured] == [shape[1:] for *_, shape in described]
    assert {one["optional"] for one in config["input"]} == {len(inputs) > 1}


async def test_a_models_versions_are_named(client: httpx.AsyncClient) -> None:
    assert (await get(client, "/v2/models/clothes"))["versions"] == ["1", "2"]
    assert (await get(client, "/v2/models/clothes/versions/candidate"))["versions"] == ["1", "2"]


async def test_a_configuration_is_as_tools_read_it(client: httpx.AsyncClient) -> None:
    config = await get(client, "/v2/models/mood/versions/1/config")
    assert config["input"][1] == {
        "name": "text",
        "data_type": "TYPE_STRING",
        "dims": [1],
        "format": "FORMAT_NONE",
        "optional": True,
    }
    assert config["output"][0] == {
        "name": "probabilities",
        "data_type": "TYPE_FP32",
        "dims": [2],
        "label_filename": "",
    }
    assert config["model_transaction_policy"] == {"decoupled": False}
    assert config["dynamic_batching"]["priority_levels"] == 9


@pytest.mark.parametrize("path", ["nobody", "nobody/config", "nobody/ready", "nobody/stats", "nobody/versions/1"])
async def test_a_model_that_isnt_there(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(f"/v2/models/{path}")
    assert response.status_code == 404
    assert error_of(response).startswith("there is no model named 'nobody'; there is: clothes, codes")


@pytest.mark.parametrize("path", ["trace/setting", "models/mood/trace/setting", "logging", "systemsharedmemory/status"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_extensions_that_are_not_ours_are_told_apart(client: httpx.AsyncClient, path: str, method: str) -> None:
    response = await client.request(method, f"/v2/{path}")
    assert response.status_code == 501
    assert error_of(response).startswith("this extension of the protocol: not supported; expected one of binary")
