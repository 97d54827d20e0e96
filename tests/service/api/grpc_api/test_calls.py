"""What surrounds calls: ids, times, clients that leave, and the end of the server."""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from models.preprocess import Tensors
from service.api.deps import Services
from service.api.draining import DrainPolicy
from service.domain import Deadline, Ref
from service.errors import Misconfigured
from service.grpc_api import inference_pb2 as pb
from service.grpc_api.server import GrpcServer
from service.serving.pipeline import Limits
from service.wire.inference import Outputs
from tests.patience import PATIENCE
from tests.service.api.grpc_api.support import Client, request, tensor
from tests.service.api.support import CountingEngine

TEXT = request("mood", [tensor("text", "BYTES", [1], [b"good"])])


@dataclass
class Slow:
    """An engine's `infer` that waits until it is told to go on, or until nobody waits for it any more."""

    engine: CountingEngine
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def infer(self, ref: Ref, tensors: Tensors, deadline: Deadline, priority: int = 0) -> Outputs:
        self.begun.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return await CountingEngine.infer(self.engine, ref, tensors, deadline, priority)


@pytest.fixture
def slow(engine: CountingEngine, monkeypatch: pytest.MonkeyPatch) -> Slow:
    slow = Slow(engine)
    monkeypatch.setattr(engine, "infer", slow.infer)
    return slow


async def reached(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        await event.wait()


async def trailing(call: Any) -> dict[str, Any]:
    return dict(tuple(await call.trailing_metadata()))


async def test_the_callers_id_is_answered(stub: Client) -> None:
    call = stub.begin("ModelInfer", TEXT, [("x-request-id", "mine-7")])
    await call
    assert (await trailing(call))["x-request-id"] == "mine-7"


async def test_who_sends_no_id_is_told_ours(stub: Client) -> None:
    first, second = (stub.begin("ServerLive", pb.ServerLiveRequest()) for _ in range(2))
    ids = [(await trailing(call))["x-request-id"] for call in (first, second)]
    assert all(ids)
    assert ids[0] != ids[1]


async def test_an_error_has_the_callers_id_too(stub: Client) -> None:
    error = await stub.refused("ModelInfer", request("nobody", []), [("x-request-id", "mine-7")])
    assert dict(tuple(error.trailing_metadata()))["x-request-id"] == "mine-7"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("x-request-id", "a b", "X-Request-Id: the id is malformed; expected 1 to 128 visible ASCII characters"),
        ("x-request-id", "x" * 129, "X-Request-Id: the id is malformed; expected 1 to 128 visible ASCII characters"),
        ("x-routing-key", "x" * 257, "X-Routing-Key: the key is malformed; expected 1 to 256 printable characters"),
        ("x-request-timeout-ms", "soon", "X-Request-Timeout-Ms: 'soon' is no time; expected a positive number"),
    ],
)
async def test_metadata_is_checked_as_headers_are(
    stub: Client, engine: CountingEngine, name: str, value: str, says: str
) -> None:
    error = await stub.refused("ModelInfer", TEXT, [(name, value)])
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details()[: len(says)] == says
    assert not engine.calls


async def test_metadata_in_bytes_is_nobodys_concern(stub: Client) -> None:
    await stub.call("ModelInfer", TEXT, [("x-request-id-bin", b"\xff\0")])  # type: ignore[list-item]


@pytest.mark.parametrize(("header", "call", "earlier"), [("5000", None, 5), ("5000", 60, 5), ("60000", 5, 5)])
async def test_a_time_in_the_metadata_counts_where_it_is_smaller(
    stub: Client, engine: CountingEngine, header: str, call: float | None, earlier: float
) -> None:
    await stub.infer(TEXT)
    await stub.infer(TEXT, [("x-request-timeout-ms", header)], timeout=call)
    without, with_time = (one.deadline.at for one in engine.calls)
    assert earlier - 1 < without - with_time < earlier + 1


async def test_a_client_that_leaves_cancels_its_rows(stub: Client, slow: Slow, services: Services) -> None:
    call = stub.begin("ModelInfer", TEXT)
    await reached(slow.begun)
    assert services.bodies.held > 0
    call.cancel()
    await reached(slow.cancelled)
    await settled(services)


