"""What is measured of every request, gathered and written to the instruments together.

In multiprocess mode each observation is written to a mapped file twice, under a lock, and there are six a request.
Requests whose rows ran in one batch are answered in one turn of the event loop, so
one write a turn and series does for all of them, and nobody reads a number that is late.
"""

import asyncio
from bisect import bisect_left
from collections import Counter as CounterOf
from collections import defaultdict
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.registry import Collector

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
        self._counts: defaultdict[tuple[Counter, Labels], int] = defaultdict(int)
        self._times: defaultdict[tuple[TalliedHistogram, Labels], list[float]] = defaultdict(list)
        self._counters: dict[tuple[Counter, Labels], Counter] = {}
        self._histograms: dict[tuple[TalliedHistogram, Labels], TalliedHistogram] = {}
        self._is_due = False
        registry.register(self)

    def count(self, counter: Counter, *labels: str | int, by: int = 1) -> None:
        self._counts[counter, labels] += by
        if not self._is_due:
            self._write_soon()

    def observe(self, histogram: TalliedHistogram, seconds: float, *labels: str | int) -> None:
        self._times[histogram, labels].append(seconds)
        if not self._is_due:
            self._write_soon()

    def write(self) -> None:
        """Bring the instruments up to date."""
        self._is_due = False
        for counted, count in self._counts.items():
            if counted not in self._counters:
                self._counters[counted] = counted[0].labels(*counted[1])
            self._counters[counted].inc(count)
        for timed, values in self._times.items():
            if timed not in self._histograms:
                self._histograms[timed] = timed[0].labels(*timed[1])
            self._histograms[timed].observe_all(values)
        self._counts.clear()
        self._times.clear()

    def collect(self) -> Iterable[Metric]:
        """Nothing: but whoever reads the registry reads what was measured until now."""
        self.write()
        return ()

    def describe(self) -> Iterable[Metric]:
        return ()

    def _write_soon(self) -> None:
        self._is_due = True
        asyncio.get_running_loop().call_soon(self.write)
