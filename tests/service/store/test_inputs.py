"""Inputs beside their predictions: in the store on both databases, and on their way there."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from service.domain import Ref
from service.errors import BrokenContract
from service.store.base import Filters, Input, Record
from service.store.databases import transaction
from service.store.messages import inputs_in, record_frame
from service.store.record_queue import LogPolicy, Offer, RecordQueue
from service.store.tables import inputs
from service.wire.frames import Frame, FrameBuffer, Kind, parts_of
from tests.fakes import ManualClock, sample
from tests.service.store.recording import DAY, Place, until
from tests.stores import OpenStore, a_record, open_store


def an_input(record: Record, data: bytes = b"\x93NUMPY\0\xff", **fields: Any) -> Input:
    return Input(record.id, record.model, "npy", "uniform", 0.25, data)._replace(**fields)


def kept(store: OpenStore) -> dict[str, bytes]:
    with transaction(store.engines[1]) as connection:
        rows = connection.execute(select(inputs.c.prediction_id, inputs.c.data))
        return {row.prediction_id: bytes(row.data) for row in rows}


# In the store


def test_an_input_comes_back_as_it_was(store: OpenStore) -> None:
    first, second = a_record(), a_record()
    one = an_input(first)
    store.predictions.append([first, second], [one])
    assert store.predictions.input(first.id) == one
    assert store.predictions.input(second.id) is None


def test_what_is_sent_again_is_kept_once(store: OpenStore) -> None:
    record = a_record()
    for data in (b"first", b"again"):
        store.predictions.append([record], [an_input(record, data)])
    assert kept(store) == {record.id: b"first"}


def test_the_same_row_is_known_again(store: OpenStore) -> None:
    records = [a_record() for _ in range(3)]
    data = [b"same", b"same", b"other"]
    store.predictions.append(records, [an_input(*pair) for pair in zip(records, data, strict=True)])
    with transaction(store.engines[1]) as connection:
        digests = {row.prediction_id: row.digest for row in connection.execute(select(inputs))}
    first, second, third = [digests[record.id] for record in records]
    assert first == second != third


def of_seconds(store: OpenStore, *seconds: int) -> list[str]:
    """Predictions made at these times, each with an input of 10 bytes; their ids."""
    records = [a_record(made=float(second)) for second in seconds]
    store.predictions.append(records, [an_input(record, bytes(10)) for record in records])
    return [record.id for record in records]


def test_what_is_old_is_deleted_in_portions(store: OpenStore) -> None:
    ids = of_seconds(store, 1, 2, 3, 4)
    deleted = [store.predictions.delete_inputs(3.0, 1000, limit=1) for _ in range(3)]
    assert deleted == [1, 1, 0]
    assert sorted(kept(store)) == ids[2:]
    assert len(store.predictions.list(Filters(), limit=10).records) == 4


def test_of_too_many_bytes_the_oldest_make_room(store: OpenStore) -> None:
    ids = of_seconds(store, 1, 2, 3, 4)
    assert [store.predictions.delete_inputs(0.0, 25, limit=10) for _ in range(2)] == [2, 0]
    assert sorted(kept(store)) == ids[2:]
    more = of_seconds(store, 5)
    assert store.predictions.delete_inputs(0.0, 25, limit=10) == 1
    assert sorted(kept(store)) == [ids[3], *more]


def test_a_new_recorder_knows_how_much_there_is(store: OpenStore) -> None:
    ids = of_seconds(store, 1, 2, 3)
    other = open_store(store.location)
    assert other.predictions.delete_inputs(0.0, 10, limit=10) == 2
    assert sorted(kept(store)) == ids[2:]
    other.close()


# On their way


def test_the_latest_inputs_of_a_version_are_those_that_were_drawn(store: OpenStore) -> None:
    records = [a_record(made=float(second)) for second in range(1, 6)]
    others = [a_record(made=6.0, version=2), a_record(made=7.0, model="mood")]
    unsure = a_record(made=8.0)
    kept = [an_input(one, bytes(index + 1)) for index, one in enumerate([*records, *others])]
    store.predictions.append([*records, *others, unsure], [*kept, an_input(unsure, chosen="uncertain")])
    ref = Ref("fashion", 1)
    latest = store.predictions.latest_inputs(ref, 2.0, limit=3)
    assert latest == [(records[4].id, 5), (records[3].id, 4), (records[2].id, 3)]
    assert len(store.predictions.latest_inputs(ref, 2.0, limit=9)) == 4
    wanted = [records[4].id, others[0].id, a_record().id]
    assert {one.prediction_id: one for one in store.predictions.inputs(wanted)} == {
        records[4].id: kept[4],
        others[0].id: kept[5],
    }


async def test_inputs_become_durable_with_their_predictions(place: Place) -> None:
    records = [a_record() for _ in range(3)]
    some = [an_input(records[0], b"one"), an_input(records[2], b"three", form="text", chosen="uncertain")]
    async with place.recorder(), place.log() as log:
        log.record(records, some)
        await until(place.written)
        store = place.gate.store
        assert [store.predictions.input(record.id) for record in records] == [some[0], None, some[1]]
    assert sample(place.registry, "servoloop_inputs_written_total") == 2


async def test_a_record_that_is_refused_keeps_no_other_input_out(place: Place) -> None:
    good, bad = a_record(), a_record(principal="poison")
    async with place.recorder(), place.log() as log:
        log.record([good, bad], [an_input(good), an_input(bad)])
        await until(place.written)
        await until(lambda: place.dropped("refused"))
    assert kept(place.gate.store).keys() == {good.id}
    assert sample(place.registry, "servoloop_inputs_written_total") == 1


async def test_inputs_are_let_go_before_records(place: Place) -> None:
    policy = LogPolicy(max_bytes=10_000)
    records = [a_record() for _ in range(3)]
    async with place.log(policy) as log:
        log.record(records[:1], [an_input(records[0], bytes(6000))])
        log.record(records[1:], [an_input(record) for record in records[1:]])
        async with place.recorder():
            await until(lambda: len(place.written()) == 3)
    assert kept(place.gate.store).keys() == {records[0].id}
    assert sample(place.http_registry, "servoloop_inputs_dropped_total") == 2


async def test_old_inputs_are_deleted_by_the_recorder(place: Place) -> None:
    now = place.clock()
    old, new = a_record(made=now - 40 * DAY), a_record(made=now)
    place.gate.store.predictions.append([old, new], [an_input(old), an_input(new)])
    async with place.recorder():
        await until(lambda: kept(place.gate.store).keys() == {new.id})
    assert place.written() == {old.id, new.id}
    assert sample(place.registry, "servoloop_inputs_expired_total") == 1


def queued(*offers: Offer) -> RecordQueue:
    queue = RecordQueue(LogPolicy(), ManualClock())
    for offer in offers:
        assert queue.offer(offer)
    return queue


def read(frame: Frame) -> Frame:
    [found] = FrameBuffer().feed(b"".join(bytes(part) for part in parts_of(frame)))
    return found


def test_inputs_count_with_their_records() -> None:
    record = a_record()
    queue = RecordQueue(LogPolicy(max_bytes=100), ManualClock())
    assert not queue.offer(Offer(b"x", an_input(record, bytes(100))))
    assert queue.offer(Offer(b"x", an_input(record, bytes(99))))
    assert not queue.has_room_for_inputs
    [group] = queue.take()
    queue.acknowledge(group.number)
    assert queue.has_room_for_inputs


def test_inputs_travel_with_their_records() -> None:
    records = [a_record() for _ in range(3)]
    some = [an_input(records[0], b""), an_input(records[2], b"three")]
    [group] = queued(Offer(b"[1]", some[0]), Offer(b"[2]"), Offer(b"[3]", some[1])).take()
    frame = read(record_frame(group))
    assert (frame.kind, frame.meta["records"]) == (Kind.RECORD, [[1], [2], [3]])
    assert inputs_in(frame) == some


def test_records_without_inputs_travel_alone() -> None:
    [group] = queued(Offer(b"[1]")).take()
    frame = read(record_frame(group))
    assert (list(frame.meta), list(frame.arrays), inputs_in(frame)) == (["records"], [], [])


@pytest.mark.parametrize(
    ("sizes", "arrays"),
    [([3], [np.zeros(2, np.uint8)]), ([-1, 3], [np.zeros(2, np.uint8)]), ([2], [np.zeros(2, np.int32)]), ([2], [])],
)
def test_inputs_whose_sizes_are_wrong_are_refused(sizes: list[int], arrays: Sequence[Any]) -> None:
    described = [["id", "fashion", "npy", "uniform", 1.0, size] for size in sizes]
    with pytest.raises((BrokenContract, ValueError)):
        inputs_in(Frame(Kind.RECORD, 1, {"records": [], "inputs": described}, arrays))
