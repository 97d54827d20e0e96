"""What is wanted of versions: loaded, unloaded, loaded anew, deleted."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from service.api.bodies import RESPONSES, read_as, shows_body, small_body
from service.api.deps import Services, UseServices
from service.api.exchange import Exchange
from service.api.routes.models import version_info
from service.api.schemas import Deleted, VersionChange, VersionInfo, VersionLoad, says_problem
from service.api.standing import could_not_be_had, is_gone, is_loaded, is_unloaded, standing_of, until
from service.domain import Address, Loading, Precision, Ref, Wish
from service.errors import NotRemovable, UnknownModel, UnprocessableInput
from service.store.base import WishChange

router = APIRouter(tags=["models"])

_VERSION = "/v1/models/{model}/versions/{version}"
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: says_problem("There is no such model or version")}
_LATER = {"description": "It is wanted so from now on, and not done yet"}
_SAYS: dict[int | str, dict[str, Any]] = {
    202: {**_LATER, "model": VersionInfo},
    **RESPONSES,
    **_UNKNOWN,
    409: says_problem("The version is unloaded, or an alias names it"),
    503: says_problem("The version can't be loaded, or the store does not answer"),
}
_DELETION_SAYS: dict[int | str, dict[str, Any]] = {
    202: {**_LATER, "model": Deleted},
    **_UNKNOWN,
    409: says_problem("An alias names the version, or it lies in the shipped model root"),
    422: says_problem("wait_ms is not what is expected"),
    503: says_problem("The store does not answer"),
}
_WAIT_MS = 30_000.0
_WaitMs = Annotated[float, Query(ge=0, le=300_000, description="202 when it takes longer")]


@router.get(_VERSION, responses=_UNKNOWN)
async def get_version(model: str, version: str, services: UseServices) -> VersionInfo:
    """One version: where it stands, and what is wanted of it."""
    return version_info(services.catalog().named(Address(model, version=version)), services)


@router.post(f"{_VERSION}/load", openapi_extra=shows_body(VersionLoad, optional=True), responses=_SAYS)
async def load(model: str, version: str, request: Request, response: Response, services: UseServices) -> VersionInfo:
    """Load a version, and say how it is wanted: pinned, on several devices, in another precision."""
    with small_body(request, services) as incoming:
        example = '{"pinned": true, "replicas": 1, "precision": "float32", "wait_ms": 30000}'
        wanted = await read_as(VersionLoad, incoming, example=example, optional=True)
        ref = services.catalog().named(Address(model, version=version))
        _check_precision(wanted.precision, services)
        change = WishChange(
            None if wanted.pinned is None else Loading.PINNED if wanted.pinned else Loading.AUTO,
            wanted.replicas,
            wanted.precision,
            load=True,
            # Tried again, and told apart from what was tried before.
            reload=could_not_be_had(standing_of(services, ref)),
        )
        return await _load(ref, change, _patience(request, wanted.wait_ms), response, services)


@router.post(f"{_VERSION}/reload", openapi_extra=shows_body(VersionChange, optional=True), responses=_SAYS)
async def reload(model: str, version: str, request: Request, response: Response, services: UseServices) -> VersionInfo:
    """Load a version anew. The new replica takes the old one's place once it is warm, where there is room for both."""
    with small_body(request, services) as incoming:
        wanted = await read_as(VersionChange, incoming, example='{"wait_ms": 30000}', optional=True)
        ref = services.catalog().named(Address(model, version=version))
        return await _load(ref, WishChange(reload=True), _patience(request, wanted.wait_ms), response, services)


@router.post(f"{_VERSION}/unload", openapi_extra=shows_body(VersionChange, optional=True), responses=_SAYS)
async def unload(model: str, version: str, request: Request, response: Response, services: UseServices) -> VersionInfo:
    """Unload a version that no alias names, until it is loaded again: who asks for it meanwhile gets a 503."""
    with small_body(request, services) as incoming:
        wanted = await read_as(VersionChange, incoming, example='{"wait_ms": 30000}', optional=True)
        ref = services.catalog().named(Address(model, version=version))
        patience = _patience(request, wanted.wait_ms)
        wish = await services.changes.change_wish(ref, WishChange(Loading.UNLOADED))
        await services.follower.take_up()
        is_done = await until(services, lambda: is_unloaded(services, ref), patience)
    return _answer(ref, wish, response, services, is_done=is_done)


@router.delete(_VERSION, responses=_DELETION_SAYS)
async def delete_version(
    model: str, version: str, request: Request, response: Response, services: UseServices, wait_ms: _WaitMs = _WAIT_MS
) -> Deleted:
    """Delete a registered version that no alias names, with its files. Its number is not used again."""
    patience = _patience(request, wait_ms)
    ref = services.catalog().named(Address(model, version=version))
    _check_removable([ref], services)
    await services.changes.delete_version(ref)
    return await _deleted(model, [ref], patience, response, services)


@router.delete("/v1/models/{model}", responses=_DELETION_SAYS)
async def delete_model(
    model: str, request: Request, response: Response, services: UseServices, wait_ms: _WaitMs = _WAIT_MS
) -> Deleted:
    """Delete a registered model: all its versions with their files, and its aliases. Predictions made stay."""
    patience = _patience(request, wait_ms)
    refs = services.catalog().refs(model)
    # One whose files somebody removed has still its aliases.
    if not refs and model not in services.state.aliases:
        raise UnknownModel(model, sorted(services.catalog().models))
    _check_removable(refs, services)
    await services.changes.delete_model(model, [ref.version for ref in refs])
    return await _deleted(model, refs, patience, response, services)


def _check_precision(precision: Precision | None, services: Services) -> None:
    """Raises UnprocessableInput for a precision that none of our devices computes in."""
    engines = services.fleet.view.engines
    if precision is Precision.FLOAT16 and engines and not any(engine.may_be_gpu for engine in engines):
        raise UnprocessableInput(
            "no device of this service computes in float16", field="body.precision", expected="float32 or bfloat16"
        )


async def _load(ref: Ref, change: WishChange, patience: float, response: Response, services: Services) -> VersionInfo:
    wish = await services.changes.change_wish(ref, change)
    await services.follower.take_up()
    services.fleet.want(ref)
    is_done = await until(services, lambda: is_loaded(services, ref, wish), patience, want=ref)
    return _answer(ref, wish, response, services, is_done=is_done)


def _answer(ref: Ref, wish: Wish, response: Response, services: Services, *, is_done: bool) -> VersionInfo:
    response.status_code = 200 if is_done else 202
    return version_info(ref, services, wish)


def _check_removable(refs: list[Ref], services: Services) -> None:
    """Raises NotRemovable."""
    if kept := [ref for ref in refs if not services.is_removable(ref)]:
        raise NotRemovable(kept)


async def _deleted(model: str, refs: list[Ref], patience: float, response: Response, services: Services) -> Deleted:
    await services.follower.take_up()
    is_done = await until(services, lambda: all(is_gone(services, ref) for ref in refs), patience)
    response.status_code = 200 if is_done else 202
    return Deleted(model=model, versions=[str(ref.version) for ref in refs], unloaded=is_done)


def _patience(request: Request, wait_ms: float) -> float:
    """Seconds to wait: what the caller says, but no longer than the request has time."""
    timeout = Exchange.of(request.scope).caller().timeout
    return wait_ms / 1000 if timeout is None else min(wait_ms / 1000, timeout)
