"""The gRPC server over the services of the tests beside, and a client that is connected to it."""

from collections.abc import AsyncIterator

import grpc
import pytest

from service.api.deps import Services
from service.api.draining import DrainPolicy
from service.grpc_api.server import GrpcServer
from service.serving.pipeline import Limits
from tests.service.api.grpc_api.support import Client
from tests.service.api.support import MAX_ROWS


@pytest.fixture
def limits() -> Limits:
    return Limits(MAX_ROWS, default_timeout=10, max_timeout=120)


@pytest.fixture
async def server(services: Services, limits: Limits, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GrpcServer]:
    serving = GrpcServer("127.0.0.1:0", services, limits)
    await serving.start()
    yield serving
    monkeypatch.setattr("service.grpc_api.server._ARRIVAL_SECONDS", 0)  # every client is gone
    await serving.drain(DrainPolicy(0, 0.1))


@pytest.fixture
async def channel(server: GrpcServer) -> AsyncIterator[grpc.aio.Channel]:
    # Of its own: channels to one port share their connection, unless told otherwise.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) as connected:
        yield connected


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Client:
    return Client(channel)
