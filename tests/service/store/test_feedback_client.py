"""Feedback on its way to the store: the client in an http process, and the recorder that commits."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from uuid_utils import uuid7

from service.errors import StoreUnavailable
from service.store.base import Contracts
from service.store.control_client import ControlClient
from service.store.feedback import FeedbackEvent, FeedbackFilters, ModelContract, Outcome
from service.store.feedback_client import FeedbackClient
from tests.fakes import sample
from tests.patience import PATIENCE
from tests.service.store.recording import DAY, Place, until
from tests.stores import OpenStore, a_record, an_event


class Desk:
    """Feedback of a store that may fail first, or wait at a gate, and that can't keep what is poisoned."""

    def __init__(self, store: OpenStore) -> None:
        self.store = store
        self.fail: list[Exception] = []
        self.open = threading.Event()
        self.open.set()
        self.groups: list[int] = []
        self.contracts: Contracts = {}

    def add(self, events: Sequence[FeedbackEvent], contracts: Contracts) -> list[Outcome]:
        assert self.open.wait(30)
        if self.fail:
            raise self.fail.pop(0)
        if any(event.actor == "poison" for event in events):
            raise ValueError("this can't be written")
        self.groups.append(len(events))
        self.contracts = contracts
        return self.store.feedback.add(events, contracts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store.feedback, name)


@pytest.fixture
def desk(place: Place) -> Desk:
    place.feedback = Desk(place.gate.store)
    return place.feedback


def kept(place: Place) -> dict[str, str]:
    return {one.event.id: one.state for one in place.gate.store.feedback.list(FeedbackFilters(), limit=1000).events}


async def test_what_is_acknowledged_is_durable(place: Place) -> None:
    record = a_record()
    event, later = an_event(prediction_id=record.id), an_event(prediction_id=str(uuid7()))
    async with place.recorder(), place.log() as log, FeedbackClient(place.path) as client:
        log.record([record])
        await until(place.written)
        assert await client.add([event, later]) == [
            Outcome("joined", event.id, record.id),
            Outcome("pending", later.id, later.prediction_id),
        ]
        assert kept(place) == {event.id: "joined", later.id: "pending"}
    assert sample(place.registry, "servoloop_feedback_events_total", {"outcome": "joined"}) == 1
    assert sample(place.registry, "servoloop_feedback_events_total", {"outcome": "pending"}) == 1


async def test_what_came_before_its_prediction_is_joined_once_that_is_written(place: Place) -> None:
    record = a_record()
    event = an_event(prediction_id=record.id)
    async with place.recorder(), place.log() as log, FeedbackClient(place.path) as client:
        await client.add([event])
        log.record([record])
        await until(place.written)
    assert kept(place) == {event.id: "joined"}
    assert sample(place.registry, "servoloop_feedback_events_total", {"outcome": "joined_later"}) == 1


async def test_posts_that_come_during_a_commit_are_committed_together(place: Place, desk: Desk) -> None:
    desk.open.clear()
    async with place.recorder(), FeedbackClient(place.path) as client:
        first = asyncio.create_task(client.add([an_event(prediction_id=str(uuid7()))]))
        others = [asyncio.create_task(client.add([an_event(prediction_id=str(uuid7()))])) for _ in range(20)]
        await asyncio.sleep(0.1)
        desk.open.set()
        await asyncio.gather(first, *others)
    assert sum(desk.groups) == 21
    assert len(desk.groups) <= 3


async def test_a_commit_is_bounded(place: Place, desk: Desk) -> None:
    desk.open.clear()
    async with place.recorder(), FeedbackClient(place.path) as client:
        calls = [
            asyncio.create_task(client.add([an_event(prediction_id=str(uuid7())) for _ in range(400)]))
            for _ in range(5)
        ]
        await asyncio.sleep(0.1)
        desk.open.set()
        await asyncio.gather(*calls)
    assert sum(desk.groups) == 2000
    assert max(desk.groups) <= 1000


