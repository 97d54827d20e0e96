"""An inference request as HTTP carries it: JSON, with tensors as bytes behind it where a header says so."""

import math
from collections.abc import Mapping
from typing import Any

import orjson

from service.domain import PredictParameters
from service.errors import MalformedBody, MalformedHeader, UnprocessableInput
from service.serving.inference_protocol.datatypes import (
    BYTES,
    NUMBERS,
    elements_from_bytes,
    elements_from_json,
)
from service.serving.inference_protocol.flat_json import read_flat
from service.serving.inference_protocol.request import (
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
from service.serving.interface import TensorSpec

JSON_LENGTH = "Inference-Header-Content-Length"
"""The header with the bytes of JSON that a body begins with; what follows are tensors."""

_EXAMPLE = '{"inputs": [{"name": ..., "shape": [...], "datatype": ..., "data": [...]}]}'
_SIZE = "binary_data_size"


def read_request(body: bytes, json_length: str | None, opaque: TensorSpec) -> InferRequest:
    """The request of a body; `json_length` is its header's value. With 0 the body is the row `opaque`, and all outputs
    are wanted as bytes.

    Raises MalformedHeader, MalformedBody, UnprocessableInput or NotSupported.
    """
    if json_length is None:
        return _Reader(body, len(body)).request()
    if not (json_length.isascii() and json_length.isdigit() and len(json_length) < 16):
        raise MalformedHeader(JSON_LENGTH, f"{json_length[:50]!r} is no number of bytes", "a whole number")
    length = int(json_length)
    if length > len(body):
        what = f"the body has {len(body)} bytes, and {length} of JSON are announced"
        raise MalformedHeader(JSON_LENGTH, what, f"at most {len(body)}")
    return _opaque_request(body, opaque) if length == 0 else _Reader(body, length).request()


def _opaque_request(body: bytes, spec: TensorSpec) -> InferRequest:
    """A body that is one row and nothing else."""
    if spec.datatype == BYTES:
        row = InputTensor(spec.name, BYTES, (1,), [body], "body")
    else:
        known = math.prod(size for size in spec.shape if size != -1)
        steps = len(body) // (NUMBERS[spec.datatype].itemsize * known)
        shape = (1, *(steps if size == -1 else size for size in spec.shape[1:]))
        elements = elements_from_bytes(memoryview(body), spec.datatype, shape, "body")
        row = InputTensor(spec.name, spec.datatype, shape, elements, "body")
    return InferRequest(None, PredictParameters(), [row], is_binary=True)


class _Reader:
    """Reads one body, whose JSON takes `json_length` bytes; tensors as bytes are taken off what follows, in order."""

    def __init__(self, body: bytes, json_length: int) -> None:
        self._binary = memoryview(body)[json_length:]
        self._at = 0
        try:
            flat = None if self._binary else read_flat(body)
            self._document = orjson.loads(memoryview(body)[:json_length]) if flat is None else flat
        except orjson.JSONDecodeError as error:
            what = f"this is no JSON: {error.msg} (character {error.pos})"
            raise MalformedBody(what, field="body", expected=_EXAMPLE) from None

    def request(self) -> InferRequest:
        document = self._document
        if not isinstance(document, dict):
            raise UnprocessableInput("this is no object", field="body", expected=_EXAMPLE)
        said = _object(document.get("parameters"), "parameters")
        is_binary = said.get("binary_data_output", False)
        if not isinstance(is_binary, bool):
            field = "parameters.binary_data_output"
            raise UnprocessableInput("this is no boolean", field=field, expected="true or false")
        parameters = parameters_of(said)
        inputs = [self._input(one, f"inputs[{index}]") for index, one in enumerate(self._named(document, "inputs"))]
        if left := len(self._binary) - self._at:
            what = f"{left} bytes follow that belong to no input"
            raise UnprocessableInput(what, field="body", expected=f"as many as {_SIZE} of all inputs say")
        return InferRequest(checked_id(document.get("id")), parameters, inputs, self._outputs(is_binary), is_binary)

    def _named(self, document: Mapping[str, Any], what: str) -> list[dict[str, Any]]:
        tensors = document.get(what)
        if not isinstance(tensors, list) or not tensors:
            raise UnprocessableInput(f"there are no {what}", field=what, expected="an array of at least one tensor")
        for index, tensor in enumerate(tensors):
            if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
                expected = f'an object with a "name", as in {_EXAMPLE}'
                raise UnprocessableInput("this is no tensor", field=f"{what}[{index}]", expected=expected)
        check_distinct([tensor["name"] for tensor in tensors], what)
        return tensors

    def _input(self, tensor: dict[str, Any], field: str) -> InputTensor:
        datatype = checked_datatype(tensor.get("datatype"), f"{field}.datatype")
        shape = checked_shape(tensor.get("shape"), f"{field}.shape")
        said = _object(tensor.get("parameters"), f"{field}.parameters")
        refuse_shared_memory(said)
        is_bytes, has_data = _SIZE in said, "data" in tensor
        if is_bytes == has_data:
            what = "both data and bytes are there" if has_data else "there is no data"
            expected = f"data, or {_SIZE} under parameters and bytes behind the JSON"
            raise UnprocessableInput(what, field=field, expected=expected)
        at = f"{field}.data"
        if is_bytes:
            data = self._take(said[_SIZE], f"{field}.parameters.{_SIZE}")
            elements = elements_from_bytes(data, datatype, shape, at)
        else:
            elements = elements_from_json(tensor["data"], datatype, shape, at)
        return InputTensor(tensor["name"], datatype, shape, elements, at)

    def _take(self, size: Any, field: str) -> memoryview:
        """The next so many bytes of those behind the JSON."""
        left = len(self._binary) - self._at
        if type(size) is not int or not 0 <= size <= left:
            what = f"{size!r:.50} bytes are announced"
            raise UnprocessableInput(what, field=field, expected=f"at most the {left} that are left behind the JSON")
        self._at += size
        return self._binary[self._at - size : self._at]

    def _outputs(self, is_binary: bool) -> list[AskedOutput] | None:
        if self._document.get("outputs") in (None, []):
            return None
        return [
            asked_output(
                output["name"],
                _object(output.get("parameters"), f"outputs[{index}].parameters"),
                f"outputs[{index}].parameters",
                is_binary=is_binary,
            )
            for index, output in enumerate(self._named(self._document, "outputs"))
        ]


def _object(value: Any, field: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UnprocessableInput("this is no object", field=field, expected="an object of parameters by name")
    return value
