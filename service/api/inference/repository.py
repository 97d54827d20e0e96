"""The Open Inference Protocol's model repository, over HTTP and over gRPC: what there is, loading, unloading."""

from collections.abc import Collection

from service.api.deps import Services
from service.api.inference_schemas import IndexEntry
from service.api.standing import could_not_be_had, is_loaded, is_unloaded, reason_of, standing_of, until, versions_of
from service.domain import Loading, Ref, Wish
from service.errors import NotReady, NotServing, NotSupported
from service.registry.fleet import VersionState
from service.store.base import WishChange

_WAIT_SECONDS = 60.0


def index(services: Services, *, only_ready: bool) -> list[IndexEntry]:
    """Every version of every model, and why it does not answer where it doesn't."""
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
    return [entry for entry in [*entries, *broken] if entry.state == "READY" or not only_ready]


async def load(services: Services, model: str, parameters: Collection[str], seconds: float | None) -> None:
    """Load again what somebody unloaded of a model, and what failed; wait for its champion, `seconds` at most.

    `parameters` are the names of those that came with it. Raises UnknownModel, NotSupported, NotReady, or what changes
    raise.
    """
    for name in parameters:
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
    patience = seconds or _WAIT_SECONDS
    if not await until(services, lambda: is_loaded(services, first, wishes[first]), patience, want=first):
        raise NotReady(first, services.engines.why_unready(first) or "it is being loaded")


async def unload(services: Services, model: str, seconds: float | None) -> None:
    """Unload all of a model's versions, its champion too, and wait until they are, `seconds` at most.

    Raises UnknownModel, NotServing, or what changes raise.
    """
    refs = versions_of(services, model)
    for ref in refs:
        await services.changes.change_wish(ref, WishChange(Loading.UNLOADED, in_use_too=True))
    await services.follower.take_up()

    def is_over(ref: Ref) -> bool:
        """Whether it is unloaded, or somebody wants it loaded again meanwhile."""
        return is_unloaded(services, ref) or services.state.wishes.get(ref, Wish()).loading is not Loading.UNLOADED

    if not await until(services, lambda: all(map(is_over, refs)), seconds or _WAIT_SECONDS):
        raise NotServing(f"{model} is still being unloaded")


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
