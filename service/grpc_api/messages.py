"""An inference request and its answer as gRPC carries them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError, Message

from service.domain import Ref
from service.errors import MalformedBody, UnprocessableInput
from service.grpc_api import inference_pb2 as pb
from service.serving.answer import Encoded
from service.serving.inference_protocol.datatypes import BYTES, NUMBERS, Elements, elements_from_bytes
from service.serving.inference_protocol.request import (
    MAX_TENSORS,
    AskedOutput,
    InferRequest,
    InputTensor,
    asked_output,
    check_distinct,
    checked_datatype,
    checked_id,
    checked_shape,
    parameters_of,
    refuse_shared_memory,
)
from service.serving.inference_protocol.response import OutputTensor, bytes_of

# The field of `contents` for each datatype, and what its elements are there.
_CONTENTS: dict[str, tuple[str, type[np.generic]]] = {
    "BOOL": ("bool_contents", np.bool_),
    **{f"INT{size}": ("int_contents", np.int32) for size in (8, 16, 32)},
    "INT64": ("int64_contents", np.int64),
    **{f"UINT{size}": ("uint_contents", np.uint32) for size in (8, 16, 32)},
    "UINT64": ("uint64_contents", np.uint64),
    "FP32": ("fp32_contents", np.float32),
    "FP64": ("fp64_contents", np.float64),
    BYTES: ("bytes_contents", np.object_),
}
_RAW = "raw_input_contents"
_MAX_FIELDS = 8 * MAX_TENSORS


def check_fields(data: bytes) -> None:
    """Raises MalformedBody where a message has more fields than any that asks for something.

    An input takes two bytes to send, and a hundred once it is read. What is no message is left for others to refuse.
    """
    at = 0
    for _ in range(_MAX_FIELDS):
        if at >= len(data):
            return
        key, at = _varint(data, at)
        match key & 7:
            case 0:
                _, at = _varint(data, at)
            case 1:
                at += 8
            case 2:
                size, at = _varint(data, at)
                at += size
            case 5:
                at += 4
            case _:
                return
    what = f"the message has more than {_MAX_FIELDS} fields"
    raise MalformedBody(what, field="body", expected=f"at most {MAX_TENSORS} inputs and {MAX_TENSORS} outputs")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, in 7 bits of each byte, and the place behind it."""
    value = 0
    for index, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    return value, len(data)


def read_message(kind: type[Message], data: bytes) -> Any:
    """The message of these bytes. Raises MalformedBody."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise MalformedBody("this is no such message", field="body", expected=kind.DESCRIPTOR.full_name) from None


def read_request(message: pb.ModelInferRequest) -> InferRequest:
    """What a message asks for. Raises UnprocessableInput or NotSupported."""
    return InferRequest(
        checked_id(message.id or None),
        parameters_of(_said(message.parameters)),
        _inputs(message),
        _outputs(message),
        is_binary=True,
    )


def write_answer(
    ref: Ref, request: InferRequest, tensors: Sequence[OutputTensor], prediction_ids: Sequence[str]
) -> Encoded:
    """The answer's message, with all tensors as bytes."""
    answer = pb.ModelInferResponse(
        model_name=ref.model,
        model_version=str(ref.version),
        id=request.id or "",
        outputs=[{"name": one.name, "datatype": one.datatype, "shape": one.shape} for one in tensors],
        raw_output_contents=[bytes_of(one) for one in tensors],
    )
    answer.parameters["prediction_ids"].string_param = ",".join(prediction_ids)
    return Encoded(answer.SerializeToString())


def _inputs(message: pb.ModelInferRequest) -> list[InputTensor]:
    tensors = message.inputs
    if not tensors:
        raise UnprocessableInput("there are no inputs", field="inputs", expected="at least one tensor")
    check_distinct([one.name for one in tensors], "inputs")
    for one in tensors:
        refuse_shared_memory(_said(one.parameters))
    num_raw = len(message.raw_input_contents)
    if num_raw not in (0, len(tensors)):
        expected = f"one for each of the {len(tensors)} inputs, or none"
        raise UnprocessableInput(f"there are {num_raw}", field=_RAW, expected=expected)
    raw = message.raw_input_contents if num_raw else [None] * len(tensors)
    return [_input(one, data, index) for index, (one, data) in enumerate(zip(tensors, raw, strict=True))]


def _input(tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None, index: int) -> InputTensor:
    field = f"inputs[{index}]"
    datatype = checked_datatype(tensor.datatype, f"{field}.datatype")
    shape = checked_shape(list(tensor.shape), f"{field}.shape")
    has_contents = bool(tensor.contents.ListFields())
    if has_contents == (raw is not None):
        what = f"both contents and {_RAW} are there" if has_contents else "there is no data"
        raise UnprocessableInput(what, field=field, expected=f"contents, or {_RAW} of the request")
    if raw is not None:
        at = f"{_RAW}[{index}]"
        return InputTensor(tensor.name, datatype, shape, elements_from_bytes(memoryview(raw), datatype, shape, at), at)
    at = f"{field}.contents"
    return InputTensor(tensor.name, datatype, shape, _elements(tensor.contents, datatype, shape, at), at)


def _elements(contents: pb.InferTensorContents, datatype: str, shape: tuple[int, ...], field: str) -> Elements:
    if datatype not in _CONTENTS:
        what = f"{datatype} does not travel as contents"
        raise UnprocessableInput(what, field=field, expected=f"{_RAW}, or another type than {datatype}")
    name, kind = _CONTENTS[datatype]
    for filled, _ in contents.ListFields():
        if filled.name != name:
            raise UnprocessableInput(f"{filled.name} is filled", field=field, expected=f"{name} for {datatype}")
    values = getattr(contents, name)
    expected = f"{math.prod(shape)} elements of {datatype}"
    if len(values) != math.prod(shape):
        raise UnprocessableInput(f"there are {len(values)} elements", field=field, expected=expected)
    if datatype == BYTES:
        return list(values)
    array = np.fromiter(values, kind, len(values))
    dtype = NUMBERS[datatype]
    if array.dtype.itemsize > dtype.itemsize:
        bounds = np.iinfo(dtype)
        if array.min() < bounds.min or array.max() > bounds.max:
            raise UnprocessableInput(f"a number is out of {datatype}'s range", field=field, expected=expected)
    return array.astype(dtype, copy=False).reshape(shape)


def _outputs(message: pb.ModelInferRequest) -> list[AskedOutput] | None:
    if not message.outputs:
        return None
    check_distinct([one.name for one in message.outputs], "outputs")
    return [
        asked_output(one.name, _said(one.parameters), f"outputs[{index}].parameters", is_binary=True)
        for index, one in enumerate(message.outputs)
    ]


def _said(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    """Parameters by name; one without a value is None."""
    said = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        said[name] = None if choice is None else getattr(parameter, choice)
    return said
