"""Loading and unloading by the client."""

from typing import Any

import pytest

from tests.clients.support import Served
from tests.clients.tritonclient_grpc.tensors import inputs, refused


def states(client: Any, model: str) -> dict[str, tuple[str, str]]:
    """By version, where it stands, and why."""
    models = client.get_model_repository_index().models
    return {entry.version: (entry.state, entry.reason) for entry in models if entry.name == model}


def test_the_index_names_every_version(client: Any) -> None:
    named = {(entry.name, entry.version) for entry in client.get_model_repository_index().models}
    assert {("clothes", "1"), ("clothes", "2"), ("sentiment", "1"), ("rent", "1")} <= named
    assert states(client, "clothes") == {"1": ("READY", ""), "2": ("READY", "")}


def test_a_model_is_unloaded_and_loaded_again(client: Any) -> None:
    client.unload_model("codes")
    assert client.is_model_ready("codes") is False
    ((state, reason),) = states(client, "codes").values()
    assert state == "UNAVAILABLE"
    assert reason
    refused("UNAVAILABLE", "codes/1", client.infer, "codes", inputs("codes"))
    assert client.is_model_ready("motion")
    client.load_model("codes")
    assert client.is_model_ready("codes")
    assert states(client, "codes") == {"1": ("READY", "")}
    assert client.infer("codes", inputs("codes")).get_response().model_version == "1"


def test_all_versions_of_a_model_are_unloaded(client: Any, served: Served) -> None:
    client.unload_model("clothes", unload_dependents=True)
    assert [client.is_model_ready("clothes", version) for version in ("1", "2")] == [False, False]
    client.load_model("clothes")
    assert client.is_model_ready("clothes", "1")
    # The answer waits for the champion; this one for the other version.
    assert served.request("POST", "/v1/models/clothes/versions/2/load").status == 200
    assert states(client, "clothes") == {"1": ("READY", ""), "2": ("READY", "")}


@pytest.mark.parametrize("method", ["load_model", "unload_model"])
def test_a_model_that_isnt_there(client: Any, method: str) -> None:
    refused("NOT_FOUND", "there is no model named 'nobody'", getattr(client, method), "nobody")


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"config": '{"max_batch_size": 1}'}, "parameters.config: not supported; expected a checkpoint that is"),
        ({"files": {"file:1/model.pt": b"\x80"}}, "parameters.file:1/model.pt: not supported"),
    ],
)
def test_no_model_comes_with_a_request(client: Any, named: dict[str, Any], says: str) -> None:
    refused("UNIMPLEMENTED", says, client.load_model, "mood", **named)
    assert client.is_model_ready("mood")
