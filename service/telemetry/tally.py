"""What is measured of every request, gathered and written to the instruments together.

In multiprocess mode each write to a mapped file takes a lock, and a request has fourteen: two for each of its six
observations (its duration, and that of five stages), and one for each of its two counts. Requests whose rows ran in one
batch are answered in one turn of the event loop, so writing once a turn and series does for all of them. Who asks this
process reads no number that is late; who asks another one, none that is later than that turn.
"""

import asyncio
import logging
from bisect import bisect_left
from collections import Counter as CounterOf
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

Labels = tuple[str | int, ...]


class TalliedHistogram(Histogram):
    """A histogram that takes many observations at once."""

    def observe_all(self, values: Sequence[float]) -> None:
        """As `observe`, for each of them."""
        self._sum.inc(sum(values))
        for bucket, count in CounterOf(bisect_left(self._upper_bounds, value) for value in values).items():
            self._buckets[bucket].inc(count)


class Tally(Collector):
    """Belongs to one event loop. Make it before the instruments, with their registry: it is asked first."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counts: dict[tuple[Counter, Labels], Counts] = {}
        self._times: dict[tuple[TalliedHistogram, Labels], Times] = {}
        self._due: list[Counts | Times] = []
        self._has_failed = False
        registry.register(self)

    def counts(self, counter: Counter, *labels: str | int) -> "Counts":
        """A counter's series, to be kept by whoever counts often."""
        named = counter, labels
        if named not in self._counts:
            self._counts[named] = Counts(self._is_due, counter, labels)
        return self._counts[named]

    def times(self, histogram: TalliedHistogram, *labels: str | int) -> "Times":
        """A histogram's series, to be kept by whoever observes often."""
        named = histogram, labels
        if named not in self._times:
            self._times[named] = Times(self._is_due, histogram, labels)
        return self._times[named]

    def write(self) -> None:
        """Bring the instruments up to date. What can't be written is lost, and keeps nothing else from it."""
        due, self._due = self._due, []
        for series in due:
            try:
                series.write()
            except Exception:
                if not self._has_failed:
                    log.exception("what was measured can't be written, and is lost; this is said once")
                self._has_failed = True

    def collect(self) -> Iterable[Metric]:
        """Nothing: but whoever reads the registry reads what was measured until now."""
        self.write()
        return ()

    def describe(self) -> Iterable[Metric]:
        return ()

    def _is_due(self, series: "Counts | Times") -> None:
        if not self._due:
            asyncio.get_running_loop().call_soon(self.write)
        self._due.append(series)


class Counts:
    """A series of a counter, which is not there before something is counted."""

    __slots__ = ("_by", "_counter", "_is_due", "_labels", "_series")

    def __init__(self, is_due: Callable[["Counts"], None], counter: Counter, labels: Labels) -> None:
        self._is_due, self._counter, self._labels = is_due, counter, labels
        self._series: Counter | None = None
        self._by = 0

    def add(self, by: int = 1) -> None:
        if not self._by:
            self._is_due(self)
        self._by += by

    def write(self) -> None:
        by, self._by = self._by, 0
        if self._series is None:
            self._series = self._counter.labels(*self._labels)
        self._series.inc(by)


class Times:
    """A series of a histogram, which is not there before something is observed."""

    __slots__ = ("_histogram", "_is_due", "_labels", "_series", "_values")

    def __init__(self, is_due: Callable[["Times"], None], histogram: TalliedHistogram, labels: Labels) -> None:
        self._is_due, self._histogram, self._labels = is_due, histogram, labels
        self._series: TalliedHistogram | None = None
        self._values: list[float] = []

    def observe(self, seconds: float) -> None:
        if not self._values:
            self._is_due(self)
        self._values.append(seconds)

    def write(self) -> None:
        values, self._values = self._values, []
        if self._series is None:
            self._series = self._histogram.labels(*self._labels)
        self._series.observe_all(values)
