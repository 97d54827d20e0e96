"""What an engine counts of a version, and how it tells.

COUNT     {}, from an http process
COUNTED   the same id; {"<model>/<version>": a Statistics' facts} of all that it has
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from service.domain import Ref
from service.wire.frames import Frame, Kind


@dataclass(slots=True)
class Spent:
    """How often something was done, and the nanoseconds that it took together."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float, count: int = 1) -> None:
        self.count += count
        self.ns += round(seconds * 1e9)

    def merge(self, other: "Spent") -> None:
        self.count += other.count
        self.ns += other.ns


@dataclass(frozen=True, slots=True)
class Stages:
    """What is done for a batch: its rows made one array, the network run, its answers made rows again."""

    input: Spent = field(default_factory=Spent)
    infer: Spent = field(default_factory=Spent)
    output: Spent = field(default_factory=Spent)

    def add(self, seconds: "StageSeconds", count: int = 1) -> None:
        """So many times."""
        self.input.add(seconds.input * count, count)
        self.infer.add(seconds.infer * count, count)
        self.output.add(seconds.output * count, count)

    def merge(self, other: "Stages") -> None:
        for mine, its in zip(self, other, strict=True):
            mine.merge(its)

    def __iter__(self) -> Iterator[Spent]:
        return iter((self.input, self.infer, self.output))


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Of one batch."""

    input: float
    infer: float
    output: float


@dataclass(slots=True)
class Statistics:
    """Since the version was loaded. Durations of requests, but for `batches`, those of batches by their rows.

    A request's success or failure takes from its arrival at the engine to its answer; of one whose rows ran in several
    batches the queue and the stages are those of its last. `last` is when a batch ran last, in ms since 1970, 0 before.
    `num_bytes` are those of its replicas, by device.
    """

    rows: int = 0
    executions: int = 0
    last: int = 0
    success: Spent = field(default_factory=Spent)
    fail: Spent = field(default_factory=Spent)
    queue: Spent = field(default_factory=Spent)
    stages: Stages = field(default_factory=Stages)
    batches: dict[int, Stages] = field(default_factory=dict)
    num_bytes: dict[str, int] = field(default_factory=dict)

    def ran(self, num_rows: int, seconds: StageSeconds, now_ms: int) -> None:
        """A batch ran."""
        self.rows += num_rows
        self.executions += 1
        self.last = now_ms
        self.batches.setdefault(num_rows, Stages()).add(seconds)

    def answered(self, count: int, seconds: float, queued: float, stages: StageSeconds) -> None:
        """So many requests got answers by one batch, whose stages are given; the others are sums over all of them."""
        self.success.add(seconds, count)
        self.queue.add(queued, count)
        self.stages.add(stages, count)

    def merge(self, other: "Statistics") -> None:
        """Add what another engine counted of the same version."""
        self.rows += other.rows
        self.executions += other.executions
        self.last = max(self.last, other.last)
        for mine, its in ((self.success, other.success), (self.fail, other.fail), (self.queue, other.queue)):
            mine.merge(its)
        self.stages.merge(other.stages)
        for size, stages in other.batches.items():
            self.batches.setdefault(size, Stages()).merge(stages)
        for device, num_bytes in other.num_bytes.items():
            self.num_bytes[device] = self.num_bytes.get(device, 0) + num_bytes

    def to_meta(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "counts": (self.rows, self.executions, self.last),
            "spent": [(each.count, each.ns) for each in (self.success, self.fail, self.queue, *self.stages)],
            "batches": {str(size): [(each.count, each.ns) for each in stages] for size, stages in self.batches.items()},
            "bytes": self.num_bytes,
        }

    @staticmethod
    def from_meta(meta: Mapping[str, Any]) -> "Statistics":
        """Raises KeyError, TypeError or ValueError for what are no statistics."""
        rows, executions, last = meta["counts"]
        success, fail, queue, *stages = [Spent(*each) for each in meta["spent"]]
        batches = {int(size): Stages(*[Spent(*each) for each in spent]) for size, spent in meta["batches"].items()}
        return Statistics(rows, executions, last, success, fail, queue, Stages(*stages), batches, dict(meta["bytes"]))


def counted_frame(request_id: int, statistics: Mapping[Ref, Statistics]) -> Frame:
    """The COUNTED of all versions that an engine has."""
    return Frame(Kind.COUNTED, request_id, meta={str(ref): each.to_meta() for ref, each in statistics.items()})


def statistics_in(frame: Frame) -> dict[Ref, Statistics]:
    """What a COUNTED says. Raises KeyError, TypeError or ValueError."""
    return {Ref.parse(name): Statistics.from_meta(meta) for name, meta in frame.meta.items()}
