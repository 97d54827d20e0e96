"""Whatever is wrong with a message is said before anything is queued, and takes no memory."""

import tracemalloc

import grpc
import pytest

from service.api.deps import Services
from service.grpc_api import inference_pb2 as pb
from tests.service.api.grpc_api.support import SERVICE, Client, request, tensor
from tests.service.api.grpc_api.wrong_messages import LIES, WRONG, Wrong
from tests.service.api.support import MAX_BODY_BYTES, MAX_BUFFERED_BYTES, CountingEngine


@pytest.mark.parametrize("wrong", WRONG, ids=[wrong.name for wrong in WRONG])
async def test_what_is_wrong_is_said(stub: Client, engine: CountingEngine, services: Services, wrong: Wrong) -> None:
    error = await stub.refused("ModelInfer", wrong.message)
    assert error.details()[: len(wrong.says)] == wrong.says
    assert error.code() is wrong.code
    assert not engine.calls
    assert services.bodies.held == 0


async def test_lies_about_sizes_take_no_memory(stub: Client) -> None:
    for wrong in LIES:
        await stub.refused("ModelInfer", wrong.message)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for wrong in LIES:
            await stub.refused("ModelInfer", wrong.message)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 4 << 20


@pytest.mark.parametrize("method", [method.name for method in SERVICE.methods])
@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\xff"])
async def test_bytes_that_are_no_message(stub: Client, method: str, data: bytes) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.send(method, data)
    kind = SERVICE.methods_by_name[method].input_type.full_name
    assert caught.value.details() == f"body: this is no such message; expected {kind}"
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("field", [b"\x2a\x00", b"\x32\x00", b"\x3a\x00", b"\x22\x00", b"\x98\x3e\x01"])
async def test_fields_without_end_are_not_read(stub: Client, field: bytes) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.send("ModelInfer", field * 513)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    expected = "body: the message has more than 512 fields; expected at most 64 inputs and 64 outputs"
    assert caught.value.details() == expected


async def test_a_name_that_is_no_utf_8(stub: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.send("ModelInfer", b"\x0a\x02\xff\xfe")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_message_that_is_too_large(stub: Client, engine: CountingEngine) -> None:
    large = request("mood", [tensor("text", "BYTES", [1])], [bytes(MAX_BODY_BYTES + 1)])
    error = await stub.refused("ModelInfer", large)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(MAX_BODY_BYTES) in error.details()
    assert not engine.calls


async def test_messages_that_fill_the_memory_for_bodies(stub: Client, services: Services) -> None:
    services.bodies.take(MAX_BUFFERED_BYTES - 10)
    try:
        error = await stub.refused("ModelInfer", request("mood", [tensor("text", "BYTES", [1], [b"good"])]))
    finally:
        services.bodies.give_back(MAX_BUFFERED_BYTES - 10)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (
        error.details() == f"the bodies of other requests fill the {MAX_BUFFERED_BYTES} bytes that there are for bodies"
    )
    assert services.bodies.held == 0


async def test_no_message_at_all(channel: grpc.aio.Channel) -> None:
    call = channel.stream_unary(f"/{SERVICE.full_name}/ModelInfer")()
    await call.done_writing()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "body: there is no message; expected one message"


async def test_a_field_of_a_later_protocol_is_left_alone(stub: Client) -> None:
    message = request("mood", [tensor("text", "BYTES", [1], [b"good"])]).SerializeToString()
    answer = pb.ModelInferResponse.FromString(await stub.send("ModelInfer", message + b"\x92\x3e\x04more"))
    assert answer.model_name == "mood"
