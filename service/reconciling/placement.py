"""Which versions lie on which device. Pure: wishes and devices go in, a plan comes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.domain import Precision, Ref


@dataclass(frozen=True, slots=True)
class Device:
    """Where replicas can lie; `slot` names its engine, `budget` is the bytes that all its replicas may take."""

    slot: str
    budget: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A version that shall be loaded, or may be: the bytes of a replica (measured, or estimated before its first load).

    `last_used` on any one clock, in seconds; where it is equal, `is_aliased` versions go before those that no alias
    names. What a replica is made of - identity, generation, precision, whether it is optimised - has no say in where it
    lies. Nothing new is put where it is `barred` from.
    """

    ref: Ref
    num_bytes: int
    replicas: int = 1
    is_pinned: bool = False
    is_aliased: bool = False
    last_used: float = 0.0
    identity: str = ""
    generation: int = 0
    precision: Precision = Precision.FLOAT32
    is_optimized: bool = False
    barred: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """`slots`: where each placed version shall lie. `left_out`: those there is no room for now, and why.

    Both in the order of importance, slots in that of the devices. Of those left out, `no_room` find none even when they
    are asked for: they are larger than every device, or pinned versions hold too much.
    """

    slots: Mapping[Ref, tuple[str, ...]]
    left_out: Mapping[Ref, str]
    no_room: frozenset[Ref] = frozenset()


def place(claims: Sequence[Claim], devices: Sequence[Device], current: Mapping[Ref, Sequence[str]]) -> Plan:
    """Who gets room, and where; `current` is where replicas lie now.

    Pinned versions come first with all their replicas, then the others: first one replica of each, the most recently
    used first, then a second one, and so on, each on a device of its own. What lies somewhere stays if it can.
    Something new goes where most room is left, or else where it displaces what matters least. The plan for what a plan
    asked for is that same plan.
    """
    budgets = {device.slot: device.budget for device in devices}
    lies = {claim.ref: tuple(slot for slot in budgets if slot in current.get(claim.ref, ())) for claim in claims}
    demands = _demands(claims, len(budgets), lies)
    # Once some have moved there may be room for one more. Each round that changes anything places a more important
    # replica than it gives up, so there is a last one.
    while (settled := _settle(demands, budgets, lies)) != lies:
        lies = settled
    ranked = sorted(claims, key=_importance)
    left_out = [claim for claim in ranked if not lies[claim.ref]]
    pinned = [claim for claim in ranked if claim.is_pinned]
    beside_pinned = {
        slot: budget - sum(claim.num_bytes for claim in pinned if slot in lies[claim.ref])
        for slot, budget in budgets.items()
    }
    most = max(beside_pinned.values(), default=-1)
    return Plan(
        {claim.ref: lies[claim.ref] for claim in ranked if lies[claim.ref]},
        {claim.ref: _reason(claim, budgets, beside_pinned, ranked, lies) for claim in left_out},
        frozenset(claim.ref for claim in left_out if claim.is_pinned or claim.num_bytes > most),
    )


@dataclass(frozen=True, slots=True)
class _Demand:
    """One replica; `rank` 0 is the most important."""

    rank: int
    claim: Claim


def _importance(claim: Claim) -> tuple[bool, float, bool, Ref]:
    return (not claim.is_pinned, -claim.last_used, not claim.is_aliased, claim.ref)


def _demands(claims: Sequence[Claim], num_devices: int, lies: Mapping[Ref, Sequence[str]]) -> list[_Demand]:
    """Every replica that is wanted, the most important first."""

    def key(one: tuple[int, Claim]) -> tuple[bool, int, bool, tuple[bool, float, bool, Ref]]:
        number, claim = one
        # A pinned replica is never unloaded to make room, so not for another pinned one either.
        must_come = claim.is_pinned and len(lies[claim.ref]) < number
        return (not claim.is_pinned, number, must_come, _importance(claim))

    wanted = [(number, claim) for claim in claims for number in range(1, min(claim.replicas, num_devices) + 1)]
    return [_Demand(rank, claim) for rank, (_, claim) in enumerate(sorted(wanted, key=key))]


