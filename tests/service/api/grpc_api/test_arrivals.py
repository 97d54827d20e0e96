"""Messages that come slowly: how long they are waited for, and how many of them."""

import asyncio

import grpc
import pytest

from service.api.buffers import BodyBudget
from service.errors import BodyTooSlow, BuffersFull
from service.grpc_api import arrivals
from service.grpc_api.arrivals import Arrivals
from service.serving.pipeline import Limits
from tests.patience import PATIENCE
from tests.service.api.grpc_api.support import SERVICE, Client, request, tensor

METHOD = f"/{SERVICE.full_name}/ModelInfer"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come within 10 ms comes slowly."""
    monkeypatch.setattr(arrivals, "_PROMPT_SECONDS", 0.01)


@pytest.fixture
def two() -> Arrivals:
    """Which waits for two slow messages."""
    return Arrivals(BodyBudget(25), 10)


def message() -> "asyncio.Future[bytes]":
    return asyncio.get_running_loop().create_future()


async def test_what_comes_at_once_is_not_counted(two: Arrivals) -> None:
    prompt = [message() for _ in range(9)]
    waiting = [asyncio.create_task(two.wait(one, PATIENCE)) for one in prompt]
    for one in prompt:
        one.set_result(b"good")
    assert await asyncio.gather(*waiting) == [b"good"] * 9


async def test_no_more_are_waited_for_than_may_come_slowly(two: Arrivals) -> None:
    first, second = message(), message()
    waiting = [asyncio.create_task(two.wait(one, PATIENCE)) for one in (first, second)]
    await asyncio.sleep(0)
    with pytest.raises(BuffersFull):
        await two.wait(message(), PATIENCE)
    first.set_result(b"good")
    assert await waiting[0] == b"good"
    with pytest.raises(BodyTooSlow):  # it has the place of the first
        await two.wait(message(), 0.05)
    second.set_result(b"bad")
    assert await waiting[1] == b"bad"


async def test_one_that_does_not_come_is_not_waited_for(two: Arrivals) -> None:
    for _ in range(3):
        with pytest.raises(BodyTooSlow):
            await two.wait(message(), 0.03)


class TestAServer:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(8, default_timeout=0.2, max_timeout=120)

    async def test_a_message_that_does_not_come_is_not_waited_for(self, channel: grpc.aio.Channel) -> None:
        call = channel.stream_unary(METHOD)()
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await call.details() == "the request's time ran out before its body had arrived"


async def test_who_sends_at_once_is_answered_beside_those_who_do_not(channel: grpc.aio.Channel, stub: Client) -> None:
    slow = [channel.stream_unary(METHOD)() for _ in range(4)]
    refused = [one for one in slow[1:] if await one.code() is grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert refused
    answer = await stub.infer(request("mood", [tensor("text", "BYTES", [1], [b"good"])]))
    assert answer.model_name == "mood"
    for one in slow:
        one.cancel()