async def test_a_replaced_recorder_is_told_again_and_keeps_it_once(place: Place, desk: Desk) -> None:
    event = an_event(prediction_id=str(uuid7()))
    async with FeedbackClient(place.path) as client:
        adding = asyncio.create_task(client.add([event]))
        await asyncio.sleep(0.05)
        async with place.recorder():
            assert await adding == [Outcome("pending", event.id, event.prediction_id)]
        again = asyncio.create_task(client.add([event]))
        async with place.recorder():
            assert await again == [Outcome("pending", event.id, event.prediction_id)]
    assert kept(place) == {event.id: "pending"}


async def test_a_store_that_is_away_is_told_at_once(place: Place, desk: Desk) -> None:
    desk.fail = [StoreUnavailable("the disk is full")]
    event = an_event(prediction_id=str(uuid7()))
    async with place.recorder(), FeedbackClient(place.path) as client:
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            await client.add([event])
        assert (await client.add([event]))[0].status == "pending"


async def test_without_a_recorder_nothing_is_acknowledged(place: Place) -> None:
    async with FeedbackClient(place.path, timeout=0.01) as client:
        with pytest.raises(StoreUnavailable, match="it may have kept this"):
            await client.add([an_event(prediction_id=str(uuid7()))])


async def test_what_waits_is_bounded(place: Place) -> None:
    async with FeedbackClient(place.path, timeout=PATIENCE, max_waiting=2) as client:
        waiting = asyncio.create_task(client.add([an_event(), an_event()]))
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="2 events wait to be kept; nothing of this was"):
            await client.add([an_event()])
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with place.recorder():
            assert len(await client.add([an_event(prediction_id=str(uuid7()))] * 2)) == 2


async def test_one_event_that_cannot_be_kept_keeps_no_other_out(place: Place, desk: Desk) -> None:
    events = [an_event(prediction_id=str(uuid7())) for _ in range(5)]
    events[3] = events[3]._replace(actor="poison")
    async with place.recorder(), FeedbackClient(place.path) as client:
        outcomes = await client.add(events)
    assert [one.status for one in outcomes] == ["pending", "pending", "pending", "rejected", "pending"]
    assert kept(place).keys() == {event.id for event in events if event.actor is None}


async def test_labels_are_checked_against_what_models_are_known_by_then(place: Place, desk: Desk) -> None:
    record = a_record()
    place.gate.store.predictions.append([record])
    contracts = {"fashion": ModelContract("multiclass", ("Bag", "Coat"))}
    control = ControlClient(place.path)
    async with place.recorder(), FeedbackClient(place.path) as client:
        assert (await client.add([an_event(prediction_id=record.id, value="Hat")]))[0].status == "joined"
        await control.crown_new_models({"fashion": {1: "a" * 64}}, contracts)
        [outcome] = await client.add([an_event(prediction_id=record.id, value="Hat")])
        assert (outcome.status, outcome.error) == (
            "rejected",
            "'Hat' is no label of the model; expected one of Bag, Coat",
        )
        changed = {"fashion": ModelContract("multiclass", ("Bag", "Hat"))}
        await control.crown_new_models({"fashion": {1: "a" * 64}}, changed)
        assert (await client.add([an_event(prediction_id=record.id, value="Hat")]))[0].status == "joined"


async def test_what_is_no_event_cuts_the_peer_off(place: Place) -> None:
    async with place.recorder(), FeedbackClient(place.path, timeout=0.2) as client:
        with pytest.raises(StoreUnavailable):
            await client.add([("not", "an", "event")])  # type: ignore[list-item]


async def test_what_waits_too_long_and_what_is_old_is_looked_after(place: Place) -> None:
    now = int(place.clock() * 1e9)
    day = int(DAY * 1e9)
    ages = {"old": 100, "waits": 2, "new": 0}
    ids = {name: str(uuid7(nanoseconds=now - age * day)) for name, age in ages.items()}
    place.gate.store.feedback.add([an_event(id=one, prediction_id=str(uuid7())) for one in ids.values()], {})
    async with place.recorder():
        await until(lambda: kept(place) == {ids["waits"]: "orphaned", ids["new"]: "pending"})
    assert sample(place.registry, "servoloop_feedback_orphaned_events_total") == 1
    assert sample(place.registry, "servoloop_feedback_expired_events_total") == 1
