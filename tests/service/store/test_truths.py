"""What is known of predictions, followed change by change, on both databases."""

from collections.abc import Iterator

import pytest

from service.store.base import Known, Position
from service.store.databases import Location, Part
from service.store.sql_truths import SqlTruths
from tests.stores import OpenStore, a_record, an_event

START = Position()


@pytest.fixture
def following(store: OpenStore, location: Location) -> Iterator[SqlTruths]:
    """What another process sees."""
    engine = location.reader(Part.PREDICTIONS)
    yield SqlTruths(engine)
    engine.dispose()


def followed(following: SqlTruths, after: Position = START, limit: int = 2) -> list[Known]:
    """All that changed since, page by page."""
    found: list[Known] = []
    while page := following.changes(after, limit=limit):
        found += page
        after = page[-1].position
    return found


def test_what_is_known_comes_with_what_was_predicted(store: OpenStore, following: SqlTruths) -> None:
    record = a_record(scores="AAAA", tags={"tier": "a"}, version=2)
    store.predictions.append([record])
    rating = an_event(prediction_id=record.id, kind="rating", value=4)
    store.feedback.add([an_event(prediction_id=record.id, received_at=7), rating], {})
    [known] = followed(following)
    assert known == (record.id, "fashion", 2, "answered", "Bag", 7, 4.0, 1, record.outputs, "AAAA", {"tier": "a"})


def test_only_what_is_new_is_told_and_all_of_it(store: OpenStore, following: SqlTruths) -> None:
    records = [a_record() for _ in range(5)]
    store.predictions.append(records)
    store.feedback.add([an_event(prediction_id=one.id) for one in records], {})
    first = followed(following)
    assert sorted(one.prediction_id for one in first) == [one.id for one in records]
    assert followed(following, first[-1].position) == []
    store.feedback.add([an_event(prediction_id=records[1].id, value="Coat")], {})
    [changed] = followed(following, first[-1].position)
    assert (changed.prediction_id, changed.label) == (records[1].id, "Coat")


def test_what_was_taken_back_is_known_no_more(store: OpenStore, following: SqlTruths) -> None:
    record = a_record()
    store.predictions.append([record])
    store.feedback.add([an_event(prediction_id=record.id)], {})
    store.feedback.add([an_event(prediction_id=record.id, kind="retraction", value=None)], {})
    [known] = followed(following)
    assert (known.label, known.received_at, known.outputs) == (None, None, record.outputs)


def test_numbers_go_on_where_the_last_change_was_deleted(store: OpenStore, following: SqlTruths) -> None:
    old, new = a_record(made=1.0), a_record()
    store.predictions.append([old, new])
    store.feedback.add([an_event(prediction_id=old.id)], {})
    [known] = followed(following)
    store.feedback.delete_older_than(2.0, limit=10)
    store.feedback.add([an_event(prediction_id=new.id)], {})
    [later] = followed(following, known.position)
    assert later.prediction_id == new.id
