import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from service.telemetry.tally import TalliedHistogram, Tally
from tests.fakes import sample

VALUES = [0.05, 0.1, 0.1000001, 0.5, 2.0, 7.0]


async def test_many_observations_count_as_each_by_itself(registry: CollectorRegistry) -> None:
    tally = Tally(registry)
    together = TalliedHistogram("together", "All at once.", ["model"], buckets=(0.1, 1, 5), registry=registry)
    single = Histogram("single", "One after another.", ["model"], buckets=(0.1, 1, 5), registry=registry)
    for value in VALUES:
        tally.times(together, "fashion").observe(value)
        single.labels("fashion").observe(value)
    for bound in ("0.1", "1.0", "5.0", "+Inf"):
        labels = {"model": "fashion", "le": bound}
        assert sample(registry, "together_bucket", labels) == sample(registry, "single_bucket", labels)
    labels = {"model": "fashion"}
    assert sample(registry, "together_sum", labels) == sample(registry, "single_sum", labels)


async def test_what_was_counted_is_written_in_the_next_turn(registry: CollectorRegistry) -> None:
    tally = Tally(registry)
    counter = Counter("rows", "Rows.", ["model"])
    counts = tally.counts(counter, "fashion")
    counts.add(2)
    counts.add()
    assert next(iter(counter.collect())).samples == []
    await asyncio.sleep(0)
    assert next(iter(counter.collect())).samples[0].value == 3


async def test_what_is_counted_after_a_turn_is_written_in_the_next(registry: CollectorRegistry) -> None:
    counter = Counter("rows", "Rows.", ["model"], registry=registry)
    counts = Tally(registry).counts(counter, "fashion")
    for _ in range(2):
        counts.add()
        await asyncio.sleep(0)
    assert next(iter(counter.collect())).samples[0].value == 2


async def test_a_series_is_not_there_before_its_first_count(registry: CollectorRegistry) -> None:
    counter = Counter("rows", "Rows.", ["model"], registry=registry)
    tally = Tally(registry)
    tally.counts(counter, "fashion")
    tally.write()
    assert next(iter(counter.collect())).samples == []


class Full:
    """Makes the writes of some instruments fail while it `is_full`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *instruments: Any) -> None:
        self.is_full = True
        for instrument in instruments:
            monkeypatch.setattr(instrument, "labels", self._failing(instrument.labels))

    def _failing(self, labels: Any) -> Any:
        def fail_or_do(*named: str) -> Any:
            if self.is_full:
                raise OSError("no space left on device")
            return labels(*named)

        return fail_or_do


async def test_a_write_that_fails_costs_what_was_to_be_written_and_nothing_else(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tally = Tally(registry)
    rows, errors = (Counter(name, "Some.", ["model"], registry=registry) for name in ("rows", "errors"))
    seconds = TalliedHistogram("seconds", "Some.", ["model"], buckets=(1,), registry=registry)
    full = Full(monkeypatch, rows, seconds)
    labels = {"model": "fashion"}
    for turn in range(3):
        full.is_full = turn < 2
        tally.counts(rows, "fashion").add()
        tally.times(seconds, "fashion").observe(0.5)
        tally.counts(errors, "fashion").add()
        await asyncio.sleep(0)
    assert sample(registry, "errors_total", labels) == 3
    assert sample(registry, "rows_total", labels) == 1
    assert sample(registry, "seconds_count", labels) == 1
    assert [record.message for record in caplog.records] == [
        "what was measured can't be written, and is lost; this is said once"
    ]
