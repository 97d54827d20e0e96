"""The Open Inference Protocol's part in the journey of a prediction: a request in, rows; an answer out."""

from collections.abc import Callable, Sequence

from models.preprocess import RawRows, Tensors
from service.domain import Ref
from service.serving.allowance import Allowance
from service.serving.answer import Computed, Encoded
from service.serving.codec import Body, Parsed
from service.serving.inference_protocol.datatypes import BYTES
from service.serving.inference_protocol.http_body import read_request
from service.serving.inference_protocol.request import InferRequest
from service.serving.inference_protocol.response import (
    OutputTensor,
    check_answered,
    encode_answer,
    output_tensors,
    wanted_outputs,
)
from service.serving.inference_protocol.rows import chosen_input, prepared_rows, raw_rows
from service.serving.router import Target

Write = Callable[[Ref, InferRequest, Sequence[OutputTensor], Sequence[str]], Encoded]
"""Writes an answer down: that of a version to a request, its tensors, and the ids of its predictions."""


def parse(body: Body, target: Target, max_rows: int) -> Parsed:
    """The request of an HTTP body. Raises MalformedHeader, MalformedBody, UnprocessableInput or NotSupported."""
    return parsed(read_request(body.data, body.json_length, target.interface.opaque), target, max_rows, encode_answer)


def parsed(request: InferRequest, target: Target, max_rows: int, write: Write) -> Parsed:
    """What a request asks of this version, whichever way it travelled. Raises UnprocessableInput."""
    interface = target.interface
    sent, spec = chosen_input(request.inputs, interface)
    wanted = wanted_outputs(request, interface)

    def rows(allowance: Allowance) -> RawRows | Tensors:
        if spec is interface.prepared:
            return prepared_rows(sent, interface.prepared_contract, max_rows, allowance)
        return raw_rows(sent, target.manifest.input, max_rows, allowance)

    # Every version of a model has the outputs of its task, by the same names.
    def encode(answering: Target, computed: Computed) -> Encoded:
        check_answered(answering.ref, computed.outputs)
        tensors = output_tensors(wanted, computed, answering.manifest)
        return write(answering.ref, request, tensors, computed.prediction_ids)

    return Parsed(request.parameters, rows, encode, hold_picture=spec.datatype == BYTES and spec.name == "image")
