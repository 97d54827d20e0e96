"""What is asked over gRPC beside predictions; what it says is that of /v2, whose tests say what that is."""

from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.json_format import MessageToDict

from service.api.deps import Services
from service.domain import Ref
from service.grpc_api import inference_pb2 as pb
from service.registry.fleet import Standing, VersionState
from service.wire.statistics import StageSeconds, Statistics
from tests.fakes import FakeFleet
from tests.service.api.grpc_api.support import SERVICE, Client
from tests.service.api.support import MAX_ROWS, CountingEngine

MOOD = Ref("mood", 1)


def said(message: Any) -> dict[str, Any]:
    """All members of a message, those that are zero too."""
    found: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return found


async def test_the_server_is_live_and_ready(stub: Client) -> None:
    assert (await stub.call("ServerLive", pb.ServerLiveRequest())).live
    assert (await stub.call("ServerReady", pb.ServerReadyRequest())).ready


async def test_a_server_that_nobody_looks_after_is_not_live(stub: Client, services: Services) -> None:
    object.__setattr__(services, "is_supervised", lambda: False)
    assert not (await stub.call("ServerLive", pb.ServerLiveRequest())).live


async def test_a_server_that_waits_for_a_champion_is_not_ready(
    stub: Client, engine: CountingEngine, fleet: FakeFleet
) -> None:
    engine.ready -= {MOOD}
    fleet.show(MOOD, Standing(VersionState.LOADING, ""))
    assert not (await stub.call("ServerReady", pb.ServerReadyRequest())).ready
    assert (await stub.call("ServerLive", pb.ServerLiveRequest())).live


@pytest.mark.parametrize(("version", "is_ready"), [("", True), ("1", True), ("2", False), ("candidate", False)])
async def test_a_model_is_ready_by_version(
    stub: Client, engine: CountingEngine, version: str, *, is_ready: bool
) -> None:
    engine.ready -= {Ref("clothes", 2)}
    answer = await stub.call("ModelReady", pb.ModelReadyRequest(name="clothes", version=version))
    assert answer.ready == is_ready


async def test_the_server_says_what_http_says_of_it(stub: Client, client: httpx.AsyncClient) -> None:
    answer = await stub.call("ServerMetadata", pb.ServerMetadataRequest())
    assert said(answer) == (await client.get("/v2")).json()


@pytest.mark.parametrize("model", ["clothes", "thumbnails", "mood", "codes", "sensors", "motion", "rent"])
async def test_models_say_what_http_says_of_them(stub: Client, client: httpx.AsyncClient, model: str) -> None:
    answer = said(await stub.call("ModelMetadata", pb.ModelMetadataRequest(name=model)))
    for tensor in (*answer["inputs"], *answer["outputs"]):
        tensor["shape"] = list(map(int, tensor["shape"]))  # JSON has 64 bits as text
    assert answer == (await client.get(f"/v2/models/{model}")).json()


async def test_a_models_versions_are_named(stub: Client) -> None:
    for version in ("", "2", "candidate"):
        answer = await stub.call("ModelMetadata", pb.ModelMetadataRequest(name="clothes", version=version))
        assert answer.versions == ["1", "2"]


async def test_a_configuration_is_as_tools_read_it(stub: Client) -> None:
    config = (await stub.call("ModelConfig", pb.ModelConfigRequest(name="mood", version="1"))).config
    assert (config.name, config.backend, config.max_batch_size) == ("mood", "servoloop", MAX_ROWS)
    assert [(one.name, one.data_type, one.dims, one.optional) for one in config.input] == [
        ("input", pb.TYPE_INT64, [-1], True),
        ("text", pb.TYPE_STRING, [1], True),
    ]
    assert [(one.name, one.data_type, one.dims) for one in config.output] == [
        ("probabilities", pb.TYPE_FP32, [2]),
        ("label", pb.TYPE_STRING, [1]),
        ("logits", pb.TYPE_FP32, [1]),
    ]
    assert config.dynamic_batching.priority_levels == 9
    assert config.version_policy.HasField("all")
    assert not config.model_transaction_policy.decoupled


@pytest.fixture
def counted(engine: CountingEngine) -> None:
    """Of a version that ran one batch of three rows, for a request of two and one of one."""
    statistics = Statistics(num_bytes={"cpu": 4096, "cuda:1": 8192})
    stages = StageSeconds(input=0.001, infer=0.002, output=0.003)
    statistics.ran(3, stages, now_ms=1_700_000_000_123)
    statistics.answered(2, 0.75, 0.375, stages)
    engine.counted = {MOOD: statistics, Ref("clothes", 2): Statistics()}


@pytest.mark.usefixtures("counted")
async def test_what_engines_counted_is_told(stub: Client) -> None:
    (found,) = (await stub.call("ModelStatistics", pb.ModelStatisticsRequest(name="mood", version="1"))).model_stats
    assert (found.name, found.version, found.last_inference) == ("mood", "1", 1_700_000_000_123)
    assert (found.inference_count, found.execution_count) == (3, 1)
    assert (found.inference_stats.success.count, found.inference_stats.success.ns) == (2, 750_000_000)
    assert (found.inference_stats.compute_infer.count, found.inference_stats.compute_infer.ns) == (2, 4_000_000)
    (batch,) = found.batch_stats
    assert (batch.batch_size, batch.compute_output.count, batch.compute_output.ns) == (3, 1, 3_000_000)
    assert [(one.type, one.id, one.byte_size) for one in found.memory_usage] == [("CPU", 0, 4096), ("GPU", 1, 8192)]


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize(
    ("name", "version", "refs"),
    [
        ("", "", [("clothes", "2"), ("mood", "1")]),
        ("clothes", "", [("clothes", "2")]),
        ("clothes", "candidate", [("clothes", "2")]),
        ("clothes", "1", [("clothes", "1")]),
        ("rent", "", []),
    ],
)
async def test_they_are_told_by_model_and_version(
    stub: Client, name: str, version: str, refs: list[tuple[str, str]]
) -> None:
    answer = await stub.call("ModelStatistics", pb.ModelStatisticsRequest(name=name, version=version))
    assert [(one.name, one.version) for one in answer.model_stats] == refs


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"])
async def test_a_model_that_isnt_there(stub: Client, method: str) -> None:
    kind = getattr(pb, SERVICE.methods_by_name[method].input_type.name)
    error = await stub.refused(method, kind(name="nobody"))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details().startswith("there is no model named 'nobody'; there is: clothes, codes")


@pytest.mark.parametrize("method", ["ModelStreamInfer", "SystemSharedMemoryStatus", "TraceSetting", "LogSettings", "X"])
async def test_methods_that_are_not_ours_are_told_apart(stub: Client, method: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.send(method, b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details().startswith(f"the method {method}: not supported; expected one of ServerLive, ")


async def test_a_stream_is_refused_before_its_first_message(channel: grpc.aio.Channel) -> None:
    call = channel.stream_stream(f"/{SERVICE.full_name}/ModelStreamInfer")()
    assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_another_service(channel: grpc.aio.Channel) -> None:
    call = channel.unary_unary("/inference.AnotherService/ModelInfer")(b"")
    assert await call.code() is grpc.StatusCode.UNIMPLEMENTED
