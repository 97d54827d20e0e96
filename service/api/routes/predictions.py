"""Predictions: routed, or by exactly one version or alias.

A third of a prediction's CPU time went into FastAPI's way to an endpoint (profile, 2026-11-22), so predictions are
answered before it: the application calls `answer`. The routes here are shown by OpenAPI, and never run.
"""

from typing import Any

from fastapi import APIRouter

from service.api.deps import Services
from service.api.exchange import Answer, Exchange
from service.api.incoming import IncomingRequest
from service.api.schemas import PredictAnswer, PredictRequest, inlined, says_problem
from service.domain import Address
from service.serving.codec import IMAGES, JSON, NPY, TEXT

router = APIRouter(tags=["predictions"])

_BINARY = {"schema": {"type": "string", "format": "binary"}}
# The body is read as bytes and checked by the codec, which knows the model's contract; this is what /docs shows of it.
_OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": inlined(PredictRequest)},
            TEXT: {"schema": {"type": "string"}},
            NPY: _BINARY,
            **dict.fromkeys(IMAGES, _BINARY),
        },
    }
}
_SHOWN = "predictions are answered before FastAPI is asked"
_SAYS: dict[str, Any] = {
    "openapi_extra": _OPENAPI,
    "responses": {
        status: says_problem(text)
        for status, text in {
            400: "The body can't be read",
            404: "There is no such model, version or alias",
            408: "The request's time ran out before its body had arrived",
            413: "The body is too large",
            415: "The model does not take this content type",
            422: "The input is not what the model takes; `field` and `expected` say where and what",
            500: "The network failed on every row, or the service on this request",
            503: "Overloaded, or not ready yet: try again after Retry-After seconds",
            504: "No answer within the request's time",
        }.items()
    },
}


@router.post("/v1/models/{model}/predict", **_SAYS)
async def predict(model: str) -> PredictAnswer:
    """Predict with the model's champion, or with a version that is on trial."""
    raise NotImplementedError(_SHOWN)


@router.post("/v1/models/{model}/versions/{version}/predict", **_SAYS)
async def predict_version(model: str, version: str) -> PredictAnswer:
    """Predict with exactly this version."""
    raise NotImplementedError(_SHOWN)


@router.post("/v1/models/{model}/aliases/{alias}/predict", **_SAYS)
async def predict_alias(model: str, alias: str) -> PredictAnswer:
    """Predict with the version that the alias names."""
    raise NotImplementedError(_SHOWN)


async def answer(address: Address, services: Services, exchange: Exchange) -> Answer:
    """What a prediction's caller is told. Raises as the pipeline does, and ClientLeft."""
    with IncomingRequest(exchange, services.max_body_bytes, services.bodies) as incoming:
        encoded = await services.pipeline.predict(address, incoming, exchange.caller())
        return Answer(200, encoded.media_type, encoded.body, encoded.headers)
