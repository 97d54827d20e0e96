"""The model repository over gRPC."""

from collections.abc import AsyncIterator

import grpc
import pytest

from service.api.deps import Services
from service.api.draining import DrainPolicy
from service.domain import Loading, Ref
from service.grpc_api import inference_pb2 as pb
from service.grpc_api.server import GrpcServer
from service.registry.fleet import Standing, VersionState
from service.serving.pipeline import Limits
from tests.fakes import FakeFleet
from tests.service.api.grpc_api.support import Client
from tests.service.api.support import CountingEngine, Supervised

CLOTHES = [Ref("clothes", 1), Ref("clothes", 2)]


@pytest.fixture
async def stub(services: Services) -> AsyncIterator[Client]:
    server = GrpcServer("127.0.0.1:0", services, Limits(8, default_timeout=10, max_timeout=120))
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield Client(channel)
    await server.drain(DrainPolicy(0, 0.1))


async def test_the_index_says_where_every_version_stands(
    stub: Client, engine: CountingEngine, fleet: FakeFleet
) -> None:
    engine.ready -= {CLOTHES[1]}
    fleet.show(CLOTHES[1], Standing(VersionState.FAILED, "", "its weights are broken"))
    models = (await stub.call("RepositoryIndex", pb.RepositoryIndexRequest())).models
    assert [(one.name, one.version, one.state, one.reason) for one in models][:3] == [
        ("clothes", "1", "READY", ""),
        ("clothes", "2", "UNAVAILABLE", "its weights are broken"),
        ("codes", "1", "READY", ""),
    ]
    ready = (await stub.call("RepositoryIndex", pb.RepositoryIndexRequest(ready=True))).models
    assert {one.state for one in ready} == {"READY"}
    assert len(ready) == len(models) - 1


async def test_a_model_is_unloaded_whole_and_loaded_again(stub: Client, supervised: Supervised) -> None:
    dependents = {"unload_dependents": pb.ModelRepositoryParameter(bool_param=True)}
    unload = pb.RepositoryModelUnloadRequest(model_name="clothes", parameters=dependents)
    await stub.call("RepositoryModelUnload", unload)
    wishes = supervised.store.control.state().wishes
    assert [wishes[ref].loading for ref in CLOTHES] == [Loading.UNLOADED] * 2
    await stub.call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="clothes"))
    assert not supervised.store.control.state().wishes


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("config", pb.ModelRepositoryParameter(string_param="{}")),
        ("file:1/model.safetensors", pb.ModelRepositoryParameter(bytes_param=b"weights")),
    ],
)
async def test_what_comes_with_a_load_is_refused(stub: Client, name: str, value: pb.ModelRepositoryParameter) -> None:
    load = pb.RepositoryModelLoadRequest(model_name="clothes", parameters={name: value})
    error = await stub.refused("RepositoryModelLoad", load)
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert error.details().startswith(f"parameters.{name}: not supported; expected a checkpoint that is registered")


async def test_a_model_that_isnt_there(stub: Client) -> None:
    for method, message in (
        ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="nobody")),
        ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="nobody")),
    ):
        error = await stub.refused(method, message)
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert error.details().startswith("there is no model named 'nobody'")


async def test_a_load_that_fails_says_why_and_when_to_ask_again(
    stub: Client, supervised: Supervised, engine: CountingEngine, fleet: FakeFleet
) -> None:
    supervised.slow = True
    engine.ready -= {CLOTHES[0]}
    fleet.show(CLOTHES[0], Standing(VersionState.FAILED, "", "its weights are broken", wished=1))
    error = await stub.refused("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="clothes"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == "clothes/1 is not ready: its weights are broken"
    assert ("retry-after", "30") in tuple(error.trailing_metadata())


async def test_an_unload_that_takes_too_long_says_so(stub: Client, supervised: Supervised) -> None:
    supervised.slow = True
    unload = pb.RepositoryModelUnloadRequest(model_name="clothes")
    error = await stub.refused("RepositoryModelUnload", unload, [("x-request-timeout-ms", "1")])
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "clothes is still being unloaded" in error.details()
