"""What the client is told of the server, of its models and of the work that was done."""

from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import model_config_pb2

from tests.clients.asked import ASKED, OUTPUTS, Asked
from tests.clients.tritonclient_grpc.tensors import inputs, refused, tensor

# Of BOOL to BYTES, what `config` calls TYPE_...
CONFIGURED = {"BYTES": "TYPE_STRING"}


def test_the_server_is_live_and_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()


@pytest.mark.parametrize("version", ["", "1", "champion"])
def test_a_model_is_ready_where_it_answers(client: Any, version: str) -> None:
    assert client.is_model_ready("clothes", version) is True


def test_the_server_says_what_it_keeps_of_the_protocol(client: Any) -> None:
    metadata = client.get_server_metadata()
    assert metadata.name == "servoloop"
    assert {"classification", "model_configuration", "model_repository", "statistics"} <= set(metadata.extensions)
    assert client.get_server_metadata(as_json=True)["name"] == "servoloop"


@pytest.mark.parametrize("asked", ASKED, ids=[asked.model for asked in ASKED])
@pytest.mark.parametrize("version", ["", "1", "champion"])
def test_metadata_and_configuration_name_the_tensors_that_are_taken_and_given(
    client: Any, asked: Asked, version: str
) -> None:
    metadata = client.get_model_metadata(asked.model, version)
    config = client.get_model_config(asked.model, version).config
    assert metadata.name == config.name == asked.model
    assert "1" in metadata.versions
    (described,) = [one for one in metadata.inputs if one.name == asked.name]
    assert described.datatype == asked.datatype
    assert all(expected in (-1, size) for expected, size in zip(described.shape, asked.array.shape, strict=True))
    assert [one.name for one in metadata.outputs] == OUTPUTS[asked.model]
    for tensors, configured in ((metadata.inputs, config.input), (metadata.outputs, config.output)):
        assert [one.name for one in configured] == [one.name for one in tensors]
        assert [list(one.dims) for one in configured] == [list(one.shape)[1:] for one in tensors]
        named = [CONFIGURED.get(one.datatype, f"TYPE_{one.datatype}") for one in tensors]
        assert [model_config_pb2.DataType.Name(one.data_type) for one in configured] == named
    assert config.max_batch_size > 0
    assert config.backend == "servoloop"
    assert config.dynamic_batching.priority_levels == 9
    assert not config.model_transaction_policy.decoupled


def test_a_models_versions_are_named(client: Any) -> None:
    assert client.get_model_metadata("clothes").versions == ["1", "2"]


@pytest.mark.parametrize(
    "method", ["is_model_ready", "get_model_metadata", "get_model_config", "get_inference_statistics"]
)
@pytest.mark.parametrize(
    ("model", "version", "says"),
    [
        ("nobody", "", "there is no model named 'nobody'; there is: clothes, codes"),
        ("clothes", "7", "there is no version of clothes named '7'; there is: 1, 2"),
        ("clothes", "nobody", "there is no alias of clothes named 'nobody'"),
        ("ü?", "", "there is no model named 'ü?'"),
    ],
)
def test_what_isnt_there(client: Any, method: str, model: str, version: str, says: str) -> None:
    refused("NOT_FOUND", says, getattr(client, method), model, version)


def statistics(client: Any, model: str, version: str = "1") -> Any:
    """Of one version."""
    (found,) = client.get_inference_statistics(model, version).model_stats
    assert (found.name, found.version) == (model, version)
    return found


def test_counters_grow_by_what_was_asked(client: Any) -> None:
    before = statistics(client, "sensors")
    for num_rows in (1, 3, 3):
        client.infer("sensors", [tensor("input", "FP32", np.ones((num_rows, 4), np.float32))])
    after = statistics(client, "sensors")
    assert after.inference_count - before.inference_count == 7
    assert after.execution_count - before.execution_count == 3
    for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        then, now = getattr(before.inference_stats, name), getattr(after.inference_stats, name)
        assert now.count - then.count == 3
        assert now.ns > then.ns
    sizes = {each.batch_size: each.compute_infer.count for each in after.batch_stats}
    assert sum(size * count for size, count in sizes.items()) == after.inference_count
    assert after.memory_usage[0].type in ("CPU", "GPU")


def test_all_models_are_told_together(client: Any) -> None:
    client.infer("clothes", inputs("clothes"), model_version="2")
    named = [(each.name, each.version) for each in client.get_inference_statistics().model_stats]
    assert {("clothes", "1"), ("clothes", "2"), ("sentiment", "1")} <= set(named)
    assert [each.version for each in client.get_inference_statistics("clothes").model_stats] == ["1", "2"]
