"""What an engine reports of itself to the supervisor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.domain import Execution, Precision, Ref


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """An engine's device, and the bytes of it that are for replicas.

    `peers`: the devices of its kind that this machine has, itself included.
    """

    name: str
    budget: int
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """A loaded version: its measured bytes, as what it was loaded, the seconds since a caller asked for it (None where
    nobody has since its load), how it computes, where its engine says so, and whether that was chosen by what was found
    out about it.
    """

    num_bytes: int
    generation: int
    precision: Precision
    idle: float | None
    execution: Execution | None = None
    is_optimized: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """A STATUS frame, as far as the supervisor needs it. Loads and unloads that are under way are named."""

    device: DeviceReport
    replicas: Mapping[Ref, ReplicaReport]
    loading: frozenset[Ref]
    unloading: frozenset[Ref]

    @staticmethod
    def from_meta(meta: Mapping[str, Any]) -> "Report":
        """Raises KeyError, TypeError or ValueError for what is no report."""
        device = meta["device"]
        return Report(
            DeviceReport(device["name"], device["budget"], tuple(device["peers"])),
            {
                Ref.parse(name): ReplicaReport(
                    facts["bytes"],
                    facts["generation"],
                    Precision(facts["precision"]),
                    facts["idle"],
                    Execution.from_meta(facts.get("execution")),
                    facts.get("optimized", False),
                )
                for name, facts in meta["replicas"].items()
            },
            _refs(meta["loading"]),
            _refs(meta["unloading"]),
        )


def _refs(names: list[str]) -> frozenset[Ref]:
    return frozenset(map(Ref.parse, names))
