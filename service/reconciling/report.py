"""What an engine reports of itself to the supervisor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.domain import Execution, Precision, Ref


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """An engine's device; sizes in bytes. `peers`: the devices of its kind that this machine has, itself included."""

    name: str
    title: str
    budget: int
    free: int
    total: int
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """A loaded version: its measured bytes, as what it was loaded, the seconds since a caller asked for it (None where
    nobody has since its load), and how it computes, where its engine says so.
    """

    num_bytes: int
    generation: int
    precision: Precision
    idle: float | None
    execution: Execution | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A STATUS frame, read. `failed`: why versions can't be loaded. Loads and unloads that are under way are named."""

    device: DeviceReport
    replicas: Mapping[Ref, ReplicaReport]
    ready: frozenset[Ref]
    failed: Mapping[Ref, str]
    reload_failed: Mapping[Ref, str]
    loading: frozenset[Ref]
    unloading: frozenset[Ref]

    @staticmethod
    def from_meta(meta: Mapping[str, Any]) -> "Report":
        """Raises KeyError, TypeError or ValueError for what is no report."""
        device = meta["device"]
        return Report(
            DeviceReport(**{**device, "peers": tuple(device["peers"])}),
            {
                Ref.parse(name): ReplicaReport(
                    facts["bytes"],
                    facts["generation"],
                    Precision(facts["precision"]),
                    facts["idle"],
                    Execution.from_meta(facts.get("execution")),
                )
                for name, facts in meta["replicas"].items()
            },
            _refs(meta["ready"]),
            _reasons(meta["failed"]),
            _reasons(meta.get("reload_failed", {})),
            _refs(meta["loading"]),
            _refs(meta["unloading"]),
        )


def _refs(names: list[str]) -> frozenset[Ref]:
    return frozenset(map(Ref.parse, names))


def _reasons(table: Mapping[str, str]) -> dict[Ref, str]:
    return {Ref.parse(name): reason for name, reason in table.items()}
