"""KServe's client for gRPC, which asks again where it is told UNAVAILABLE."""

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferInput, InferRequest

from tests.clients.asked import ASKED, OUTPUTS, Asked, check_alike
from tests.clients.support import Awaited, Served


@pytest.fixture
def client(served: Served) -> Iterator[Any]:
    with asyncio.Runner() as runner:

        async def connected() -> InferenceGRPCClient:
            return InferenceGRPCClient(served.grpc)

        awaited = Awaited(runner.run(connected()), runner)
        yield awaited
        awaited.close()


def request_of(asked: Asked, *, binary: bool = True) -> InferRequest:
    one = InferInput(asked.name, list(asked.array.shape), asked.datatype)
    one.set_data_from_numpy(asked.array, binary_data=binary)
    return InferRequest(asked.model, [one], request_id="mine")


# As contents the client sends texts alone: a picture's file is none.
FORMS = [
    pytest.param(asked, binary, id=f"{asked.model}-{'bytes' if binary else 'contents'}")
    for asked in ASKED
    for binary in (True, False)
    if binary or asked.name != "image"
]


@pytest.mark.parametrize(("asked", "binary"), FORMS)
def test_every_kind_of_input_is_answered_as_v1_answers_it(
    client: Any, served: Served, asked: Asked, *, binary: bool
) -> None:
    answer = client.infer(request_of(asked, binary=binary))
    assert (answer.model_name, answer.model_version, answer.id) == (asked.model, "1", "mine")
    outputs = {output.name: output.as_numpy() for output in answer.outputs}
    assert list(outputs) == OUTPUTS[asked.model]
    check_alike(outputs, served.predict(asked.model, asked.instances))


def test_the_server_and_its_models_are_ready(client: Any) -> None:
    assert client.is_server_live() is True
    assert client.is_server_ready() is True
    assert client.is_model_ready("mood") is True


def test_a_model_that_isnt_there(client: Any) -> None:
    with pytest.raises(grpc.RpcError, match="there is no model named 'nobody'") as caught:
        client.is_model_ready("nobody")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_an_input_that_is_wrong(client: Any) -> None:
    one = InferInput("input", [1, 5], "FP32")
    one.set_data_from_numpy(np.ones((1, 5), np.float32), binary_data=True)
    with pytest.raises(grpc.RpcError, match="the shape is 5; expected 4 numbers") as caught:
        client.infer(InferRequest("sensors", [one]))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
