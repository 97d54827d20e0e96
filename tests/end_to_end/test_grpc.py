"""The Open Inference Protocol over gRPC, of a service that really runs."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from service.grpc_api import inference_pb2 as pb
from tests import checkpoints
from tests.end_to_end.service import Homes, Service, free_port, serve_and_fail, until
from tests.faults import slow
from tests.patience import PATIENCE
from tests.service.api.grpc_api.support import Client, outputs_of, request, tensor

OK, UNAVAILABLE = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE
ROW = [1.0, 2.0, 3.0, 4.0]
SENSORS = request("sensors", [tensor("input", "FP32", [1, 4], ROW)])
_STEPS = np.ones((1, 40_000, 3), np.float32)
SLOW = request(slow.NAME, [tensor("input", "FP32", _STEPS.shape)], [_STEPS.tobytes()])


class GrpcService(Service):
    """That serves gRPC too, and logs each call."""

    def __init__(self, home: Path, *options: str, **settings: object) -> None:
        self.grpc_port = free_port()
        root = home / "data" / "models"
        if not root.exists():
            checkpoints.write_vector(root)
            slow.write(root)
        super().__init__(
            home, "--grpc-port", str(self.grpc_port), "--access-log", *options, shipped_checkpoints="", **settings
        )

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Client]:
        """A client with a connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.grpc_port}", options=options) as channel:
            yield Client(channel)

    def answering(self, since: int = 0) -> set[str]:
        """The processes that answered calls, by what was logged since."""
        lines = [json.loads(line) for line in self.errors[since:].splitlines() if line.endswith("}")]
        return {line["process"] for line in lines if line["event"] == "call" and line["status"] == "OK"}


@pytest.fixture(scope="module")
def both(new_home: Homes) -> Iterator[GrpcService]:
    with GrpcService(new_home(), "--http-processes", "2") as running:
        yield running


@pytest.fixture(autouse=True)
def _whole(request: pytest.FixtureRequest) -> None:
    if "both" in request.fixturenames:
        request.getfixturevalue("both").wait_ready()


async def test_a_prediction_is_that_of_http_and_is_remembered(both: GrpcService) -> None:
    async with both.connected() as client:
        answer = await client.infer(SENSORS)
    (prediction,) = both.predict("sensors", [ROW], return_probabilities=True)
    assert outputs_of(answer)["probabilities"][0] == pytest.approx(list(prediction["probabilities"].values()))
    path = f"/v1/predictions/{answer.parameters['prediction_ids'].string_param}"
    found = await asyncio.to_thread(until, lambda: _found(both, path), "it is in the store")
    assert (found["model"], found["version"]) == ("sensors", "1")


def _found(service: Service, path: str) -> dict[str, str] | None:
    response = service.client.get(path)
    return response.json() if response.status_code == 200 else None


async def test_calls_are_counted_as_requests_are(both: GrpcService) -> None:
    def counted() -> float:
        return both.metric("servoloop_requests_total", model="sensors", outcome="ok")

    before = counted()
    async with both.connected() as client:
        await asyncio.gather(*(client.infer(SENSORS) for _ in range(20)))
    await asyncio.to_thread(until, lambda: counted() == before + 20, "all are counted")


async def test_a_model_is_unloaded_and_loaded(both: GrpcService) -> None:
    async with both.connected() as client:
        await client.call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="sensors"))
        error = await client.refused("ModelInfer", SENSORS)
        assert error.code() is UNAVAILABLE
        assert not (await client.call("ModelReady", pb.ModelReadyRequest(name="sensors"))).ready
        await client.call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="sensors"))
        await client.infer(SENSORS)


async def test_all_http_processes_share_the_port(both: GrpcService) -> None:
    await until_answering(both, {"http-0", "http-1"})


async def until_answering(service: GrpcService, slots: set[str], since: int = 0) -> None:
    """Ask on one connection after the other, until all of these processes have answered one."""
    async with asyncio.timeout(PATIENCE):
        while not slots <= service.answering(since):
            async with service.connected() as client:
                await client.infer(SENSORS)


async def test_a_process_that_was_killed_is_followed_by_one_that_is_reached(both: GrpcService) -> None:
    killed = both.kill_child("http-1")
    await asyncio.to_thread(until, lambda: both.child("http-1") != killed, "another is there")
    await asyncio.to_thread(both.wait_ready)
    await until_answering(both, {"http-1"}, since=len(both.errors))


async def test_stopped_under_load_it_loses_no_call_that_it_accepted(new_home: Homes) -> None:
    with GrpcService(new_home(), "--http-processes", "2") as service:
        await asyncio.to_thread(service.wait_ready)
        codes: Counter[grpc.StatusCode] = Counter()

        async def ask() -> None:
            """One call after the other, until nobody listens."""
            async with service.connected() as client:
                while True:
                    call = client.begin("ModelInfer", SENSORS)
                    codes[await call.code()] += 1
                    if "failed to connect" in (await call.details() or ""):
                        return

        async def ask_slowly() -> grpc.StatusCode:
            async with service.connected() as client:
                return await client.begin("ModelInfer", SLOW).code()

        def under_way() -> bool:
            return service.metric("servoloop_stage_duration_seconds_count", model=slow.NAME, stage="parse") == 3

        await until_answering(service, {"http-0", "http-1"})
        asking = [asyncio.create_task(ask()) for _ in range(12)]
        slowly = [asyncio.create_task(ask_slowly()) for _ in range(3)]
        await asyncio.to_thread(until, under_way, "the slow ones are under way")
        stopping = asyncio.create_task(asyncio.to_thread(service.stop))
        assert [await one for one in slowly] == [OK] * 3
        await asyncio.gather(*asking)
        assert await stopping == 0
        assert set(codes) == {OK, UNAVAILABLE}
        assert "not finished in time" not in service.errors
        assert "Traceback" not in service.errors


def test_a_port_in_use_is_refused(new_home: Homes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, said = serve_and_fail(new_home(), "--grpc-port", str(port), shipped_checkpoints="")
    assert code not in (0, None)
    assert f"can't serve on 127.0.0.1:{port}" in said
    assert "--grpc-port" in said
    assert "Traceback" not in said


def test_an_address_that_others_reach_is_refused(new_home: Homes) -> None:
    code, said = serve_and_fail(
        new_home(), "--host", "0.0.0.0", "--grpc-port", str(free_port()), shipped_checkpoints=""
    )
    assert code not in (0, None)
    assert "0.0.0.0 can be reached by others" in said
