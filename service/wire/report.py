"""What an engine is told to have, and what it reports of itself.

LOAD      {"model", "version", "folder", "identity", "precision", "generation", "optimized", "pardon"}
UNLOAD    {"model", "version"}
WANT      the same, from an http process to the supervisor
LOADED, UNLOADED and FAILED answer them under their ids; FAILED with {"reason"}
STATUS    {"device", "replicas", "loading", "unloading", "ready", "failed", "history"?}: a Report, at every change and
          once a second
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from service.domain import Execution, Precision, Ref
from service.watch.history import History
from service.wire.frames import Frame, Kind


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version to be loaded.

    `identity` is the sha256 of its manifest's bytes, empty where it is not to be checked. What was loaded under
    another generation, or with another precision, is replaced; so is, where it is to be `optimized`, what was loaded
    before it was known what runs it best.
    """

    ref: Ref
    folder: Path
    identity: str = ""
    precision: Precision = Precision.FLOAT32
    generation: int = 0
    optimized: bool = False

    def is_met_by(self, other: "Wanted") -> bool:
        """Whether what was loaded for `other` is what is wanted here."""
        is_same = (self.generation, self.precision) == (other.generation, other.precision)
        return is_same and (other.optimized or not self.optimized)


def load_frame(request_id: int, wanted: Wanted, *, pardon: bool) -> Frame:
    """The LOAD of a version; with a pardon, what is held against it is forgotten first."""
    meta = {
        **_ref_meta(wanted.ref),
        "folder": str(wanted.folder),
        "identity": wanted.identity,
        "precision": wanted.precision,
        "generation": wanted.generation,
        "optimized": wanted.optimized,
        "pardon": pardon,
    }
    return Frame(Kind.LOAD, request_id, meta=meta)


def load_in(frame: Frame) -> tuple[Wanted, bool]:
    """What a LOAD asks for, and whether with a pardon. Raises KeyError, TypeError or ValueError."""
    meta = frame.meta
    wanted = Wanted(
        _ref_of(meta),
        Path(meta["folder"]),
        meta["identity"],
        Precision(meta["precision"]),
        int(meta["generation"]),
        meta["optimized"] is True,
    )
    return wanted, meta["pardon"] is True


def want_frame(ref: Ref) -> Frame:
    """The WANT of a version, from who is asked for it."""
    return Frame(Kind.WANT, meta=_ref_meta(ref))


def want_in(frame: Frame) -> Ref:
    """The version that a WANT names. Raises KeyError."""
    return _ref_of(frame.meta)


def unload_frame(request_id: int, ref: Ref) -> Frame:
    """The UNLOAD of a version."""
    return Frame(Kind.UNLOAD, request_id, meta=_ref_meta(ref))


def unload_in(frame: Frame) -> Ref:
    """The version that an UNLOAD names. Raises KeyError."""
    return _ref_of(frame.meta)


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
    """What an engine says of itself. Loads and unloads that are under way are named.

    `ready`: the versions that take requests, and the seconds since each last answered a row. `failed`: why others
    won't. The history of the engines before it is said where it is news; whoever hears it knows it until it is told
    another, or this engine is gone.
    """

    device: DeviceReport
    replicas: Mapping[Ref, ReplicaReport]
    loading: frozenset[Ref]
    unloading: frozenset[Ref]
    ready: Mapping[Ref, float] = field(default_factory=dict)
    failed: Mapping[Ref, str] = field(default_factory=dict)
    history: History | None = None

    def to_frame(self) -> Frame:
        """As a STATUS."""
        meta = {
            "device": asdict(self.device),
            "replicas": {str(ref): _replica_meta(replica) for ref, replica in self.replicas.items()},
            "loading": _names(self.loading),
            "unloading": _names(self.unloading),
            "ready": {str(ref): round(seconds, 3) for ref, seconds in self.ready.items()},
            "failed": {str(ref): reason for ref, reason in self.failed.items()},
        }
        return Frame(Kind.STATUS, meta=meta if self.history is None else {**meta, "history": self.history.to_meta()})

    @staticmethod
    def from_frame(frame: Frame) -> "Report":
        """The inverse, but for what is rounded to milliseconds. Raises KeyError, TypeError or ValueError."""
        meta = frame.meta
        device = meta["device"]
        return Report(
            DeviceReport(device["name"], device["budget"], tuple(device["peers"])),
            {Ref.parse(name): _replica_of(facts) for name, facts in dict(meta["replicas"]).items()},
            _refs(meta["loading"]),
            _refs(meta["unloading"]),
            {Ref.parse(name): float(seconds) for name, seconds in dict(meta["ready"]).items()},
            {Ref.parse(name): reason for name, reason in dict(meta["failed"]).items()},
            History.from_meta(meta["history"]) if "history" in meta else None,
        )


def _replica_meta(replica: ReplicaReport) -> dict[str, Any]:
    return {
        "bytes": replica.num_bytes,
        "generation": replica.generation,
        "precision": replica.precision,
        "idle": None if replica.idle is None else round(replica.idle, 3),
        "execution": None if replica.execution is None else asdict(replica.execution),
        "optimized": replica.is_optimized,
    }


def _replica_of(facts: Mapping[str, Any]) -> ReplicaReport:
    return ReplicaReport(
        facts["bytes"],
        facts["generation"],
        Precision(facts["precision"]),
        facts["idle"],
        Execution.from_meta(facts["execution"]),
        facts["optimized"],
    )


def _ref_meta(ref: Ref) -> dict[str, Any]:
    return {"model": ref.model, "version": ref.version}


def _ref_of(meta: Mapping[str, Any]) -> Ref:
    return Ref(meta["model"], meta["version"])


def _names(refs: Iterable[Ref]) -> list[str]:
    return [str(ref) for ref in sorted(refs)]


def _refs(names: Iterable[str]) -> frozenset[Ref]:
    return frozenset(map(Ref.parse, names))