def _settle(
    demands: Sequence[_Demand], budgets: Mapping[str, int], lies: Mapping[Ref, Sequence[str]]
) -> dict[Ref, tuple[str, ...]]:
    """Decide on one replica after the other, the most important first."""
    stays: dict[Ref, list[str]] = {ref: [] for ref in lies}
    decided = dict.fromkeys(budgets, 0)
    # What lies there and has not had its turn: it keeps its room until something more important takes it.
    waiting: dict[str, dict[Ref, _Demand]] = {slot: {} for slot in budgets}
    chosen: dict[Ref, list[str]] = {ref: [] for ref in lies}
    for demand in demands:
        ref = demand.claim.ref
        if len(stays[ref]) < len(lies[ref]):
            slot = lies[ref][len(stays[ref])]
            stays[ref].append(slot)
            waiting[slot][ref] = demand
    for demand in demands:
        ref, need = demand.claim.ref, demand.claim.num_bytes
        room = {slot: budgets[slot] - decided[slot] - need for slot in budgets if slot not in chosen[ref]}
        for slot in [slot for slot in stays[ref] if room[slot] < 0]:
            stays[ref].remove(slot)
            waiting[slot].pop(ref, None)
        if stays[ref]:
            slot = stays[ref].pop(0)
        elif (found := _best(_allowed(demand, room), waiting)) is not None:
            slot = found
        else:
            continue
        waiting[slot].pop(ref, None)
        chosen[ref].append(slot)
        decided[slot] += need
        for least in _displaced(budgets[slot] - decided[slot], waiting[slot]):
            del waiting[slot][least.claim.ref]
    return {ref: tuple(slot for slot in budgets if slot in slots) for ref, slots in chosen.items()}


def _allowed(demand: _Demand, room: Mapping[str, int]) -> dict[str, int]:
    return {slot: left for slot, left in room.items() if slot not in demand.claim.barred}


def _best(room: Mapping[str, int], waiting: Mapping[str, Mapping[Ref, _Demand]]) -> str | None:
    """The device for something new: `room` is what it would leave beside what is decided, negative for too little."""
    fits = [slot for slot, left in room.items() if left >= 0]
    if not fits:
        return None
    left = {slot: room[slot] - sum(other.claim.num_bytes for other in waiting[slot].values()) for slot in fits}
    roomiest = max(fits, key=left.__getitem__)
    if left[roomiest] >= 0:
        return roomiest
    # The ranks of what would go: the higher the lowest of them, the less is lost.
    return max(fits, key=lambda slot: min(least.rank for least in _displaced(room[slot], waiting[slot])))


def _displaced(room: int, waiting: Mapping[Ref, _Demand]) -> list[_Demand]:
    """Those that go, the least important first, until the others take no more than `room`."""
    excess = sum(demand.claim.num_bytes for demand in waiting.values()) - room
    gone: list[_Demand] = []
    for demand in sorted(waiting.values(), key=lambda one: one.rank, reverse=True):
        if excess <= 0:
            break
        excess -= demand.claim.num_bytes
        gone.append(demand)
    return gone


def _reason(
    claim: Claim,
    budgets: Mapping[str, int],
    beside_pinned: Mapping[str, int],
    claims: Sequence[Claim],
    lies: Mapping[Ref, Sequence[str]],
) -> str:
    """Why it is left out, and what a person can do about it; `beside_pinned` is what is left beside pinned versions."""
    if not budgets:
        return "no engine has been heard of yet"
    needs = f"it needs {readable_bytes(claim.num_bytes)}"
    largest = max(budgets, key=budgets.__getitem__)
    if claim.num_bytes > budgets[largest]:
        return (
            f"{needs}, and the largest device, that of {largest}, has {readable_bytes(budgets[largest])} for models: "
            "a lower precision or a device with more memory would help"
        )
    roomiest = max(beside_pinned, key=beside_pinned.__getitem__)
    if claim.is_pinned or claim.num_bytes > beside_pinned[roomiest]:
        pinned = [str(one.ref) for one in claims if one.is_pinned and roomiest in lies[one.ref]]
        return (
            f"{needs}, and pinned versions leave at most {readable_bytes(beside_pinned[roomiest])}, on {roomiest}: "
            f"unpin or unload one of {_named(pinned)}"
        )
    # It would fit on the roomiest one for certain.
    others = [str(one.ref) for one in claims if not one.is_pinned and roomiest in lies[one.ref]]
    return (
        f"{needs}, and versions that were used more recently hold the room, on {roomiest} {_named(others)}: "
        "it is loaded when it is asked for"
    )


def _named(refs: Sequence[str], most: int = 5) -> str:
    return ", ".join(refs[:most]) + (f" and {len(refs) - most} more" if len(refs) > most else "")


def readable_bytes(number: int) -> str:
    """For people: "1.5 GiB", "12 MiB", "800 bytes"."""
    for unit, size in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= size:
            return f"{number / size:.4g} {unit}"
    return f"{number} bytes"
