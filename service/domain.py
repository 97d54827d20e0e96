"""Values that everyone shares. Frozen, without behaviour beyond what they mean."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

CHAMPION = "champion"
CHALLENGER = "challenger"

# A request's priority: 1 goes first.
DEFAULT_PRIORITY = 0
MIDDLE_PRIORITY = 5
LOWEST_PRIORITY = 9


def priority_level(priority: int) -> int:
    """From 1 to LOWEST_PRIORITY: who said nothing has the middle one."""
    return priority or MIDDLE_PRIORITY


# What is made or looked up for every request is a tuple, which is made and hashed without calls to Python.


class Ref(NamedTuple):
    """Names one version of one model."""

    model: str
    version: int

    def __str__(self) -> str:
        return f"{self.model}/{self.version}"

    @staticmethod
    def parse(name: str) -> "Ref":
        """The inverse of str(). Raises ValueError."""
        model, version = name.split("/")
        return Ref(model, int(version))


class Precision(StrEnum):
    """What a replica computes with. The lower ones are mixed: weights and sensitive steps stay float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


@dataclass(frozen=True, slots=True)
class Execution:
    """How a replica computes: the back end, its precision, its threads (0: those of its engine), and why so.

    `pending`: nothing else was tried on this machine yet, and it will be.
    """

    backend: str
    precision: Precision
    threads: int
    reason: str
    pending: bool = False

    @staticmethod
    def from_meta(meta: Mapping[str, Any] | None) -> "Execution | None":
        """As `dataclasses.asdict` has it; None of None. Raises KeyError, TypeError or ValueError."""
        return None if meta is None else Execution(**{**meta, "precision": Precision(meta["precision"])})


class Loading(StrEnum):
    """Whether a version shall be on a device."""

    AUTO = "auto"
    """While there is room: the least recently used is unloaded first, and loaded again when it is asked for."""
    PINNED = "pinned"
    """Always; it is never unloaded to make room."""
    UNLOADED = "unloaded"
    """Not, and not when it is asked for either."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What an operator wants of a version; the default until one says otherwise.

    `replicas`: on how many devices it shall run at once, as far as there are so many. A reload raises `generation`:
    what was loaded under a lower one is replaced.
    """

    loading: Loading = Loading.AUTO
    replicas: int = 1
    precision: Precision = Precision.FLOAT32
    generation: int = 0

    def __post_init__(self) -> None:
        if self.replicas < 1 or self.generation < 0:
            raise ValueError(f"expected at least 1 replica and no negative generation, got {self}")


class Stage(StrEnum):
    """What a challenger does."""

    SHADOW = "shadow"
    """It computes beside the champion, and nobody is told."""
    CANARY = "canary"
    """It answers in the champion's place."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A challenger on trial. `share` is that of the routed requests, from 0 to 1: those that a shadow computes too, or
    that a canary answers. While it is paused, there are none.

    `salt` is drawn when it begins, so that not the same keys meet every challenger. `policy` is for who decides.
    `actor` and `reason` are those of the latest change. Times in seconds since 1970, to the millisecond.
    """

    model: str
    version: int
    stage: Stage
    share: float
    salt: str
    began: float
    stage_began: float
    actor: str
    reason: str
    paused: bool = False
    policy: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"a share must lie in 0..1, got {self.share}")

    @property
    def ref(self) -> Ref:
        return Ref(self.model, self.version)

    @property
    def in_effect(self) -> float:
        """The share as routing follows it."""
        return 0.0 if self.paused else self.share


class Address(NamedTuple):
    """What a caller asked for: a model, and perhaps exactly one of its versions or aliases."""

    model: str
    version: str | None = None
    alias: str | None = None


class Deadline(NamedTuple):
    """An instant on the monotonic clock, in seconds, after which an answer is worth nothing."""

    at: float

    @staticmethod
    def after(seconds: float, *, now: float) -> "Deadline":
        return Deadline(now + seconds)

    def remaining(self, now: float) -> float:
        """Seconds left, negative once it has passed."""
        return self.at - now

    def expired(self, now: float) -> bool:
        return now >= self.at


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks."""

    name: str


ANONYMOUS = Principal("anonymous")


class Caller(NamedTuple):
    """What travels with every request: its id, who asks, when it arrived, and the seconds that it may take."""

    request_id: str
    principal: Principal
    arrived: float
    timeout: float | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class PredictParameters:
    """How a caller wants the answer; `timeout` in seconds, `priority` as in the request."""

    top_k: int | None = None
    return_probabilities: bool = False
    timeout: float | None = None
    key: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    external_ids: tuple[str, ...] = ()
    priority: int = DEFAULT_PRIORITY


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """Bounds of one batch queue; delays in seconds, lengths in sequence elements.

    A batch holds at most `max_rows` rows and, padded, at most `max_elements` sequence elements. Rows of sequences share
    a batch only while the shortest fills `min_fill` of the longest, so that at most 1 - min_fill of it is padding.
    While other versions want the device too, a batch is kept to an expected `max_batch_seconds`.
    """

    max_rows: int = 32
    max_delay: float = 0.0
    max_queued_rows: int = 2048
    max_elements: int = 16_384
    min_fill: float = 0.75
    max_queued_bytes: int = 256 << 20
    max_batch_seconds: float = 0.1

    def __post_init__(self) -> None:
        bounds = (self.max_rows, self.max_queued_rows, self.max_elements, self.max_queued_bytes)
        if min(bounds) < 1 or self.max_batch_seconds <= 0:
            raise ValueError(f"a batch queue's bounds must be positive, got {self}")
        if self.max_delay < 0:
            raise ValueError(f"max_delay must not be negative, got {self.max_delay}")
        if not 0 <= self.min_fill <= 1:
            raise ValueError(f"min_fill must lie in 0..1, got {self.min_fill}")
