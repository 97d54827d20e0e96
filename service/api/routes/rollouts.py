"""Versions on trial: begun, changed, promoted and rolled back."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from service.api.bodies import RESPONSES, read_as, shows_body, small_body
from service.api.deps import Services, UseServices
from service.api.exchange import Exchange
from service.api.rollout_schemas import DecisionInfo, Promotion, Rollback, RolloutInfo, RolloutWanted
from service.api.schemas import says_problem
from service.api.standing import load_first
from service.domain import Address, Ref, Rollout
from service.errors import NoRollout
from service.store.rollouts import NO_POLICY, RolloutChange

router = APIRouter(tags=["models"])

_EXAMPLE = '{"version": "2", "stage": "shadow", "share": 0.1}'
_SAYS: dict[int | str, dict[str, Any]] = {
    **RESPONSES,
    404: says_problem("There is no such model or version, or nothing of it is on trial"),
    409: says_problem("Another version is on trial, or it is not as expected, or the version is unloaded"),
    503: says_problem("The version is not loaded, or the store does not answer"),
}


@router.put("/v1/models/{model}/rollout", openapi_extra=shows_body(RolloutWanted), responses=_SAYS)
async def put_rollout(model: str, request: Request, services: UseServices) -> RolloutInfo:
    """Put a version on trial, loaded first where it is loaded on demand; or change the trial that it is on.

    The process that answers routes by it at once, the others look every 100 ms.
    """
    caller = Exchange.of(request.scope).caller()
    with small_body(request, services) as incoming:
        wanted = await read_as(RolloutWanted, incoming, example=_EXAMPLE)
        ref = services.catalog().named(Address(model, version=wanted.version))
        await services.follower.refresh()
        actor = caller.principal.name
        if model not in services.state.rollouts:
            rollout = await _begin(services, ref, wanted, caller.timeout, actor)
        else:
            rollout = await services.changes.change_rollout(
                model,
                RolloutChange(wanted.stage, wanted.share, wanted.paused, wanted.policy),
                expected_version=ref.version,
                expected_stage=wanted.expected_stage,
                actor=actor,
                reason=wanted.reason,
            )
        await services.follower.take_up()
    return RolloutInfo.of(rollout)


async def _begin(services: Services, ref: Ref, wanted: RolloutWanted, patience: float | None, actor: str) -> Rollout:
    # What would change a trial is well-formed: whether there is one is for the store to say.
    if wanted.expected_stage is not None or wanted.stage is None or wanted.share is None:
        raise NoRollout(ref.model)
    await load_first(services, ref, patience)
    return await services.changes.begin_rollout(
        ref.model,
        ref.version,
        stage=wanted.stage,
        share=wanted.share,
        paused=bool(wanted.paused),
        policy=NO_POLICY if wanted.policy is None else wanted.policy,
        actor=actor,
        reason=wanted.reason,
    )


@router.get("/v1/models/{model}/rollout", responses={404: _SAYS[404], 503: says_problem("The store can't be read")})
async def get_rollout(model: str, services: UseServices) -> RolloutInfo:
    """The version that is on trial, and how."""
    name = services.catalog().model(model).name
    await services.follower.refresh()
    return RolloutInfo.of(_under_way(services, name))


@router.post("/v1/models/{model}/promote", openapi_extra=shows_body(Promotion, optional=True), responses=_SAYS)
async def promote(model: str, request: Request, services: UseServices) -> DecisionInfo:
    """Make the version on trial the champion, or one that is named; its trial ends with that.

    Requests under way keep the version that they began with.
    """
    caller = Exchange.of(request.scope).caller()
    with small_body(request, services) as incoming:
        wanted = await read_as(Promotion, incoming, example='{"reason": "it is better"}', optional=True)
        name = services.catalog().model(model).name
        await services.follower.refresh()
        version = str(_under_way(services, name).version) if wanted.version is None else wanted.version
        ref = services.catalog().named(Address(name, version=version))
        await load_first(services, ref, caller.timeout)
        decision = await services.changes.promote(
            name,
            ref.version,
            actor=caller.principal.name,
            reason=wanted.reason,
            expected=None if wanted.expected is None else int(wanted.expected),
        )
        await services.follower.take_up()
    return DecisionInfo.of(decision)


@router.post("/v1/models/{model}/rollback", openapi_extra=shows_body(Rollback, optional=True), responses=_SAYS)
async def roll_back(model: str, request: Request, services: UseServices) -> DecisionInfo:
    """End the trial, and leave the champion; where nothing is on trial, make its predecessor the champion again."""
    caller = Exchange.of(request.scope).caller()
    with small_body(request, services) as incoming:
        wanted = await read_as(Rollback, incoming, example='{"reason": "it is worse"}', optional=True)
        name = services.catalog().model(model).name
        await services.follower.refresh()
        if name not in services.state.rollouts:
            previous = await asyncio.to_thread(services.control.previous_champion, name)
            if previous is not None:
                await load_first(services, Ref(name, previous), caller.timeout)
        decision = await services.changes.roll_back(
            name,
            actor=caller.principal.name,
            reason=wanted.reason,
            expected=None if wanted.expected is None else int(wanted.expected),
        )
        await services.follower.take_up()
    return DecisionInfo.of(decision)


def _under_way(services: Services, model: str) -> Rollout:
    """Raises NoRollout."""
    rollout = services.state.rollouts.get(model)
    if rollout is None:
        raise NoRollout(model)
    return rollout
