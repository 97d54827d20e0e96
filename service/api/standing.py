"""Where versions stand, as far as callers are told, and waiting until they stand as was asked."""

import asyncio
import contextlib
from collections.abc import Callable

from service.api.deps import Services
from service.domain import CHAMPION, Ref, Wish
from service.errors import NotReady, UnknownModel, VersionUnloaded
from service.registry.fleet import Standing, VersionState

# An engine says itself that a version answers; no view tells of that.
_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = 30.0
_REASONS = {
    VersionState.ON_DEMAND: "it is loaded when it is asked for",
    VersionState.UNLOADED: "an operator wants it unloaded",
    VersionState.NO_ROOM: "no device has room for it",
    VersionState.FAILED: "it could not be loaded",
}


def standing_of(services: Services, ref: Ref) -> Standing:
    """Where a version stands; one that the supervisor has not told of yet is on its way, unless it answers already."""
    state = VersionState.LOADED if services.engines.is_ready(ref) else VersionState.LOADING
    return services.fleet.view.versions.get(ref) or Standing(state, identity="")


def versions_of(services: Services, model: str) -> list[Ref]:
    """A model's versions, whether or not they can be served. Raises UnknownModel."""
    refs = services.catalog().refs(model)
    if not refs:
        raise UnknownModel(model, sorted(services.catalog().models))
    return refs


def why_unready(services: Services, ref: Ref) -> str | None:
    """What keeps a version from answering at once; None where nothing does."""
    standing = standing_of(services, ref)
    if standing.state in _REASONS:
        return reason_of(standing)
    return services.engines.why_unready(ref)


def reason_of(standing: Standing) -> str | None:
    """Why a version stands so, where that is not as usual."""
    return standing.reason or _REASONS.get(standing.state)


def lost_champions(services: Services) -> dict[Ref, str]:
    """Champions, as the store has them, that no process can serve because their files are gone, and what to do."""
    champions = [
        Ref(model, aliases[CHAMPION]) for model, aliases in services.state.aliases.items() if CHAMPION in aliases
    ]
    return {
        ref: "its champion's files are missing; let the alias champion name another version, or delete the model"
        for ref in champions
        if services.catalog().version(ref) is None and ref not in services.fleet.view.versions
    }


def is_loaded(services: Services, ref: Ref, wish: Wish) -> bool:
    """Whether a version answers, and is loaded as wished. Raises NotReady where it can't be."""
    view = services.fleet.view
    standing = view.versions.get(ref)
    if standing is None or standing.wished < wish.generation:
        return False
    if standing.state in (VersionState.FAILED, VersionState.NO_ROOM):
        raise NotReady(ref, standing.reason or _REASONS[standing.state], passes=False)
    if standing.generation < wish.generation:
        if standing.state is VersionState.LOADED and standing.reason is not None:
            reason = f"it could not be loaded anew, and answers as before: {standing.reason}"
            raise NotReady(ref, reason, passes=False)
        return False
    if standing.state is VersionState.LOADED and standing.reason is not None:
        raise NotReady(ref, f"it could not be loaded as wanted, and answers all the same: {standing.reason}")
    has_replicas = len(standing.slots) >= min(wish.replicas, len(view.engines))
    return standing.state is VersionState.LOADED and has_replicas and services.engines.is_ready(ref)


def could_not_be_had(standing: Standing) -> bool:
    """Whether what was wanted before could not be had; a version that answers with a reason is what was before."""
    is_old = standing.state is VersionState.LOADED and standing.reason is not None
    return is_old or standing.state in (VersionState.FAILED, VersionState.NO_ROOM)


def is_unloaded(services: Services, ref: Ref) -> bool:
    """Whether a version is on no device, because an operator wants it so."""
    standing = services.fleet.view.versions.get(ref)
    return standing is not None and standing.state is VersionState.UNLOADED and not standing.slots


def is_gone(services: Services, ref: Ref) -> bool:
    """Whether a version that was deleted is on no device any more."""
    return ref not in services.fleet.view.versions and not services.engines.is_ready(ref)


async def until(services: Services, is_so: Callable[[], bool], seconds: float, *, want: Ref | None = None) -> bool:
    """Wait until something is so, but no longer than `seconds`; whether it is. Raises what `is_so` raises.

    `want` is asked for all the while: others that are asked for meanwhile would take its room, and a supervisor that
    was just restarted has heard of nothing.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not is_so():
                if want is not None:
                    services.fleet.want(want)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await services.fleet.changed()
    return is_so()


async def load_first(services: Services, ref: Ref, patience: float | None) -> None:
    """Have the version answer before requests are sent to it; `patience` in seconds.

    Raises VersionUnloaded or NotReady.
    """
    if services.engines.is_ready(ref):
        return
    if standing_of(services, ref).state is VersionState.UNLOADED:
        raise VersionUnloaded(ref)
    if not await until(services, lambda: is_loaded(services, ref, Wish()), patience or _PATIENCE_SECONDS, want=ref):
        raise NotReady(ref, why_unready(services, ref) or "it is being loaded")
