"""Predictions that are deleted on demand, on both databases."""

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import Table, select
from uuid_utils import uuid7

from service.store.base import Input, Position, Record, Tag
from service.store.control_client import ControlClient
from service.store.databases import Part, transaction
from service.store.sql_truths import SqlTruths
from service.store.tables import feedback, inputs, prediction_counts, predictions, truths, unresolved
from tests.service.store.recording import Place
from tests.stores import OpenStore, a_record, an_event

EVERYWHERE = (predictions, inputs, feedback, truths, unresolved)


def rows(store: OpenStore, table: Table) -> int:
    """Of what is known, what is left when it is known no more does not count."""
    query = select(table) if table is not truths else select(table).where(truths.c.num_events > 0)
    with transaction(store.engines[1]) as connection:
        return len(connection.execute(query).all())


def append(store: OpenStore, *records: Record) -> None:
    store.predictions.append(records, [Input(one.id, one.model, "text", "uniform", 1.0, b"said") for one in records])


def left(store: OpenStore) -> list[int]:
    return [rows(store, table) for table in EVERYWHERE]


def test_a_prediction_is_deleted_with_all_that_is_kept_of_it(store: OpenStore) -> None:
    mine, other = a_record(external_id="a"), a_record(external_id="b")
    shadow = a_record(role="shadow", paired_with=mine.id)
    append(store, mine, other, shadow)
    store.feedback.add(
        [
            an_event(prediction_id=mine.id),
            an_event(prediction_id=shadow.id),
            an_event(model="fashion", external_id="a"),
            an_event(prediction_id=other.id),
            an_event(model="fashion", external_id="b"),
        ],
        {},
    )
    assert left(store) == [3, 3, 5, 3, 0]
    assert store.erasure.erase([mine.id]) == (2, 3)
    assert left(store) == [1, 1, 2, 1, 0]
    assert store.predictions.get(other.id) == other
    assert store.erasure.erase([mine.id, str(uuid7())]) == (0, 0)


def test_what_was_said_of_a_prediction_that_nobody_knows_is_deleted_by_its_id(store: OpenStore) -> None:
    mine, other = str(uuid7()), str(uuid7())
    store.feedback.add([an_event(prediction_id=one) for one in (mine, mine, other)], {})
    assert left(store) == [0, 0, 3, 0, 3]
    assert store.erasure.erase([mine]) == (0, 2)
    assert left(store) == [0, 0, 1, 0, 1]
    assert store.erasure.erase([mine]) == (0, 0)


def test_more_may_be_deleted_than_a_statement_can_name(store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.databases._MOST_NAMED", 1)
    mine, other = a_record(external_id="a"), a_record(external_id="b")
    shadow = a_record(role="shadow", paired_with=mine.id)
    append(store, mine, other, shadow)
    store.feedback.add([an_event(model="fashion", external_id=name) for name in "ab"], {})
    assert left(store) == [3, 3, 2, 3, 0]
    assert store.erasure.erase([mine.id, other.id, shadow.id]) == (3, 2)
    assert left(store) == [0] * 5


@pytest.mark.parametrize("with_others", [False, True])
def test_what_counted_a_tag_that_nothing_has_is_deleted_too(store: OpenStore, with_others: bool) -> None:
    mine = a_record(made=1.0, tags={"user": "5"})
    others = [a_record(made=2.0, tags={"user": "5"}), a_record(made=3.0)] if with_others else []
    append(store, mine, *others)
    store.erasure.erase([mine.id])
    with transaction(store.engines[1]) as connection:
        counted = {row.slice: row.count for row in connection.execute(select(prediction_counts))}
    assert counted == ({"": 2, "user:5": 1} if with_others else {})


def test_who_follows_what_is_known_hears_that_it_is_known_no_more(store: OpenStore) -> None:
    record = a_record()
    append(store, record)
    store.feedback.add([an_event(prediction_id=record.id)], {})
    following = SqlTruths(store.engines[1])
    [known] = following.changes(Position(), limit=10)
    store.erasure.erase([record.id])
    [gone] = following.changes(known.position, limit=10)
    assert (gone.prediction_id, gone.label, gone.rating, gone.outputs, gone.tags) == (record.id, *[None] * 4)


def test_what_was_said_by_the_callers_id_stays_while_another_has_it(store: OpenStore) -> None:
    first, second = a_record(external_id="a"), a_record(external_id="a")
    append(store, first, second)
    store.feedback.add([an_event(model="fashion", external_id="a")], {})
    store.erasure.erase([first.id])
    assert left(store) == [1, 1, 1, 1, 0]
    store.erasure.erase([second.id])
    assert left(store) == [0] * 5


def test_predictions_are_deleted_by_a_tag_portion_by_portion(store: OpenStore) -> None:
    tags: list[dict[str, Any]] = [{"user": "7"}, {"user": "8"}, {}, {"user": "7", "país": "España"}, {"name": "7"}]
    records = [a_record(made=1.0 + number, tags=one) for number, one in enumerate(tags)]
    other = a_record(made=9.0, tags={"user": "7"}, model="mood")
    append(store, *records, other)
    portions, after = [], ""
    while True:
        gone, last = store.erasure.erase_tagged(Tag("user", "7"), "fashion", after=after, limit=2)
        portions.append(gone)
        if last is None:
            break
        after = last
    assert portions == [(1, 0), (1, 0), (0, 0), (0, 0)]
    kept = {one.id for one in (records[1], records[2], records[4], other)}
    with transaction(store.engines[1]) as connection:
        assert set(connection.scalars(select(predictions.c.id))) == kept
    assert store.erasure.erase_tagged(Tag("país", "España"), None, limit=100) == ((0, 0), None)
    assert store.erasure.erase_tagged(Tag("user", "7"), None, limit=100) == ((1, 0), None)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_is_deleted_is_overwritten(store: OpenStore) -> None:
    secret = b"what nobody shall read again"
    record = a_record()
    store.predictions.append([record], [Input(record.id, "fashion", "text", "uniform", 1.0, secret)])
    file = store.location.file(Part.PREDICTIONS)
    assert secret in file.read_bytes()
    store.erasure.erase([record.id])
    assert secret not in file.read_bytes()
    with closing(sqlite3.connect(file)) as reader:
        assert reader.execute("SELECT count(*) FROM inputs").fetchone() == (0,)


async def test_the_recorder_deletes_what_it_is_told_to(place: Place) -> None:
    records = [a_record(tags={"user": str(number)}) for number in range(3)]
    place.gate.store.predictions.append(records)
    client = ControlClient(place.path)
    async with place.recorder():
        assert await client.erase([records[0].id]) == (1, 0)
        assert await client.erase_tagged(Tag("user", "1"), None, limit=1) == ((1, 0), records[1].id)
        assert await client.erase_tagged(Tag("user", "1"), None, after=records[1].id, limit=2) == ((0, 0), None)
    assert place.written() == {records[2].id}
