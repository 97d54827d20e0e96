"""The Open Inference Protocol's model repository: what there is, loading, unloading."""

from typing import Any

from fastapi import APIRouter, Request

from service.api.bodies import read_as, shows_body, small_body
from service.api.deps import Services, UseServices
from service.api.exchange import Exchange
from service.api.inference import repository
from service.api.inference_schemas import IndexEntry, IndexRequest, RepositoryRequest, says_error

router = APIRouter(tags=["open inference protocol"])

_MODEL = "/v2/repository/models/{model}"
_EXAMPLE = '{"parameters": {}}'
_BODY: dict[int | str, dict[str, Any]] = {
    400: says_error("The body is not what is expected"),
    408: says_error("The body did not arrive in time"),
    413: says_error("The body is too large"),
}
_SAYS: dict[int | str, dict[str, Any]] = {
    **_BODY,
    404: says_error("There is no such model"),
    501: says_error("Configurations and files that come with a load are not taken"),
    503: says_error("It could not be done, or not in time; or the store does not answer"),
}


@router.post(
    "/v2/repository/index",
    openapi_extra=shows_body(IndexRequest, optional=True),
    responses={**_BODY, 503: says_error("Too much is being read at once")},
)
async def index(request: Request, services: UseServices) -> list[IndexEntry]:
    """Every version of every model, and why it does not answer where it doesn't."""
    with small_body(request, services) as incoming:
        wanted = await read_as(IndexRequest, incoming, example='{"ready": true}', optional=True)
    return repository.index(services, only_ready=wanted.ready)


@router.post(f"{_MODEL}/load", openapi_extra=shows_body(RepositoryRequest, optional=True), responses=_SAYS)
async def load(model: str, request: Request, services: UseServices) -> dict[str, Any]:
    """Load again what somebody unloaded of a model, and what failed; the answer waits for its champion."""
    said = await _said(request, services)
    await repository.load(services, model, said, _patience(request))
    return {}


@router.post(f"{_MODEL}/unload", openapi_extra=shows_body(RepositoryRequest, optional=True), responses=_SAYS)
async def unload(model: str, request: Request, services: UseServices) -> dict[str, Any]:
    """Unload all of a model's versions, its champion too: who asks for it gets a 503 until it is loaded again."""
    await _said(request, services)
    await repository.unload(services, model, _patience(request))
    return {}


async def _said(request: Request, services: Services) -> dict[str, Any]:
    with small_body(request, services) as incoming:
        return (await read_as(RepositoryRequest, incoming, example=_EXAMPLE, optional=True)).parameters


def _patience(request: Request) -> float | None:
    return Exchange.of(request.scope).caller().timeout
