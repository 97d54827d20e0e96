"""What an alias names: moved, and looked back on."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError

from models.manifest import is_name
from service.api.deps import IncomingRequest, UseServices, caller_of
from service.api.schemas import AliasChange, AliasHistory, AliasMoved, says_problem
from service.domain import Address
from service.errors import BodyTooSlow, MalformedBody, NotReady, UnprocessableInput
from service.store.base import AliasMove

router = APIRouter(tags=["models"])

_MAX_BODY_BYTES = 16_384
_BODY_SECONDS = 10.0
_OPENAPI: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": AliasChange.model_json_schema()}}}
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: says_problem("The body can't be read"),
    404: says_problem("There is no such model or version"),
    408: says_problem("The body did not arrive in time"),
    409: says_problem("The alias does not name the version that was expected"),
    413: says_problem("The body is too large"),
    422: says_problem("The body is not what is expected"),
    503: says_problem("The version is not loaded, or the store does not answer"),
}


@router.put("/v1/models/{model}/aliases/{alias}", openapi_extra=_OPENAPI, responses=_RESPONSES)
async def move_alias(model: str, alias: str, request: Request, services: UseServices) -> AliasMoved:
    """Let an alias name a version that is loaded.

    The process that answers routes by it at once, the others look every 100 ms. Requests under way keep the version
    that they began with.
    """
    with IncomingRequest(request, _MAX_BODY_BYTES, services.bodies) as incoming:
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                change = _parse(await incoming.read())
        except TimeoutError:
            raise BodyTooSlow from None
    version = services.catalog.find(Address(model, version=change.version))
    if not is_name(alias):
        expected = "1 to 64 characters of a-z, 0-9, dot, dash and underscore, the first a letter or digit"
        raise UnprocessableInput("this is no name", field="alias", expected=expected)
    if not services.engines.is_ready(version.ref):
        raise NotReady(version.ref, "its engine has not loaded it")
    move = await services.aliases.move(
        model,
        alias,
        version.ref.version,
        actor=caller_of(request).principal.name,
        reason=change.reason,
        expected=None if change.expected is None else int(change.expected),
    )
    return _shown(move)


@router.get(
    "/v1/models/{model}/history",
    responses={404: says_problem("There is no such model"), 503: says_problem("The store can't be read just now")},
)
async def history(model: str, services: UseServices, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> AliasHistory:
    """How the model's aliases were moved, the newest first."""
    name = services.catalog.model(model).name
    moves = await services.aliases.history(name, limit=limit)
    return AliasHistory(model=name, history=[_shown(move) for move in moves])


def _parse(body: bytes) -> AliasChange:
    try:
        return AliasChange.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise MalformedBody(first["msg"], field="body", expected='{"version": "2"}') from None
        field = ".".join(["body", *map(str, first["loc"])])
        raise UnprocessableInput(first["msg"], field=field, expected='{"version": "2"}') from None


def _shown(move: AliasMove) -> AliasMoved:
    return AliasMoved(
        model=move.model,
        alias=move.alias,
        version=str(move.version),
        previous=None if move.previous is None else str(move.previous),
        actor=move.actor,
        reason=move.reason,
        time=move.time,
        revision=move.revision,
    )
