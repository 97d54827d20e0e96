"""Which versions lie on which device. Pure: wishes and devices go in, a plan comes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.domain import Ref


@dataclass(frozen=True, slots=True)
class Device:
    """Where replicas can lie; `slot` names its engine, `budget` is the bytes that all its replicas may take."""

    slot: str
    budget: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A version that shall be loaded, or may be: the bytes of a replica (measured, or estimated before its first load).

    `last_used` on any one clock, in seconds; `is_aliased` versions keep their place before those that no alias names.
    """

    ref: Ref
    num_bytes: int
    replicas: int = 1
    is_pinned: bool = False
    is_aliased: bool = False
    last_used: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """`slots`: where each placed version shall lie. `left_out`: those there is no room for now, and why."""

    slots: Mapping[Ref, tuple[str, ...]]
    left_out: Mapping[Ref, str]


def place(claims: Sequence[Claim], devices: Sequence[Device], current: Mapping[Ref, Sequence[str]]) -> Plan:
    """Who gets room, and where.

    Pinned versions first, then the others, the most recently used first. What lies somewhere stays there if it can.
    """
    raise NotImplementedError
