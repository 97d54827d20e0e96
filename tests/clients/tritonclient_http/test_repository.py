"""Loading and unloading by the client."""

from typing import Any

import pytest
from tritonclient.utils import InferenceServerException

from tests.clients.support import Served
from tests.clients.tritonclient_http.tensors import inputs


def states(client: Any, model: str) -> dict[str, tuple[str, str]]:
    """By version, where it stands, and why."""
    entries = client.get_model_repository_index()
    return {entry["version"]: (entry["state"], entry["reason"]) for entry in entries if entry["name"] == model}


def test_the_index_names_every_version(client: Any) -> None:
    named = {(entry["name"], entry["version"]) for entry in client.get_model_repository_index()}
    assert {("clothes", "1"), ("clothes", "2"), ("sentiment", "1"), ("rent", "1")} <= named
    assert states(client, "clothes") == {"1": ("READY", ""), "2": ("READY", "")}


def test_a_model_is_unloaded_and_loaded_again(client: Any) -> None:
    client.unload_model("codes")
    assert not client.is_model_ready("codes")
    ((state, reason),) = states(client, "codes").values()
    assert state == "UNAVAILABLE"
    assert reason
    with pytest.raises(InferenceServerException) as caught:
        client.infer("codes", inputs("codes"))
    assert caught.value.status() == "503"
    assert "codes/1" in caught.value.message()
    assert client.is_model_ready("motion")
    client.load_model("codes")
    assert client.is_model_ready("codes")
    assert states(client, "codes") == {"1": ("READY", "")}
    assert client.infer("codes", inputs("codes")).get_response()["model_version"] == "1"


def test_all_versions_of_a_model_are_unloaded(client: Any, served: Served) -> None:
    client.unload_model("clothes", unload_dependents=True)
    assert [client.is_model_ready("clothes", version) for version in ("1", "2")] == [False, False]
    client.load_model("clothes")
    assert client.is_model_ready("clothes", "1")
    # The answer waits for the champion; this one for the other version.
    assert served.request("POST", "/v1/models/clothes/versions/2/load").status == 200
    assert states(client, "clothes") == {"1": ("READY", ""), "2": ("READY", "")}


def test_to_load_what_is_loaded_changes_nothing(client: Any) -> None:
    before = client.infer("mood", inputs("mood")).as_numpy("logits")
    client.load_model("mood")
    assert (client.infer("mood", inputs("mood")).as_numpy("logits") == before).all()


@pytest.mark.parametrize("method", ["load_model", "unload_model"])
def test_a_model_that_isnt_there(client: Any, method: str) -> None:
    with pytest.raises(InferenceServerException, match="there is no model named 'nobody'") as caught:
        getattr(client, method)("nobody")
    assert caught.value.status() == "404"


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"config": '{"max_batch_size": 1}'}, "parameters.config: not supported; expected a checkpoint that is"),
        (
            {"config": "{}", "files": {"file:1/model.pt": b"\x80"}},
            "parameters.config: not supported; expected a checkpoint that is",
        ),
        ({"files": {"file:1/model.pt": b"\x80"}}, "parameters.file:1/model.pt: not supported"),
    ],
)
def test_no_model_comes_with_a_request(client: Any, named: dict[str, Any], says: str) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.load_model("mood", **named)
    assert caught.value.status() == "501"
    assert caught.value.message().startswith(says)
    assert client.is_model_ready("mood")
