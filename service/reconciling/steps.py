"""The way from what is loaded to what shall be. Pure: what is to be done next comes out, to be asked for again then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.domain import Precision, Ref
from service.reconciling.placement import Claim, Device, Plan


@dataclass(frozen=True, slots=True)
class Replica:
    """One copy of a version, the bytes it takes, and what it was made of.

    `is_optimized`: it was loaded since other ways to run it were tried.
    """

    num_bytes: int
    identity: str = ""
    generation: int = 0
    precision: Precision = Precision.FLOAT32
    is_optimized: bool = False

    @staticmethod
    def of(claim: Claim) -> "Replica":
        """What a load for this claim makes."""
        return Replica(claim.num_bytes, claim.identity, claim.generation, claim.precision, claim.is_optimized)

    def is_as_wanted(self, claim: Claim) -> bool:
        """Whether a load would bring nothing else."""
        return self.answers(claim) and (self.is_optimized or not claim.is_optimized)

    def answers(self, claim: Claim) -> bool:
        """Whether it does what is wished, if perhaps not in the fastest way."""
        wanted = (claim.identity, claim.generation, claim.precision)
        return (self.identity, self.generation, self.precision) == wanted


@dataclass(frozen=True, slots=True)
class Holding:
    """What one engine holds. A reload is in `loaded` and in `loading`. What is being unloaded is still in `loaded`; but
    where a report of something else shows that it is gone, it is in `unloading` alone until its own command ends.

    `failed`: what loads failed to make, for as long as they are not to be tried again; a load of another identity,
    generation or precision is another one.
    """

    loaded: Mapping[Ref, Replica] = field(default_factory=dict)
    loading: Mapping[Ref, Replica] = field(default_factory=dict)
    unloading: frozenset[Ref] = frozenset()
    failed: Mapping[Ref, Replica] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """That are taken, or about to be."""
        return sum(replica.num_bytes for group in (self.loaded, self.loading) for replica in group.values())

    def is_ready(self, ref: Ref) -> bool:
        return ref in self.loaded and ref not in self.unloading


@dataclass(frozen=True, slots=True)
class Load:
    """Have an engine load a version; beside its old replica where there is one, which it then replaces."""

    slot: str
    ref: Ref


@dataclass(frozen=True, slots=True)
class Unload:
    """Have an engine answer what waits for a version, then give its memory back."""

    slot: str
    ref: Ref


Command = Load | Unload


def steps(
    plan: Plan, claims: Sequence[Claim], devices: Sequence[Device], actual: Mapping[str, Holding]
) -> list[Command]:
    """What can be commanded now, unloads first, so that no device ever holds more than its budget.

    `claims` and `devices` are those that the plan was made of; slots that `actual` lacks get no command. Each slot
    loads one version at a time, in the order of importance. A reload stands beside the old replica until it is ready;
    only where there is no room for both the old one goes first, unless the new one would do nothing but compute in
    another way: that waits for room. A replica that is to lie elsewhere stays until it does, where there is room. An
    empty list: nothing can be done, or something under way has to end first.
    """
    wanted = {claim.ref: claim for claim in claims}
    moving = frozenset(
        ref
        for ref, places in plan.slots.items()
        if not any(actual[slot].is_ready(ref) for slot in places if slot in actual)
    )
    slots = [_Slot(device, actual[device.slot], plan, wanted, moving) for device in devices if device.slot in actual]
    awaited = {ref for ref in moving if any(slot.will_have(ref) for slot in slots)}
    unloads: list[Command] = [Unload(slot.name, ref) for slot in slots for ref in slot.useless if ref not in awaited]
    loads: list[Command] = [Load(slot.name, ref) for slot in slots if (ref := slot.next_load()) is not None]
    busy = {command.slot for command in (*unloads, *loads)}
    for slot in slots:
        ref = slot.in_its_own_way()
        # Of several replicas one goes after the other: one always answers.
        if ref is not None and slot.name not in busy and not _is_under_way(ref, actual, (*unloads, *loads)):
            unloads.append(Unload(slot.name, ref))
    return [*unloads, *loads]


class _Slot:
    """One engine: what it holds, and what of the plan is missing there.

    `moving` versions answer in none of the slots that they are planned for.
    """

    def __init__(
        self, device: Device, holding: Holding, plan: Plan, wanted: Mapping[Ref, Claim], moving: frozenset[Ref]
    ) -> None:
        self.name = device.slot
        self._holding = holding
        self._budget = device.budget
        here = [ref for ref, places in plan.slots.items() if device.slot in places]
        under_way = holding.unloading | holding.loading.keys()
        self.useless = sorted(holding.loaded.keys() - here - under_way)
        """What is to go; what is being loaded is let finish first."""
        self._missing = [
            wanted[ref]
            for ref in here
            if ref not in under_way
            and not any(
                ref in known and known[ref].is_as_wanted(wanted[ref]) for known in (holding.loaded, holding.failed)
            )
        ]
        unloading = holding.unloading & holding.loaded.keys()
        going = unloading.union(ref for ref in self.useless if ref not in moving)
        self._taken = holding.num_bytes
        # Once all is gone that waits for nothing.
        self._settled = self._taken - sum(holding.loaded[ref].num_bytes for ref in going)

    def next_load(self) -> Ref | None:
        """The most important one that is missing, once it fits; where it will not soon, the next ones may pass."""
        if self._holding.loading:
            return None
        for claim in self._missing:
            if self._taken + claim.num_bytes <= self._budget:
                return claim.ref
            if self._settled + claim.num_bytes <= self._budget:
                return None
        return None

    def in_its_own_way(self) -> Ref | None:
        """Where all waits: the first to reload, whose old replica has to go because both together do not fit."""
        if self._holding.loading or self._holding.unloading:
            return None
        loaded = self._holding.loaded
        return next(
            (claim.ref for claim in self._missing if claim.ref in loaded and not loaded[claim.ref].answers(claim)), None
        )

    def will_have(self, ref: Ref) -> bool:
        """Whether it comes without any help from other slots."""
        fits = any(one.ref == ref and self._settled + one.num_bytes <= self._budget for one in self._missing)
        return fits or ref in self._holding.loading


def _is_under_way(ref: Ref, actual: Mapping[str, Holding], commands: Sequence[Command]) -> bool:
    """Whether any slot loads or unloads it, or is about to."""
    return any(command.ref == ref for command in commands) or any(
        ref in holding.loading or ref in holding.unloading for holding in actual.values()
    )