async def test_a_deadline_that_is_over_cancels_its_rows(stub: Client, slow: Slow, services: Services) -> None:
    call = stub.begin("ModelInfer", TEXT, timeout=0.2)
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await reached(slow.cancelled)
    await settled(services)


async def settled(services: Services) -> None:
    """Until no message is held any more."""
    async with asyncio.timeout(PATIENCE):
        while services.bodies.held:
            await asyncio.sleep(0.005)


async def test_calls_that_failed_are_logged_with_their_ids(stub: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "servoloop.access"):
        await stub.infer(TEXT)
        await stub.refused("ModelInfer", request("nobody", []))
    (record,) = caplog.records
    assert (record.method, record.status, record.levelname) == ("ModelInfer", "NOT_FOUND", "INFO")  # type: ignore[attr-defined]


async def test_the_end_waits_for_what_was_accepted(server: GrpcServer, stub: Client, slow: Slow) -> None:
    call = stub.begin("ModelInfer", TEXT)
    await reached(slow.begun)
    ending = asyncio.create_task(server.drain(DrainPolicy(0, PATIENCE)))
    error = await refused_while_it_ends(stub)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == "the service is not ready: it was told to stop"
    assert not ending.done()
    slow.go_on.set()
    assert (await call).model_name == "mood"
    await ending


async def refused_while_it_ends(stub: Client) -> Any:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await stub.call("ServerLive", pb.ServerLiveRequest())
            except grpc.aio.AioRpcError as error:
                return error


async def test_while_it_is_unready_it_still_answers(server: GrpcServer, stub: Client, services: Services) -> None:
    await stub.infer(TEXT)
    services.draining.begun = True
    ending = asyncio.create_task(server.drain(DrainPolicy(PATIENCE, PATIENCE)))
    assert not (await stub.call("ServerReady", pb.ServerReadyRequest())).ready
    assert (await stub.infer(TEXT)).model_name == "mood"
    ending.cancel()


async def test_a_call_that_outlasts_the_end_is_told_so(server: GrpcServer, stub: Client, slow: Slow) -> None:
    call = stub.begin("ModelInfer", TEXT)
    await reached(slow.begun)
    await server.drain(DrainPolicy(0, 0.05))
    assert await call.code() is grpc.StatusCode.UNAVAILABLE
    assert await call.details() == "the service stops, and the time to finish what it had accepted is over"
    assert (await trailing(call))["retry-after"] == "1"
    assert slow.cancelled.is_set()


async def test_the_end_cancels_nobodys_calls(server: GrpcServer, stub: Client) -> None:
    async def ask() -> set[grpc.StatusCode]:
        """One call after the other, until the service is gone."""
        codes = set()
        while True:
            try:
                await stub.infer(TEXT)
            except grpc.aio.AioRpcError as error:
                codes.add(error.code())
                if "told to stop" not in error.details():
                    return codes

    asking = [asyncio.create_task(ask()) for _ in range(20)]
    await stub.infer(TEXT)
    await server.drain(DrainPolicy(0, PATIENCE))
    assert set().union(*await asyncio.gather(*asking)) == {grpc.StatusCode.UNAVAILABLE}


async def test_an_end_without_calls_is_prompt(server: GrpcServer, stub: Client) -> None:
    await stub.infer(TEXT)
    began = time.monotonic()
    await server.drain(DrainPolicy(0, PATIENCE))
    assert time.monotonic() - began < PATIENCE / 2


async def test_a_port_that_is_taken(services: Services, limits: Limits) -> None:
    with pytest.raises(Misconfigured, match=r"can't serve gRPC on 256\.0\.0\.1:80"):
        await GrpcServer("256.0.0.1:80", services, limits).start()


async def test_two_servers_share_a_port(server: GrpcServer, services: Services, limits: Limits) -> None:
    other = GrpcServer(f"127.0.0.1:{server.port}", services, limits)
    await other.start()
    assert other.port == server.port
    await other.drain(DrainPolicy(0, 0))


async def test_a_server_that_never_began_ends_at_once(services: Services, limits: Limits) -> None:
    await GrpcServer("127.0.0.1:0", services, limits).drain(DrainPolicy(PATIENCE, PATIENCE))
