"""What the client is told of the server and of its models."""

from typing import Any

import pytest
from tritonclient.utils import InferenceServerException

from tests.clients.asked import ASKED, OUTPUTS, Asked
from tests.clients.support import Served
from tests.clients.tritonclient_http.tensors import inputs

# Of BOOL to BYTES, what `config` calls TYPE_...
CONFIGURED = {"BYTES": "TYPE_STRING"}


def test_the_server_is_live_and_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()


@pytest.mark.parametrize(("version", "is_ready"), [("", True), ("1", True), ("champion", True), ("7", False)])
def test_a_model_is_ready_where_it_answers(client: Any, version: str, *, is_ready: bool) -> None:
    assert client.is_model_ready("clothes", version) is is_ready


def test_a_model_that_isnt_there_is_not_ready(client: Any) -> None:
    assert client.is_model_ready("nobody") is False


def test_the_server_says_what_it_keeps_of_the_protocol(client: Any) -> None:
    metadata = client.get_server_metadata()
    assert metadata["name"] == "servoloop"
    assert {"binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics"} <= set(
        metadata["extensions"]
    )
    assert not {"system_shared_memory", "cuda_shared_memory", "trace", "logging", "sequence"} & set(
        metadata["extensions"]
    )


@pytest.mark.parametrize("asked", ASKED, ids=[asked.model for asked in ASKED])
@pytest.mark.parametrize("version", ["", "1", "champion"])
def test_metadata_and_configuration_name_the_tensors_that_are_taken_and_given(
    client: Any, asked: Asked, version: str
) -> None:
    metadata = client.get_model_metadata(asked.model, version)
    config = client.get_model_config(asked.model, version)
    assert metadata["name"] == config["name"] == asked.model
    assert "1" in metadata["versions"]
    (described,) = [one for one in metadata["inputs"] if one["name"] == asked.name]
    assert described["datatype"] == asked.datatype
    sizes = zip(described["shape"], asked.array.shape, strict=True)
    assert all(expected in (-1, size) for expected, size in sizes)
    assert [one["name"] for one in metadata["outputs"]] == OUTPUTS[asked.model]
    for kind, configured in (("inputs", config["input"]), ("outputs", config["output"])):
        tensors = metadata[kind]
        assert [one["name"] for one in configured] == [one["name"] for one in tensors]
        assert [one["dims"] for one in configured] == [one["shape"][1:] for one in tensors]
        named = [CONFIGURED.get(one["datatype"], f"TYPE_{one['datatype']}") for one in tensors]
        assert [one["data_type"] for one in configured] == named
    assert config["max_batch_size"] > 0


def test_the_outputs_are_as_metadata_describes_them(client: Any) -> None:
    for asked in ASKED:
        described = {one["name"]: one for one in client.get_model_metadata(asked.model)["outputs"]}
        for output in client.infer(asked.model, inputs(asked.model)).get_response()["outputs"]:
            expected = described[output["name"]]
            assert output["datatype"] == expected["datatype"]
            assert len(output["shape"]) == len(expected["shape"])
            assert all(size in (-1, given) for size, given in zip(expected["shape"], output["shape"], strict=True))


def test_a_models_versions_are_named(client: Any) -> None:
    assert client.get_model_metadata("clothes")["versions"] == ["1", "2"]


@pytest.mark.parametrize("method", ["get_model_metadata", "get_model_config", "get_inference_statistics"])
@pytest.mark.parametrize(
    ("model", "version", "says"),
    [
        ("nobody", "", "there is no model named 'nobody'; there is: clothes, codes"),
        ("clothes", "7", "there is no version of clothes named '7'; there is: 1, 2"),
        ("clothes", "nobody", "there is no alias of clothes named 'nobody'"),
        ("no model?", "", "there is no model named 'no model?'"),
    ],
)
def test_what_isnt_there(client: Any, method: str, model: str, version: str, says: str) -> None:
    with pytest.raises(InferenceServerException) as caught:
        getattr(client, method)(model, version)
    assert caught.value.status() == "404"
    assert caught.value.message().startswith(says)


def test_headers_and_queries_of_the_callers_own_do_no_harm(client: Any, served: Served) -> None:
    more = {"headers": {"X-Own": "1"}, "query_params": {"a": "b c", "d": ["1", "2"]}}
    assert client.is_server_live(**more)
    assert client.get_model_metadata("mood", **more)["name"] == "mood"
    assert client.get_model_repository_index(**more)
