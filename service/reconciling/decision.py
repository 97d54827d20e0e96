"""What to do next, and what to tell of it: wishes and reports go in, commands and a view come out. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from models.manifest import WEIGHTS
from service.domain import Execution, Loading, Precision, Ref, Wish
from service.reconciling.report import Report
from service.registry.catalog import Catalog, Version
from service.registry.fleet import EngineInfo, Standing, VersionState, View
from service.registry.placement import Claim, Device, Plan, place
from service.registry.steps import Holding, Load, Unload, steps

# What was just loaded stays a moment, or two versions that are asked for in turn would do nothing but come and go.
_LEAST_STAY_SECONDS = 0.5
# An engine that is restarted keeps its place so long; then others take over what it had.
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """One engine as the supervisor knows it: what it reported last (None before it ever did), and what it holds.

    `holding` is None while the engine is not there, for `gone_seconds` now.
    """

    slot: str
    socket: str
    report: Report | None = None
    holding: Holding | None = None
    gone_seconds: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether versions may be placed on it."""
        return self.report is not None and (self.holding is not None or self.gone_seconds < _PATIENCE_SECONDS)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that counts. Times in seconds, on the clock of `now`.

    `asked`: when a version was last asked for; `loaded_at`: since when it is loaded; `measured`: the bytes of its
    replicas, by identity and precision.
    """

    now: float
    scan: int
    catalog: Catalog
    wishes: Mapping[Ref, Wish]
    engines: Sequence[EngineFacts]
    asked: Mapping[Ref, float] = field(default_factory=dict)
    loaded_at: Mapping[Ref, float] = field(default_factory=dict)
    measured: Mapping[tuple[str, Precision], int] = field(default_factory=dict)

    def wish(self, ref: Ref) -> Wish:
        return self.wishes.get(ref, Wish())


@dataclass(frozen=True, slots=True)
class Decision:
    """Commands for engines, with the claims that their loads serve, and the view for http processes.

    `evicted` are those of the unloads that only make room for others.
    """

    commands: Sequence[Load | Unload]
    claims: Mapping[Ref, Claim]
    evicted: frozenset[Ref]
    view: View


def decide(facts: Facts) -> Decision:
    """What is to be done now; asked again at every news, this brings about what is wished."""
    claims = {claim.ref: claim for claim in _claims(facts)}
    devices = [
        Device(engine.slot, engine.report.device.budget)
        for engine in facts.engines
        if engine.report is not None and engine.counts
    ]
    current = _current(facts)
    # What could not be loaded, and is nowhere loaded from before, takes no room.
    placeable = [claim for ref, claim in claims.items() if ref in current or _failure(ref, facts, claim) is None]
    plan = place(placeable, devices, current)
    staying = [_stays(claim, facts) for claim in placeable]
    calm = plan if staying == placeable else place(staying, devices, current)
    actual = {engine.slot: engine.holding for engine in facts.engines if engine.holding is not None}
    commands = steps(calm, placeable, devices, actual)
    evicted = {
        each.ref for each in commands if isinstance(each, Unload) and each.slot not in calm.slots.get(each.ref, ())
    }
    view = View(
        facts.scan,
        tuple(
            EngineInfo(engine.slot, engine.socket, "" if engine.report is None else engine.report.device.name)
            for engine in facts.engines
        ),
        {version.ref: _standing(version, facts, plan, claims) for version in facts.catalog.versions()},
    )
    return Decision(commands, claims, frozenset(evicted & claims.keys()), view)


def _claims(facts: Facts) -> Iterator[Claim]:
    for version in facts.catalog.versions():
        ref, wish = version.ref, facts.wish(version.ref)
        if wish.loading is Loading.UNLOADED:
            continue
        yield Claim(
            ref,
            facts.measured.get((version.identity, wish.precision), version.manifest.files[WEIGHTS].size),
            wish.replicas,
            wish.loading is Loading.PINNED,
            ref.version in facts.catalog.models[ref.model].aliases.values(),
            facts.asked.get(ref, 0.0),
            version.identity,
            wish.generation,
            wish.precision,
        )


def _current(facts: Facts) -> dict[Ref, list[str]]:
    """Where replicas lie or are about to; those of an engine that is restarted, where they lay."""
    current: dict[Ref, list[str]] = {}
    for engine in facts.engines:
        if engine.holding is not None:
            refs = (engine.holding.loaded.keys() | engine.holding.loading.keys()) - engine.holding.unloading
        elif engine.report is not None and engine.counts:
            refs = set(engine.report.replicas)
        else:
            continue
        for ref in refs:
            current.setdefault(ref, []).append(engine.slot)
    return current


def _stays(claim: Claim, facts: Facts) -> Claim:
    loaded_at = facts.loaded_at.get(claim.ref)
    is_young = loaded_at is not None and facts.now - loaded_at < _LEAST_STAY_SECONDS
    return replace(claim, is_pinned=True) if is_young and not claim.is_pinned else claim


def _standing(version: Version, facts: Facts, plan: Plan, claims: Mapping[Ref, Claim]) -> Standing:
    ref, wish = version.ref, facts.wish(version.ref)
    holdings = {engine.slot: engine.holding for engine in facts.engines if engine.holding is not None}
    ready = {slot: holding.loaded[ref] for slot, holding in holdings.items() if holding.is_ready(ref)}
    reason = _failure(ref, facts, claims.get(ref))
    slots = tuple(ready)
    if wish.loading is Loading.UNLOADED:
        state, reason = VersionState.UNLOADED, "it is unloaded, as an operator wanted; load it first"
        slots = tuple(slot for slot, holding in holdings.items() if ref in holding.loaded)
    elif ready:
        state = VersionState.LOADED
    elif reason is not None:
        state = VersionState.FAILED
    elif ref in plan.slots:
        state, reason = VersionState.LOADING, _progress(ref, facts, plan.slots[ref])
    elif not holdings:
        state, reason = VersionState.LOADING, "its engine is starting"
    elif ref in plan.no_room:
        state, reason = VersionState.NO_ROOM, plan.left_out[ref]
    else:
        state, reason = VersionState.ON_DEMAND, plan.left_out[ref]
    generation = min((replica.generation for replica in ready.values()), default=wish.generation)
    num_bytes = facts.measured.get((version.identity, wish.precision), 0)
    execution = _execution(ref, facts, slots)
    return Standing(state, version.identity, reason, slots, num_bytes, generation, wish.generation, execution)


def _execution(ref: Ref, facts: Facts, slots: Sequence[str]) -> Execution | None:
    """How the first replica computes."""
    reports = [engine.report for engine in facts.engines if engine.slot in slots and engine.report is not None]
    return next((report.replicas[ref].execution for report in reports if ref in report.replicas), None)


def _failure(ref: Ref, facts: Facts, claim: Claim | None) -> str | None:
    """Why what is wanted could not be loaded, where it was tried."""
    for engine in facts.engines:
        tried = engine.holding.failed.get(ref) if engine.holding is not None else None
        if tried is not None and claim is not None and tried.is_as_wanted(claim) and engine.report is not None:
            return engine.report.failed.get(ref) or engine.report.reload_failed.get(ref)
    return None


def _progress(ref: Ref, facts: Facts, slots: Sequence[str]) -> str:
    engines = [engine for engine in facts.engines if engine.slot in slots]
    if all(engine.holding is None for engine in engines):
        return "its engine is starting"
    if any(engine.holding is not None and ref in engine.holding.loading for engine in engines):
        return "its engine is loading it"
    return "its engine has not loaded it yet"
