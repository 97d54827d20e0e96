"""How many predictions were made, on both databases: always what counting the log would say."""

from collections.abc import Iterable
from typing import Any

import pytest

from service.store.base import CountFilters, Record, Tag
from service.store.databases import Location, Part
from service.store.sql_predictions import SqlPredictions
from tests.stores import OpenStore, a_record, an_event, open_store

MINUTE = 60.0


def count(store: OpenStore, **filters: Any) -> int:
    return store.predictions.count(CountFilters(**{"model": "fashion", **filters}))


def append(store: OpenStore, records: Iterable[Record]) -> None:
    store.predictions.append(list(records))


@pytest.fixture(params=[False, True], ids=["plain", "joining"])
def waits(request: pytest.FixtureRequest, store: OpenStore) -> bool:
    """Whether something waits for predictions, so that they are written another way."""
    store.predictions.append([a_record(model="other")])
    if request.param:
        store.feedback.add([an_event(prediction_id=a_record().id)], {})
    return bool(request.param)


def test_predictions_are_counted_by_what_they_are(store: OpenStore, waits: bool) -> None:
    assert count(store) == 0
    first = a_record(made=1 * MINUTE + 1)
    append(
        store,
        [
            first,
            a_record(made=2 * MINUTE),
            a_record(made=3 * MINUTE - 0.001, version=2),
            a_record(made=3 * MINUTE, role="shadow", paired_with=first.id, version=2),
            a_record(made=3 * MINUTE, model="mood"),
        ],
    )
    assert count(store) == 4
    assert count(store, model="mood") == 1
    assert (count(store, version=1), count(store, version=2), count(store, version=3)) == (2, 2, 0)
    assert (count(store, role="answered"), count(store, role="shadow")) == (3, 1)
    assert count(store, since=2 * MINUTE) == 3
    assert count(store, since=2 * MINUTE + 30) == 3
    assert count(store, until=2 * MINUTE) == 1
    assert count(store, until=2 * MINUTE + 1) == 3
    assert count(store, since=2 * MINUTE, until=3 * MINUTE, version=2) == 1


def test_what_is_sent_again_is_counted_once(store: OpenStore, waits: bool) -> None:
    records = [a_record() for _ in range(3)]
    append(store, records)
    append(store, [records[1], a_record(), records[0]])
    twice = a_record()
    append(store, [twice, twice])
    assert count(store) == 5


def test_tags_are_counted_by_name_and_value(store: OpenStore, waits: bool) -> None:
    append(store, [a_record(tags={"país": "España", "tier": "a"}), a_record(tags={"tier": "a:b"}), a_record()])
    assert count(store) == 3
    assert count(store, slice="país:España") == 1
    assert (count(store, slice="tier:a"), count(store, slice="tier:a:b"), count(store, slice="tier")) == (1, 1, 0)


def test_of_very_many_tags_only_so_many_are_counted(store: OpenStore, caplog: pytest.LogCaptureFixture) -> None:
    append(store, [a_record(tags={"user": str(number)}) for number in range(300)])
    append(
        store, [a_record(tags={"user": "0"}), a_record(tags={"user": "299"}), a_record(model="mood", tags={"a": "b"})]
    )
    assert (count(store, slice="user:0"), count(store, slice="user:299")) == (2, 0)
    assert (count(store), count(store, model="mood", slice="a:b")) == (302, 1)
    assert caplog.text.count("too many tags") == 1


def test_a_new_recorder_goes_on_counting_the_same_tags(store: OpenStore, location: Location) -> None:
    append(store, [a_record(tags={"user": str(number)}) for number in range(256)])
    other = open_store(location)
    append(other, [a_record(tags={"user": "7"}), a_record(tags={"user": "new"})])
    assert (count(store, slice="user:7"), count(store, slice="user:new"), count(store)) == (2, 0, 258)
    other.close()


def test_what_is_deleted_is_counted_no_more(store: OpenStore) -> None:
    records = [a_record(tags={"user": "7"}), a_record(tags={"user": "8"}), a_record()]
    shadow = a_record(role="shadow", paired_with=records[0].id)
    append(store, [*records, shadow])
    store.erasure.erase_tagged(Tag("user", "7"), None, limit=100)
    assert (count(store), count(store, slice="user:7"), count(store, role="shadow")) == (2, 0, 0)
    store.erasure.erase([records[2].id])
    assert count(store) == 1


def test_what_was_never_counted_is_not_taken_back(store: OpenStore) -> None:
    append(store, [a_record(tags={"user": str(number)}) for number in range(256)])
    uncounted = a_record(tags={"user": "new"})
    append(store, [uncounted])
    store.erasure.erase([uncounted.id])
    assert (count(store), count(store, slice="user:new")) == (256, 0)


def test_counts_go_with_their_predictions(store: OpenStore) -> None:
    append(store, [a_record(made=1.0), a_record(made=5 * MINUTE)])
    store.predictions.delete_older_than(5 * MINUTE, limit=10)
    assert count(store) == 1


def test_a_reader_counts_too(store: OpenStore, location: Location) -> None:
    append(store, [a_record()])
    engine = location.reader(Part.PREDICTIONS)
    assert SqlPredictions(engine).count(CountFilters("fashion")) == 1
    engine.dispose()


def test_versions_that_predicted_lately_are_known(store: OpenStore) -> None:
    append(
        store,
        [
            a_record(made=1 * MINUTE, version=1),
            a_record(made=5 * MINUTE, version=3),
            a_record(made=5 * MINUTE, version=2, tags={"tier": "a"}),
            a_record(made=9 * MINUTE, model="mood", version=7),
        ],
    )
    assert store.predictions.served_since("fashion", 0.0) == [1, 2, 3]
    assert store.predictions.served_since("fashion", 5 * MINUTE + 30) == [2, 3]
    assert store.predictions.served_since("fashion", 6 * MINUTE) == []
    assert store.predictions.served_since("mood", 6 * MINUTE) == [7]
