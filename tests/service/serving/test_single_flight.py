import asyncio
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.preprocess import Tensors
from service.domain import Deadline, Ref
from service.errors import DeadlineExceeded, Overloaded, ServoloopError
from service.registry.fleet import Standing, VersionState
from service.serving.result_cache import ResultCache
from service.serving.single_flight import SingleFlight
from service.telemetry.instruments import HttpTelemetry
from service.wire.inference import Outputs
from tests.fakes import FakeFleet, ManualClock, sample

REF, OTHER = Ref("fashion", 1), Ref("fashion", 2)
NOW = 100.0
LATER, SOON = Deadline(NOW + 1000), Deadline(NOW + 500)
LOADED = Standing(VersionState.LOADED, "digest", slots=("engine-0",))


def row(value: float = 1.0) -> Tensors:
    return Tensors(np.array([[value, 2.0]], np.float32))


def answered(tensors: Tensors) -> Outputs:
    return Outputs(tensors.values.sum(axis=1, keepdims=True), {}, 0.25, 0.5)


class HeldEngines:
    """Answers when the test says so, and remembers what it was asked and what was taken back."""

    def __init__(self) -> None:
        self.asked: list[tuple[Ref, Tensors, Deadline, int]] = []
        self.futures: list[asyncio.Future[Outputs]] = []
        self.taken_back = 0

    async def infer(self, ref: Ref, tensors: Tensors, deadline: Deadline, priority: int) -> Outputs:
        self.asked.append((ref, tensors, deadline, priority))
        self.futures.append(asyncio.get_running_loop().create_future())
        try:
            return await self.futures[-1]
        except asyncio.CancelledError:
            self.taken_back += 1
            raise

    def answer(self, number: int = -1) -> None:
        self.futures[number].set_result(answered(self.asked[number][1]))

    def fail(self, error: ServoloopError, number: int = -1) -> None:
        self.futures[number].set_exception(error)


class Flights:
    def __init__(self, registry: CollectorRegistry, cache: ResultCache | None = None) -> None:
        self.registry, self.cache = registry, cache
        self.engines, self.fleet, self.clock = HeldEngines(), FakeFleet(), ManualClock(NOW)
        for ref in (REF, OTHER):
            self.fleet.show(ref, LOADED)
        self.single = SingleFlight(self.engines, self.fleet, HttpTelemetry(registry), cache, self.clock)

    async def ask(
        self, tensors: Tensors | None = None, *, ref: Ref = REF, deadline: Deadline = LATER, priority: int = 0
    ) -> asyncio.Task[Outputs]:
        """Ask, and let the request get as far as it comes by itself."""
        task = asyncio.create_task(self.single.infer(ref, tensors or row(), deadline, priority))
        await self.settle()
        return task

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    @property
    def num_asked(self) -> int:
        return len(self.engines.asked)

    def shared(self, how: str) -> float:
        labels = {"model": REF.model, "version": str(REF.version), "how": how}
        return sample(self.registry, "servoloop_shared_forwards_total", labels)


@pytest.fixture
def flights(registry: CollectorRegistry) -> Flights:
    return Flights(registry)


@pytest.fixture
def caching(registry: CollectorRegistry) -> Flights:
    return Flights(registry, ResultCache(max_rows=2, max_bytes=1 << 20))


async def test_identical_requests_share_a_forward_and_its_answer(flights: Flights) -> None:
    asked = [await flights.ask() for _ in range(3)]
    assert flights.num_asked == 1
    flights.engines.answer()
    outputs = [await each for each in asked]
    assert [each.values.tolist() for each in outputs] == [[[3.0]]] * 3
    assert flights.shared("in_flight") == 2


async def test_what_is_shared_can_not_be_written_to(flights: Flights) -> None:
    asked = [await flights.ask() for _ in range(2)]
    flights.engines.answer()
    for each in asked:
        with pytest.raises(ValueError, match="read-only"):
            (await each).values[0] = 7


async def test_a_request_that_comes_after_the_answer_is_computed_anew(flights: Flights) -> None:
    for number in (1, 2):
        asked = await flights.ask()
        assert flights.num_asked == number
        flights.engines.answer()
        await asked


@pytest.mark.parametrize(
    "other",
    [
        row(1.0000001),
        Tensors(row().values.astype(np.float64)),
        Tensors(row().values.reshape(2, 1)),
        Tensors(row().values.ravel(), np.array([2], np.int32)),
        Tensors(np.repeat(row().values, 2, axis=0)),
    ],
    ids=["another number", "another dtype", "another shape", "a sequence", "more rows"],
)
async def test_what_differs_is_computed_by_itself(flights: Flights, other: Tensors) -> None:
    await flights.ask()
    await flights.ask(other)
    assert flights.num_asked == 2


async def test_another_version_is_asked_by_itself(flights: Flights) -> None:
    await flights.ask()
    await flights.ask(ref=OTHER)
    assert [ref for ref, *_ in flights.engines.asked] == [REF, OTHER]


