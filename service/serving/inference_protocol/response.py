"""What a version computed as the protocol's output tensors, and their way back over HTTP."""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from models.manifest import Manifest
from models.preprocess.tensors import Array
from service.domain import Ref
from service.errors import PredictionFailed, QuarantinedInput, UnprocessableInput
from service.serving.answer import Computed, Encoded
from service.serving.inference_protocol.datatypes import BYTES
from service.serving.inference_protocol.http_body import JSON_LENGTH
from service.serving.inference_protocol.request import AskedOutput, InferRequest
from service.serving.interface import Interface
from service.wire.inference import Outputs

_OCTETS = b"application/octet-stream"
_LENGTH = struct.Struct("<I")


class OutputTensor(NamedTuple):
    """`elements`: an array of `shape`, or, of BYTES, the flat list of its elements."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    elements: Array | list[str]
    is_binary: bool


def wanted_outputs(request: InferRequest, interface: Interface) -> Sequence[AskedOutput]:
    """The outputs that are asked for, in their order. Raises UnprocessableInput."""
    if request.outputs is None:
        return [AskedOutput(spec.name, request.is_binary) for spec in interface.outputs]
    known = {spec.name: spec for spec in interface.outputs}
    for index, asked in enumerate(request.outputs):
        spec = known.get(asked.name)
        if spec is None:
            what, field = f"there is no output {asked.name!r:.50}", f"outputs[{index}].name"
            raise UnprocessableInput(what, field=field, expected=f"one of {', '.join(known)}")
        if asked.classes and spec.datatype == BYTES:
            field = f"outputs[{index}].parameters.classification"
            raise UnprocessableInput(f"{asked.name} holds no numbers", field=field, expected="an output of numbers")
    return request.outputs


def output_tensors(wanted: Sequence[AskedOutput], computed: Computed, manifest: Manifest) -> list[OutputTensor]:
    """What was computed of rows of which none failed."""
    return [_tensor(asked, _elements(asked.name, computed), manifest) for asked in wanted]


def check_answered(ref: Ref, outputs: Outputs) -> None:
    """Raises PredictionFailed or QuarantinedInput where a row has no answer: the protocol has no place for that."""
    if not outputs.failures:
        return
    index, reason = next(iter(outputs.failures.items()))
    if index in outputs.quarantined:
        raise QuarantinedInput(ref)
    raise PredictionFailed(ref, f"row {index}: {reason}")


def encode_answer(
    ref: Ref, request: InferRequest, tensors: Sequence[OutputTensor], prediction_ids: Sequence[str]
) -> Encoded:
    """The answer's body: JSON, and behind it what is wanted as bytes."""
    binary: list[bytes] = []
    described = []
    for tensor in tensors:
        head: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if tensor.is_binary:
            data = bytes_of(tensor)
            binary.append(data)
            head["parameters"] = {"binary_data_size": len(data)}
        else:
            head["data"] = tensor.elements if isinstance(tensor.elements, list) else tensor.elements.reshape(-1)
        described.append(head)
    document: dict[str, Any] = {"model_name": ref.model, "model_version": str(ref.version)}
    if request.id is not None:
        document["id"] = request.id
    # A parameter is a number, a boolean or a text, says the protocol.
    document["parameters"] = {"prediction_ids": ",".join(prediction_ids)}
    document["outputs"] = described
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not binary:
        return Encoded(text)
    headers = ((JSON_LENGTH.lower().encode(), b"%d" % len(text)),)
    return Encoded(b"".join([text, *binary]), _OCTETS, headers)


def _elements(name: str, computed: Computed) -> Array | list[str]:
    match name:
        case "probabilities":
            return np.array(computed.probabilities, np.float32)
        case "label":
            return [prediction["label"] for prediction in computed.predictions]
        case "value":
            return np.array([[prediction["value"]] for prediction in computed.predictions], np.float64)
        case _:
            return computed.outputs.values


def _tensor(asked: AskedOutput, elements: Array | list[str], manifest: Manifest) -> OutputTensor:
    if isinstance(elements, list):
        return OutputTensor(asked.name, BYTES, (len(elements), 1), elements, asked.is_binary)
    if asked.classes:
        labels = manifest.labels if len(manifest.labels) == elements.shape[1] else []
        classes = min(asked.classes, elements.shape[1])
        named = [text for row in elements for text in _best(row, classes, labels)]
        return OutputTensor(asked.name, BYTES, (len(elements), classes), named, asked.is_binary)
    datatype = "FP64" if elements.dtype == np.float64 else "FP32"
    return OutputTensor(asked.name, datatype, elements.shape, elements, asked.is_binary)


def _best(row: Array, classes: int, labels: Sequence[str]) -> list[str]:
    """`value:index`, and the label where there is one, of the largest values; the first of equal ones comes first."""
    best = np.argsort(-row, kind="stable")[:classes].tolist()
    return [f"{row[index]:f}:{index}" + (f":{labels[index]}" if labels else "") for index in best]


def bytes_of(tensor: OutputTensor) -> bytes:
    """The elements in their binary form."""
    if not isinstance(tensor.elements, list):
        return tensor.elements.tobytes()
    encoded = [element.encode() for element in tensor.elements]
    return b"".join([part for element in encoded for part in (_LENGTH.pack(len(element)), element)])
