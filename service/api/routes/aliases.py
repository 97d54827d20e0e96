"""What an alias names: moved, and looked back on."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from models.manifest import is_name
from service.api.bodies import RESPONSES, read_as, shows_body, small_body
from service.api.deps import UseServices
from service.api.exchange import Exchange
from service.api.rollout_schemas import AliasHistory, DecisionInfo
from service.api.schemas import AliasChange, AliasMoved, says_problem
from service.api.standing import load_first
from service.domain import Address
from service.errors import UnprocessableInput
from service.store.base import AliasMove

router = APIRouter(tags=["models"])

_SAYS: dict[int | str, dict[str, Any]] = {
    **RESPONSES,
    404: says_problem("There is no such model or version"),
    409: says_problem("The alias does not name what was expected, a trial holds it, or the version is unloaded"),
    503: says_problem("The version is not loaded, or the store does not answer"),
}


@router.put("/v1/models/{model}/aliases/{alias}", openapi_extra=shows_body(AliasChange), responses=_SAYS)
async def move_alias(model: str, alias: str, request: Request, services: UseServices) -> AliasMoved:
    """Let an alias name a version, which is loaded first where it is loaded on demand.

    The process that answers routes by it at once, the others look every 100 ms. Requests under way keep the version
    that they began with.
    """
    caller = Exchange.of(request.scope).caller()
    with small_body(request, services) as incoming:
        change = await read_as(AliasChange, incoming, example='{"version": "2"}')
        ref = services.catalog().named(Address(model, version=change.version))
        if not is_name(alias):
            expected = "1 to 64 characters of a-z, 0-9, dot, dash and underscore, the first a letter or digit"
            raise UnprocessableInput("this is no name", field="alias", expected=expected)
        await load_first(services, ref, caller.timeout)
        move = await services.changes.move_alias(
            model,
            alias,
            ref.version,
            actor=caller.principal.name,
            reason=change.reason,
            expected=None if change.expected is None else int(change.expected),
        )
        await services.follower.take_up()
    return _shown(move)


@router.get(
    "/v1/models/{model}/history",
    responses={
        404: says_problem("There is no such model"),
        422: says_problem("limit is not what is expected"),
        503: says_problem("The store can't be read just now"),
    },
)
async def history(model: str, services: UseServices, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> AliasHistory:
    """How the model's aliases were moved, and what was decided of versions on trial; each the newest first."""
    name = services.catalog().model(model).name
    moves = await asyncio.to_thread(services.control.history, name, limit=limit)
    decisions = await asyncio.to_thread(services.control.decisions, name, limit=limit)
    shown = [DecisionInfo.of(decision) for decision in decisions]
    return AliasHistory(model=name, history=[_shown(move) for move in moves], decisions=shown)


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
