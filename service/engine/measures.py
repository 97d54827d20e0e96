"""What is measured of a version on a device."""

import time
from collections.abc import Sequence
from functools import cached_property

from prometheus_client import Counter, Gauge, Histogram

from service.domain import Ref
from service.engine.requests import Request
from service.engine.runner import Fill
from service.errors import DeadlineExceeded, Overloaded, QueueFull, ServoloopError
from service.telemetry.instruments import EngineTelemetry
from service.wire.statistics import StageSeconds, Statistics


class ReplicaMeasures:
    """What is counted of one version, and its series. Those of every batch are found once, each with its first value:
    no sooner, because then it is there.
    """

    def __init__(self, telemetry: EngineTelemetry, ref: Ref) -> None:
        self._telemetry = telemetry
        self._labels = (ref.model, str(ref.version))
        self.statistics = Statistics()

    def installed(self, queued: int) -> None:
        """It answers from now on, and so many rows wait for it."""
        self._telemetry.replicas.labels(*self._labels).set(1)
        self.depth(queued)

    def gone(self) -> None:
        """It is on the device no more."""
        for gauge in (self._telemetry.replicas, self._telemetry.queue_rows, self._telemetry.queue_age):
            gauge.labels(*self._labels).set(0)

    def depth(self, num_rows: int) -> None:
        """So many rows wait."""
        self._queue_rows.set(num_rows)

    def age(self, seconds: float) -> None:
        """The oldest row has waited so long."""
        self._telemetry.queue_age.labels(*self._labels).set(seconds)

    def batch(self, num_rows: int, seconds: float, fill: Fill) -> StageSeconds:
        """A batch ran; what each of its stages took."""
        self._batch_rows.observe(num_rows)
        self._batch_duration.observe(seconds)
        self._elements.inc(fill.elements)
        self._padding.inc(fill.padding)
        stages = _stages(seconds, fill)
        self.statistics.ran(num_rows, stages, round(time.time() * 1000))
        return stages

    def answered(self, requests: Sequence[Request], started: float, now: float, stages: StageSeconds) -> None:
        """The last rows of these requests ran in one batch. Those have failed of which no row got an answer."""
        arrived = [request.arrived for request in requests if len(request.failures) < request.num_rows]
        if arrived:
            num, total = len(arrived), sum(arrived)
            self.statistics.answered(num, num * now - total, num * started - total, stages)
        if len(arrived) < len(requests):
            failed = [now - request.arrived for request in requests if len(request.failures) == request.num_rows]
            self.statistics.fail.add(sum(failed), len(failed))

    def refused(self, error: ServoloopError, num_rows: int) -> None:
        """So many rows were not let in."""
        self.statistics.fail.add(0.0)
        match error:
            case QueueFull(unit="bytes"):
                self.dropped("queue_bytes", num_rows)
            case QueueFull():
                self.dropped("queue_full", num_rows)
            case Overloaded():
                self.dropped("overloaded", num_rows)
            case DeadlineExceeded():
                self._late(num_rows)

    def late(self, num_rows: int, waited: float) -> None:
        """So many rows of a request were dropped because it can't be answered in time; it has waited for seconds."""
        self.statistics.fail.add(waited)
        self._late(num_rows)

    def _late(self, num_rows: int) -> None:
        self.dropped("deadline", num_rows)
        self.missed("before")

    def dropped(self, reason: str, num_rows: int) -> None:
        """So many rows will not run."""
        self._telemetry.dropped.labels(*self._labels, reason).inc(num_rows)

    def missed(self, when: str) -> None:
        """A request is not answered in time: found `before` its batch was assembled, or `after` it ran."""
        self._telemetry.deadline_misses.labels(*self._labels, when).inc()

    def made_smaller(self) -> None:
        """Its batches stay smaller for a while."""
        self._telemetry.cap_reductions.labels(*self._labels).inc()

    @cached_property
    def _queue_rows(self) -> Gauge:
        return self._telemetry.queue_rows.labels(*self._labels)

    @cached_property
    def _batch_rows(self) -> Histogram:
        return self._telemetry.batch_rows.labels(*self._labels)

    @cached_property
    def _batch_duration(self) -> Histogram:
        return self._telemetry.batch_duration.labels(*self._labels)

    @cached_property
    def _elements(self) -> Counter:
        return self._telemetry.elements.labels(*self._labels)

    @cached_property
    def _padding(self) -> Counter:
        return self._telemetry.padding.labels(*self._labels)


def _stages(seconds: float, fill: Fill) -> StageSeconds:
    """Of `seconds` in all; what is left is the way to the device's thread and back, and looking at every row."""
    rest = max(0.0, seconds - fill.input_seconds - fill.infer_seconds)
    return StageSeconds(fill.input_seconds, fill.infer_seconds, rest)
