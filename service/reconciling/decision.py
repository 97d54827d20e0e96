"""What to do next, and what to tell of it: wishes and reports go in, commands and a view come out. Pure."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from service.domain import Execution, Loading, Precision, Ref, Wish
from service.reconciling.failures import Attempt, attempt_of
from service.reconciling.placement import Claim, Device, Plan, place
from service.reconciling.progress import Progress
from service.reconciling.steps import Holding, Load, Replica, Unload, steps
from service.registry.catalog import Catalog, Version
from service.registry.fleet import EngineInfo, Standing, VersionState, View
from service.wire.report import Report

# What was just loaded stays a moment, or two versions that are asked for in turn would do nothing but come and go.
_LEAST_STAY_SECONDS = 0.5
# An engine that is restarted keeps its place so long; then others take over what it had.
_PATIENCE_SECONDS = 60.0
# Not tried again at once: whatever takes it away may do so again.
_LOST = "what was found out about it is not there any more; it is tried again after the next start of the service"


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """One engine as the supervisor knows it: what it reported last (None before it ever did), and what it holds.

    `holding` is None while the engine is not there, for `gone_seconds` now. `failures`: why loads failed that shall not
    be tried again yet.
    """

    slot: str
    socket: str
    report: Report | None = None
    holding: Holding | None = None
    gone_seconds: float = 0.0
    failures: Mapping[Attempt, str] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether versions may be placed on it."""
        return self.report is not None and (self.holding is not None or self.gone_seconds < _PATIENCE_SECONDS)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that counts. Times in seconds, on the clock of `now`.

    `asked`: when a version was last asked for; `owed`: since when somebody waits for one that is not loaded;
    `loaded_at`: since when it is loaded; `measured`: the bytes of its replicas, by identity and precision;
    `trials`: how far trying other back ends has come, by identity.
    """

    now: float
    scan: int
    catalog: Catalog
    wishes: Mapping[Ref, Wish]
    engines: Sequence[EngineFacts]
    asked: Mapping[Ref, float] = field(default_factory=dict)
    owed: Mapping[Ref, float] = field(default_factory=dict)
    loaded_at: Mapping[Ref, float] = field(default_factory=dict)
    measured: Mapping[tuple[str, Precision], int] = field(default_factory=dict)
    trials: Mapping[str, Progress] = field(default_factory=dict)

    def wish(self, ref: Ref) -> Wish:
        return self.wishes.get(ref, Wish())

    @property
    def loads_anything(self) -> bool:
        """Whether any engine does at this moment."""
        return any(engine.holding is not None and engine.holding.loading for engine in self.engines)

    def failure(self, claim: Claim) -> str | None:
        """Why what is claimed could not be loaded somewhere; None where nothing is known against it."""
        attempt = attempt_of(claim)
        return next((engine.failures[attempt] for engine in self.engines if attempt in engine.failures), None)

    def barred(self, claim: Claim) -> frozenset[str]:
        """Where what is claimed could not be loaded."""
        attempt = attempt_of(claim)
        return frozenset(engine.slot for engine in self.engines if attempt in engine.failures)


@dataclass(frozen=True, slots=True)
class Decision:
    """Commands for engines, with the claims that their loads serve, and the view for http processes.

    Of the unloads, `evicted` only make room for others, and `replaced` only for the same version loaded anew.
    """

    commands: Sequence[Load | Unload]
    claims: Mapping[Ref, Claim]
    evicted: frozenset[Ref]
    replaced: frozenset[Ref]
    view: View


def decide(facts: Facts) -> Decision:
    """What is to be done now; asked again at every news, this brings about what is wished."""
    current = _current(facts)
    devices = [
        Device(engine.slot, engine.report.device.budget)
        for engine in facts.engines
        if engine.report is not None and engine.counts
    ]
    slots = {device.slot for device in devices}
    claims = {claim.ref: _possible(claim, facts, current, slots) for claim in _claims(facts)}
    # What could be loaded nowhere, and is nowhere loaded from before, takes no room.
    placeable = [claim for ref, claim in claims.items() if ref in current or not slots or slots - claim.barred]
    plan = place(placeable, devices, current)
    staying = [_stays(claim, facts) for claim in placeable]
    calm = plan if staying == placeable or not plan.left_out else place(staying, devices, current)
    actual = {engine.slot: _with_failures(engine, claims) for engine in facts.engines if engine.holding is not None}
    commands = steps(calm, placeable, devices, actual)
    unloads = [each for each in commands if isinstance(each, Unload) and each.ref in claims]
    evicted = frozenset(each.ref for each in unloads if each.ref not in calm.slots)
    replaced = frozenset(each.ref for each in unloads if each.slot in calm.slots.get(each.ref, ()))
    view = View(
        facts.scan,
        tuple(
            EngineInfo(engine.slot, engine.socket, "" if engine.report is None else engine.report.device.name)
            for engine in facts.engines
        ),
        {version.ref: _standing(version, facts, plan, calm) for version in facts.catalog.versions()},
    )
    return Decision(commands, claims, evicted, replaced, view)


def _claims(facts: Facts) -> Iterator[Claim]:
    """What is wished."""
    for version in facts.catalog.versions():
        if facts.wish(version.ref).loading is not Loading.UNLOADED:
            yield _claim(version, facts)


def _claim(version: Version, facts: Facts) -> Claim:
    ref, wish = version.ref, facts.wish(version.ref)
    asked = facts.asked.get(ref, 0.0)
    if ref in facts.owed:
        # Before all that is loaded, and who has waited longest first: otherwise whoever asks last would get the room,
        # and of several who ask all the time some never would.
        asked = facts.now + (facts.now - facts.owed[ref])
    claim = Claim(
        ref,
        # Measured, or estimated before it ever was.
        facts.measured.get((version.identity, wish.precision)) or version.num_bytes,
        replicas=wish.replicas,
        is_pinned=wish.loading is Loading.PINNED,
        is_aliased=ref.version in facts.catalog.models[ref.model].aliases.values(),
        last_used=asked,
        identity=version.identity,
        generation=wish.generation,
        precision=wish.precision,
        is_optimized=version.identity in facts.trials and facts.trials[version.identity].is_found,
    )
    return replace(claim, barred=facts.barred(claim))


def _possible(claim: Claim, facts: Facts, current: Mapping[Ref, Sequence[str]], slots: Set[str]) -> Claim:
    """What is wished; or float32, where the precision wished for could be had nowhere and nothing answers."""
    if claim.precision is Precision.FLOAT32 or claim.ref in current or not slots or slots - claim.barred:
        return claim
    plain = replace(claim, precision=Precision.FLOAT32)
    return replace(plain, barred=facts.barred(plain))


def _with_failures(engine: EngineFacts, claims: Mapping[Ref, Claim]) -> Holding:
    assert engine.holding is not None
    failed = {ref: Replica.of(claim) for ref, claim in claims.items() if attempt_of(claim) in engine.failures}
    return replace(engine.holding, failed=failed)


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
    """What is being loaded, or was a moment ago, stays as if it were pinned."""
    loaded_at = facts.loaded_at.get(claim.ref)
    is_young = loaded_at is not None and facts.now - loaded_at < _LEAST_STAY_SECONDS
    is_coming = any(engine.holding is not None and claim.ref in engine.holding.loading for engine in facts.engines)
    return replace(claim, is_pinned=True) if (is_young or is_coming) and not claim.is_pinned else claim


def _standing(version: Version, facts: Facts, plan: Plan, calm: Plan) -> Standing:
    ref, wish = version.ref, facts.wish(version.ref)
    holdings = {engine.slot: engine.holding for engine in facts.engines if engine.holding is not None}
    ready = {slot: holding.loaded[ref] for slot, holding in holdings.items() if holding.is_ready(ref)}
    reason = facts.failure(_claim(version, facts))
    slots = tuple(ready)
    if wish.loading is Loading.UNLOADED:
        state, reason = VersionState.UNLOADED, "it is unloaded, as an operator wanted; load it first"
        slots = tuple(slot for slot, holding in holdings.items() if ref in holding.loaded)
    elif ready:
        state = VersionState.LOADED
    elif any(ref in holding.loading for holding in holdings.values()):
        state, reason = VersionState.LOADING, "its engine is loading it"
    elif ref in plan.slots:
        state, reason = VersionState.LOADING, _progress(ref, facts, plan.slots[ref], is_next=ref in calm.slots)
    elif reason is not None:
        state = VersionState.FAILED
    elif not holdings:
        state, reason = VersionState.LOADING, "its engine is starting"
    elif ref in plan.no_room:
        state, reason = VersionState.NO_ROOM, plan.left_out[ref]
    else:
        state, reason = VersionState.ON_DEMAND, plan.left_out[ref]
    generation = min((replica.generation for replica in ready.values()), default=wish.generation)
    measured = facts.measured.get((version.identity, wish.precision), 0)
    num_bytes = max((replica.num_bytes for replica in ready.values()), default=measured)
    execution = _execution(version, facts, slots)
    return Standing(state, version.identity, reason, slots, num_bytes, generation, wish.generation, execution)


def _execution(version: Version, facts: Facts, slots: Sequence[str]) -> Execution | None:
    """How the first replica computes; while others are to be tried, how far that has come."""
    reports = [engine.report for engine in facts.engines if engine.slot in slots and engine.report is not None]
    replica = next((report.replicas[version.ref] for report in reports if version.ref in report.replicas), None)
    if replica is None or replica.execution is None or not replica.execution.pending:
        return None if replica is None else replica.execution
    execution, progress = replica.execution, facts.trials.get(version.identity)
    if replica.is_optimized:
        return replace(execution, reason=_LOST, pending=False)
    if progress is None:
        return execution
    return replace(execution, reason=progress.reason, pending=progress.is_pending)


def _progress(ref: Ref, facts: Facts, slots: Sequence[str], *, is_next: bool) -> str:
    engines = [engine for engine in facts.engines if engine.slot in slots]
    if all(engine.holding is None for engine in engines):
        return "its engine is starting"
    if not is_next:
        return "others that are asked for as well hold the room, and it waits for its turn"
    return "its engine has not loaded it yet"