@pytest.mark.parametrize("change", [{"identity": "another"}, {"generation": 1}], ids=["other files", "a reload"])
async def test_a_version_that_changed_in_place_answers_no_earlier_question(
    caching: Flights, change: dict[str, object]
) -> None:
    await caching.ask()
    caching.fleet.show(REF, replace(LOADED, **change))  # type: ignore[arg-type]
    await caching.ask()
    assert caching.num_asked == 2
    caching.engines.answer(0)
    await caching.settle()
    assert caching.cache is not None
    assert len(caching.cache) == 0


# Who leaves


async def test_a_first_client_that_leaves_takes_the_forward_from_nobody(flights: Flights) -> None:
    first, second = await flights.ask(), await flights.ask()
    first.cancel()
    await flights.settle()
    flights.engines.answer()
    assert (await second).values.tolist() == [[3.0]]
    assert (first.cancelled(), flights.engines.taken_back) == (True, 0)


async def test_the_last_client_that_leaves_takes_the_forward_back(flights: Flights) -> None:
    asked = [await flights.ask() for _ in range(2)]
    for each in asked:
        each.cancel()
    await flights.settle()
    assert flights.engines.taken_back == 1
    await flights.ask()
    assert flights.num_asked == 2


# Deadlines and priorities


async def test_nobody_waits_for_another_past_its_own_deadline(flights: Flights) -> None:
    first = await flights.ask()
    hurried = await flights.ask(deadline=Deadline(NOW))
    with pytest.raises(DeadlineExceeded):
        await hurried
    flights.engines.answer()
    assert len((await first).values) == 1


async def test_who_has_more_time_than_the_first_asks_anew_when_that_is_late(flights: Flights) -> None:
    first, patient = await flights.ask(deadline=SOON), await flights.ask(deadline=LATER)
    flights.engines.fail(DeadlineExceeded(REF, "the queue"))
    with pytest.raises(DeadlineExceeded):
        await first
    await flights.settle()
    assert [deadline for _, _, deadline, _ in flights.engines.asked] == [SOON, LATER]
    flights.engines.answer()
    assert (await patient).values.tolist() == [[3.0]]


@pytest.mark.parametrize(
    ("first", "second", "num_asked"), [(0, 1, 2), (9, 5, 2), (9, 0, 2), (1, 0, 1), (5, 0, 1), (0, 5, 1), (1, 9, 1)]
)
async def test_nobody_waits_behind_a_forward_of_lower_priority(
    flights: Flights, first: int, second: int, num_asked: int
) -> None:
    await flights.ask(priority=first)
    await flights.ask(priority=second)
    assert flights.num_asked == num_asked


# What is not shared


@pytest.mark.parametrize("error", [Overloaded(REF, wait=1.0), DeadlineExceeded(REF, "the queue")])
async def test_failures_are_the_firsts_alone(flights: Flights, error: ServoloopError) -> None:
    first, *others = [await flights.ask() for _ in range(3)]
    flights.engines.fail(error)
    with pytest.raises(type(error)):
        await first
    await flights.settle()
    assert flights.num_asked == 3
    for number in (1, 2):
        flights.engines.answer(number)
    assert [len((await each).values) for each in others] == [1, 1]
    assert flights.shared("in_flight") == 0


async def test_a_row_that_failed_is_tried_again_for_whoever_else_asked(caching: Flights) -> None:
    first, second = await caching.ask(), await caching.ask()
    caching.engines.futures[0].set_result(Outputs(np.zeros((1, 1), np.float32), {0: "it failed"}, 0, 0))
    assert (await first).failures == {0: "it failed"}
    await caching.settle()
    caching.engines.answer()
    assert (await second).failures == {}
    assert caching.cache is not None
    assert len(caching.cache) == 0


@pytest.mark.parametrize("large", [True, False])
async def test_large_requests_are_not_compared(flights: Flights, large: bool) -> None:
    values = np.zeros((1, 16_385 if large else 16_384), np.float32)
    for _ in range(2):
        await flights.ask(Tensors(values))
    assert flights.num_asked == (2 if large else 1)


# What is kept


async def test_an_answer_that_is_kept_is_given_again_without_a_forward(caching: Flights) -> None:
    asked = await caching.ask()
    caching.engines.answer()
    first = await asked
    again = await (await caching.ask())
    assert (again.values.tolist(), again.compute_seconds) == (first.values.tolist(), 0)
    assert not again.values.flags.writeable
    assert (caching.num_asked, caching.shared("kept")) == (1, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda fleet: fleet.show(REF, None),
        lambda fleet: fleet.show(REF, replace(LOADED, state=VersionState.ON_DEMAND)),
        lambda fleet: fleet.show(REF, replace(LOADED, generation=1)),
    ],
    ids=["deleted", "unloaded", "loaded anew"],
)
async def test_answers_of_what_is_loaded_no_more_are_forgotten(
    caching: Flights, change: Callable[[FakeFleet], None]
) -> None:
    for ref in (REF, OTHER):
        asked = await caching.ask(ref=ref)
        caching.engines.answer()
        await asked
    assert caching.cache is not None
    assert len(caching.cache) == 2
    change(caching.fleet)
    assert len(caching.cache) == 1
