"""Calls of `inference.GRPCInferenceService` as its clients make them, and answers as they read them."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message

from service.grpc_api import inference_pb2 as pb
from tests.service.api.inference.support import DTYPES

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
# The field of `contents` for each datatype.
CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip

Metadata = Sequence[tuple[str, str]]


class Client:
    """Calls methods by their names."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def begin(
        self, method: str, request: Message, metadata: Metadata = (), timeout: float | None = None
    ) -> "grpc.aio.UnaryUnaryCall[Any, Any]":
        """The call under way."""
        kind = getattr(pb, SERVICE.methods_by_name[method].output_type.name)
        path = f"/{SERVICE.full_name}/{method}"
        call = self._channel.unary_unary(
            path, request_serializer=type(request).SerializeToString, response_deserializer=kind.FromString
        )
        return call(request, metadata=tuple(metadata), timeout=timeout)

    async def call(self, method: str, request: Message, metadata: Metadata = (), timeout: float | None = None) -> Any:
        """The answer. Raises grpc.aio.AioRpcError."""
        return await self.begin(method, request, metadata, timeout)

    async def send(self, method: str, data: bytes) -> bytes:
        """A call of a method that may not be there, with whatever bytes."""
        answer: bytes = await self._channel.unary_unary(f"/{SERVICE.full_name}/{method}")(data)
        return answer

    async def infer(self, request: pb.ModelInferRequest, metadata: Metadata = (), timeout: float | None = None) -> Any:
        return await self.call("ModelInfer", request, metadata, timeout)

    async def refused(
        self, method: str, request: Message, metadata: Metadata = (), timeout: float | None = None
    ) -> Any:
        """The error that the call ends with."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(method, request, metadata, timeout)
        return caught.value


def parameter(value: Any) -> pb.InferParameter:
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    return pb.InferParameter(**{kinds[type(value)]: value})


def parameters(values: Mapping[str, Any]) -> dict[str, pb.InferParameter]:
    return {name: parameter(value) for name, value in values.items()}


def tensor(name: str, datatype: str, shape: Sequence[int], elements: Any = (), **more: Any) -> Any:
    """An input; with `elements` in the field of its datatype, where there are any."""
    contents = pb.InferTensorContents(**{CONTENTS[datatype]: elements}) if len(elements) else None
    return pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape, contents=contents, **more)


def request(model: str, inputs: Sequence[Any], raw: Sequence[bytes] = (), **more: Any) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(model_name=model, inputs=inputs, raw_input_contents=raw, **more)


def output(name: str, **said: Any) -> Any:
    return pb.ModelInferRequest.InferRequestedOutputTensor(name=name, parameters=parameters(said))


def outputs_of(answer: pb.ModelInferResponse) -> dict[str, Any]:
    """The tensors of an answer by name: arrays of their shapes, and lists of the elements of BYTES."""
    assert len(answer.outputs) == len(answer.raw_output_contents)
    assert not any(one.HasField("contents") for one in answer.outputs)
    return {one.name: _read(one, data) for one, data in zip(answer.outputs, answer.raw_output_contents, strict=True)}


def _read(one: Any, data: bytes) -> Any:
    if one.datatype != "BYTES":
        return np.frombuffer(data, DTYPES[one.datatype]).reshape(one.shape)
    texts = []
    while data:
        (size,) = struct.unpack_from("<I", data)
        texts.append(data[4 : 4 + size].decode())
        data = data[4 + size :]
    assert len(texts) == np.prod(one.shape)
    return texts
