"""The Open Inference Protocol's model repository: what there is, loading, unloading."""

from typing import Any

from fastapi import APIRouter, Request

from service.api.bodies import read_as, shows_body, small_body
from service.api.deps import Services, UseServices
from service.api.exchange import Exchange
from service.api.inference_schemas import IndexEntry, IndexRequest, RepositoryRequest, says_error
from service.api.standing import could_not_be_had, is_loaded, is_unloaded, reason_of, standing_of, until, versions_of
from service.domain import Loading, Ref
from service.errors import NotReady, NotServing, NotSupported
from service.registry.fleet import VersionState
from service.store.base import WishChange

router = APIRouter(tags=["open inference protocol"])

_MODEL = "/v2/repository/models/{model}"
_EXAMPLE = '{"parameters": {}}'
_WAIT_SECONDS = 60.0
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
    catalog = services.catalog()
    refs = [
        ref
        for name in sorted({*catalog.models, *(ref.model for ref in catalog.withheld)})
        for ref in catalog.refs(name)
    ]
    entries = [_entry(ref, services) for ref in refs]
    broken = [
        IndexEntry(name=one.model, version=one.version, state="UNAVAILABLE", reason=one.reason)
        for one in catalog.broken
        if (one.model, one.version) not in {(entry.name, entry.version) for entry in entries}
    ]
    return [entry for entry in [*entries, *broken] if entry.state == "READY" or not wanted.ready]


@router.post(f"{_MODEL}/load", openapi_extra=shows_body(RepositoryRequest, optional=True), responses=_SAYS)
async def load(model: str, request: Request, services: UseServices) -> dict[str, Any]:
    """Load again what somebody unloaded of a model, and what failed; the answer waits for its champion."""
    said = await _said(request, services)
    for name in said:
        if name == "config" or name.startswith("file:"):
            raise NotSupported(f"parameters.{name:.50}", "a checkpoint that is registered: servoloop register")
    refs = versions_of(services, model)
    wishes = {
        ref: await services.changes.change_wish(
            ref, WishChange(load=True, reload=could_not_be_had(standing_of(services, ref)))
        )
        for ref in refs
    }
    await services.follower.take_up()
    found = services.catalog().models.get(model)
    first = found.champion.ref if found is not None and found.champion is not None else refs[-1]
    services.fleet.want(first)
    if not await until(services, lambda: is_loaded(services, first, wishes[first]), _patience(request), want=first):
        raise NotReady(first, services.engines.why_unready(first) or "it is being loaded")
    return {}


@router.post(f"{_MODEL}/unload", openapi_extra=shows_body(RepositoryRequest, optional=True), responses=_SAYS)
async def unload(model: str, request: Request, services: UseServices) -> dict[str, Any]:
    """Unload all of a model's versions, its champion too: who asks for it gets a 503 until it is loaded again."""
    await _said(request, services)
    refs = versions_of(services, model)
    for ref in refs:
        await services.changes.change_wish(ref, WishChange(Loading.UNLOADED, in_use_too=True))
    await services.follower.take_up()
    if not await until(services, lambda: all(is_unloaded(services, ref) for ref in refs), _patience(request)):
        raise NotServing(f"{model} is still being unloaded")
    return {}


async def _said(request: Request, services: Services) -> dict[str, Any]:
    with small_body(request, services) as incoming:
        return (await read_as(RepositoryRequest, incoming, example=_EXAMPLE, optional=True)).parameters


def _patience(request: Request) -> float:
    return Exchange.of(request.scope).caller().timeout or _WAIT_SECONDS


def _entry(ref: Ref, services: Services) -> IndexEntry:
    standing = standing_of(services, ref)
    reason = services.catalog().withheld.get(ref) or services.engines.why_unready(ref)
    if reason is None:
        state = "READY"
    elif standing.state is VersionState.UNLOADED and standing.slots:
        state = "UNLOADING"
    else:
        state = "LOADING" if standing.state is VersionState.LOADING else "UNAVAILABLE"
    why = "" if reason is None else reason_of(standing) or reason
    return IndexEntry(name=ref.model, version=str(ref.version), state=state, reason=why)
