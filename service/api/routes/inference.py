"""Predictions by the Open Inference Protocol.

Answered before FastAPI is asked, as those of /v1 are (predictions.py): the routes here are shown by OpenAPI, and never
run.
"""

from typing import Any

from fastapi import APIRouter

from service.api.compression import ENCODINGS, accepted, compressed
from service.api.deps import Services
from service.api.exchange import Answer, Exchange
from service.api.incoming import IncomingRequest
from service.api.inference_schemas import InferAnswer, InferRequest, says_error
from service.api.schemas import inlined
from service.domain import Address
from service.serving.inference_protocol import codec

router = APIRouter(tags=["open inference protocol"])

_SHOWN = "predictions are answered before FastAPI is asked"
_OCTETS = {"schema": {"type": "string", "format": "binary"}}
_SAYS: dict[str, Any] = {
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": inlined(InferRequest)},
                # JSON with the tensors' bytes behind it, where Inference-Header-Content-Length says so.
                "application/octet-stream": _OCTETS,
            },
        }
    },
    "responses": {
        200: {
            "description": "The answer; with tensors as bytes where they are wanted",
            "content": {"application/octet-stream": _OCTETS},
        },
        400: says_error("The request is not what the protocol, or this version, takes"),
        404: says_error("There is no such model or version"),
        408: says_error("The request's time ran out before its body had arrived"),
        413: says_error("The body is too large"),
        500: says_error("The network failed on a row, or the service on this request"),
        501: says_error("The protocol has it, and this service doesn't: sequences, shared memory"),
        503: says_error("Overloaded, or not ready yet: try again after Retry-After seconds"),
        504: says_error("No answer within the request's time"),
    },
}


@router.post("/v2/models/{model}/infer", **_SAYS)
async def infer(model: str) -> InferAnswer:
    """Predict with the model's champion, or with a version that is on trial."""
    raise NotImplementedError(_SHOWN)


@router.post("/v2/models/{model}/versions/{version}/infer", **_SAYS)
async def infer_version(model: str, version: str) -> InferAnswer:
    """Predict with exactly this version, or with the one that an alias names."""
    raise NotImplementedError(_SHOWN)


async def answer(address: Address, services: Services, exchange: Exchange) -> Answer:
    """What an inference request's caller is told. Raises as the pipeline does, and ClientLeft."""
    with IncomingRequest(exchange, services.max_body_bytes, services.bodies, encodings=ENCODINGS) as incoming:
        encoded = await services.pipeline.predict(address, incoming, exchange.caller(), codec.parse)
        told = Answer(200, encoded.media_type, encoded.body, encoded.headers)
        encoding = accepted(exchange.header(b"accept-encoding"))
        return told if encoding is None else await compressed(told, encoding)
