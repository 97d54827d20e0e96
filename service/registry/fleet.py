"""What is actual: which engines there are, and where each version stands. Made by the supervisor, known to all."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from service.domain import Execution, Ref


class VersionState(StrEnum):
    """Where a version stands."""

    LOADED = "loaded"
    LOADING = "loading"
    ON_DEMAND = "on_demand"
    """Not loaded, to leave its room to others; it is loaded when it is asked for."""
    UNLOADED = "unloaded"
    """Not loaded, because an operator wants it so."""
    NO_ROOM = "no_room"
    """Wanted, and there is no device that could hold it."""
    FAILED = "failed"

    @property
    def is_hopeless(self) -> bool:
        """Whether waiting does not help: somebody has to do something."""
        return self in (VersionState.FAILED, VersionState.NO_ROOM, VersionState.UNLOADED)


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """An engine that answers, or is about to, on a unix socket; `device` is "" until it was heard of."""

    slot: str
    socket: str
    device: str = ""

    @property
    def may_be_gpu(self) -> bool:
        return self.device != "cpu"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one version stands: why, in which slots it answers (or, where it is to be unloaded, is still held), and the
    bytes of one replica as measured, 0 before.

    `identity` is the sha256 of the manifest that the engines were told to load. `wished` is the generation of the wish
    which this comes of, `generation` the lowest that its replicas are at, or that of the wish where there are none. A
    version that is loaded and has a `reason` could not be loaded anew. `execution` is how its first replica
    computes.
    """

    state: VersionState
    identity: str
    reason: str | None = None
    slots: tuple[str, ...] = ()
    num_bytes: int = 0
    generation: int = 0
    wished: int = 0
    execution: Execution | None = None


@dataclass(frozen=True, slots=True)
class View:
    """Everything, at one time. `scan` counts how often what lies in the model roots was found to be different."""

    scan: int = 0
    engines: tuple[EngineInfo, ...] = ()
    versions: Mapping[Ref, Standing] = field(default_factory=dict)

    def to_meta(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "scan": self.scan,
            "engines": [{"slot": e.slot, "socket": e.socket, "device": e.device} for e in self.engines],
            "versions": {
                str(ref): {
                    "state": standing.state,
                    "identity": standing.identity,
                    "reason": standing.reason,
                    "slots": standing.slots,
                    "bytes": standing.num_bytes,
                    "generation": standing.generation,
                    "wished": standing.wished,
                    "execution": None if standing.execution is None else asdict(standing.execution),
                }
                for ref, standing in self.versions.items()
            },
        }

    @staticmethod
    def from_meta(meta: Mapping[str, Any]) -> "View":
        """Raises KeyError, TypeError or ValueError for what is no view."""
        return View(
            meta["scan"],
            tuple(EngineInfo(**facts) for facts in meta["engines"]),
            {
                Ref.parse(name): Standing(
                    VersionState(facts["state"]),
                    facts["identity"],
                    facts["reason"],
                    tuple(facts["slots"]),
                    facts["bytes"],
                    facts["generation"],
                    facts["wished"],
                    Execution.from_meta(facts.get("execution")),
                )
                for name, facts in meta["versions"].items()
            },
        )


class Fleet(Protocol):
    """The view, as an http process has it."""

    @property
    def view(self) -> View: ...

    def listen(self, use: Callable[[View], None]) -> None:
        """Have `use` called with every view that comes."""
        ...

    def want(self, ref: Ref) -> None:
        """Say that a version is asked for: one that is loaded on demand will be."""
        ...

    async def changed(self) -> None:
        """Wait for the next view."""
        ...
