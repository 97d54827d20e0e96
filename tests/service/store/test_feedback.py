"""Feedback in the store, on both databases."""

import sqlite3
from collections.abc import Iterator
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, text
from sqlalchemy.exc import InternalError
from uuid_utils import uuid7

from service.errors import StoreUnavailable
from service.store.base import Contracts, Position, Record
from service.store.databases import Location, Part, driver_of, transaction
from service.store.feedback import FeedbackEvent, FeedbackFilters, ModelContract, Outcome, truth_of
from service.store.sql_feedback import SqlFeedback
from service.store.sql_truths import SqlTruths
from service.store.tables import PREDICTIONS, truth_changes, truths, unresolved
from service.store.tables import feedback as feedback_events
from tests.stores import OpenStore, a_record, an_event, open_store

CONTRACTS: Contracts = {"fashion": ModelContract("multiclass", ("Bag", "Coat", "Boot"))}
REFUSED = (StoreUnavailable, InternalError)


@pytest.fixture
def feedback(store: OpenStore, location: Location) -> Iterator[SqlFeedback]:
    """What an http process sees."""
    engine = location.reader(Part.PREDICTIONS)
    yield SqlFeedback(engine)
    engine.dispose()


def add(store: OpenStore, *events: FeedbackEvent) -> list[Outcome]:
    return store.feedback.add(events, CONTRACTS)


def append(store: OpenStore, *records: Record) -> int:
    """As the recorder does; how many events waited for these."""
    return store.predictions.append(records)


def known(store: OpenStore) -> dict[str, Any]:
    """Prediction -> its current label, or what it was rated."""
    with transaction(store.engines[1]) as connection:
        rows = connection.execute(select(truths)).all()
    return {row.prediction_id: row.label if row.label_event is not None else row.rating for row in rows}


def changes(store: OpenStore) -> dict[str, int]:
    with transaction(store.engines[1]) as connection:
        return {row.prediction_id: row.changed for row in connection.execute(select(truths))}


def states(store: OpenStore) -> dict[str, str]:
    return {one.event.id: one.state for one in store.feedback.list(FeedbackFilters(), limit=1000).events}


# What was said of what is there


def test_an_event_comes_back_as_it_was(store: OpenStore, feedback: SqlFeedback) -> None:
    record = a_record()
    append(store, record)
    event = an_event(
        prediction_id=record.id,
        kind="correction",
        source="experts of Ω",
        trust=2,
        actor="ann",
        principal="key-7",
        supersedes=str(uuid7()),
        idempotency_key="k",
        digest="d" * 32,
    )
    assert add(store, event) == [Outcome("joined", event.id, record.id)]
    [found] = feedback.list(FeedbackFilters(), limit=10).events
    assert found == (event._replace(model="fashion"), "joined")


@pytest.mark.parametrize("value", ["Bag", ["Bag", "Coat"], 1.5, 7, -1e300, []])
def test_every_kind_of_value_is_kept(store: OpenStore, value: Any) -> None:
    record = a_record(model="any")
    append(store, record)
    add(store, an_event(prediction_id=record.id, value=value))
    assert known(store) == {record.id: value}


def test_a_rating_is_kept_beside_a_label(store: OpenStore) -> None:
    record = a_record()
    append(store, record)
    add(store, an_event(prediction_id=record.id, kind="rating", value=4))
    assert known(store) == {record.id: 4.0}
    add(store, an_event(prediction_id=record.id, value="Coat"))
    assert known(store) == {record.id: "Coat"}


def test_who_follows_what_is_known_hears_when_the_first_label_came(store: OpenStore) -> None:
    record = a_record()
    append(store, record)
    add(store, an_event(prediction_id=record.id, received_at=1_000))
    add(store, an_event(prediction_id=record.id, received_at=9_000, kind="correction", value="Coat"))
    [row] = SqlTruths(store.engines[1]).changes(Position(), limit=10)
    assert (row.label, row.received_at) == ("Coat", 1_000)


def test_what_is_retracted_is_known_no_more(store: OpenStore) -> None:
    record = a_record()
    append(store, record)
    add(store, an_event(prediction_id=record.id))
    add(store, an_event(prediction_id=record.id, kind="retraction", value=None))
    assert known(store) == {record.id: None}


def test_a_label_that_the_model_does_not_have_is_rejected_and_not_kept(store: OpenStore, feedback: SqlFeedback) -> None:
    record = a_record()
    append(store, record)
    good, bad = an_event(prediction_id=record.id), an_event(prediction_id=record.id, value="Hat")
    assert add(store, bad, good) == [
        ("rejected", None, record.id, "'Hat' is no label of the model; expected one of Bag, Coat, Boot", "label"),
        Outcome("joined", good.id, record.id),
    ]
    assert [one.event.id for one in feedback.list(FeedbackFilters(), limit=10).events] == [good.id]
    # Of a prediction that is not there the model may be known all the same.
    [outcome] = add(store, an_event(model="fashion", external_id="a", value="Hat"))
    assert outcome.status == "rejected"


def test_a_model_that_nobody_knows_takes_any_label(store: OpenStore) -> None:
    record = a_record(model="unheard-of")
    append(store, record)
    assert add(store, an_event(prediction_id=record.id, value="Hat"))[0].status == "joined"


# What comes before its prediction


def test_feedback_waits_for_its_prediction(store: OpenStore) -> None:
    record = a_record()
    event = an_event(prediction_id=record.id)
    assert add(store, event) == [Outcome("pending", event.id, record.id)]
    assert states(store) == {event.id: "pending"}
    assert known(store) == {}
    assert append(store, record, a_record()) == 1
    assert states(store) == {event.id: "joined"}
    assert known(store) == {record.id: "Bag"}
    assert append(store, a_record()) == 0
    [found] = store.feedback.list(FeedbackFilters(model="fashion"), limit=10).events
    assert found.event.id == event.id


def test_feedback_that_waits_is_found_by_a_new_recorder(store: OpenStore, location: Location) -> None:
    record = a_record()
    add(store, an_event(prediction_id=record.id))
    other = open_store(location)
    assert append(other, record) == 1
    other.close()
    assert known(store) == {record.id: "Bag"}


def test_what_waits_too_long_is_orphaned_once(store: OpenStore) -> None:
    record = a_record()
    old = an_event(id=str(uuid7(nanoseconds=10**18)), prediction_id=record.id)
    new = an_event(prediction_id=str(uuid7()))
    add(store, old, new)
    assert store.feedback.orphan_older_than(10**9, limit=10) == 0
    assert store.feedback.orphan_older_than(10**9 + 1, limit=10) == 1
    assert store.feedback.orphan_older_than(10**9 + 1, limit=10) == 0
    assert states(store) == {old.id: "orphaned", new.id: "pending"}
    # Better late than never.
    assert append(store, record) == 1
    assert known(store) == {record.id: "Bag"}
    assert states(store) == {old.id: "joined", new.id: "pending"}


def test_more_events_may_wait_for_a_prediction_than_a_statement_can_name(store: OpenStore) -> None:
    add(store, an_event(model="fashion", external_id="a"))
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 65999) "
    with transaction(store.engines[1]) as connection:
        if connection.dialect.name == "sqlite":  # what it takes where nobody built it to take more
            driver_of(connection).setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)
        for table in (feedback_events, unresolved):
            [key, *others] = [column.name for column in table.c]
            copies = f"SELECT substr({key}, 1, 26) || (1000000000 + i), {', '.join(others)} FROM {table.name}, n"
            connection.execute(text(f"{numbers} INSERT INTO {table.name} ({key}, {', '.join(others)}) {copies}"))
    record = a_record(external_id="a")
    assert append(store, record, a_record(external_id="b")) == 66_000
    assert known(store) == {record.id: "Bag"}
    with transaction(store.engines[1]) as connection:
        assert connection.execute(select(func.count()).select_from(unresolved)).scalar_one() == 0


def test_more_events_may_wait_for_a_shadows_prediction_than_a_statement_can_name(
    store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.databases._MOST_NAMED", 2)
    answered = a_record()
    shadow = a_record(role="shadow", paired_with=answered.id, version=2)
    add(store, *(an_event(prediction_id=shadow.id) for _ in range(5)))
    assert append(store, shadow) == 0
    assert append(store, answered) == 5
    assert known(store) == {answered.id: "Bag", shadow.id: "Bag"}


# What is sent again


def test_an_event_that_is_sent_again_is_kept_once(store: OpenStore) -> None:
    record = a_record()
    append(store, record)
    joined, pending = an_event(prediction_id=record.id), an_event(prediction_id=str(uuid7()))
    first = add(store, joined, pending)
    before = changes(store)
    assert add(store, joined, pending) == first
    assert (len(states(store)), changes(store)) == (2, before)


def test_a_key_that_is_used_again_for_the_same_gives_the_first_event(store: OpenStore) -> None:
    record = a_record()
    append(store, record)
    first = an_event(prediction_id=record.id, idempotency_key="k", digest="same")
    again = an_event(prediction_id=record.id, idempotency_key="k", digest="same")
    other = an_event(prediction_id=record.id, idempotency_key="k", digest="another", value="Coat")
    assert add(store, first, again)[1] == Outcome("duplicate", first.id, record.id)
    duplicate, conflict = add(store, again, other)
    assert duplicate == Outcome("duplicate", first.id, record.id)
    assert (conflict.status, conflict.event_id) == ("conflict", first.id)
    assert conflict.error == f"the key 'k' was used for something else, which became {first.id}"
    assert list(states(store)) == [first.id]
    assert known(store) == {record.id: "Bag"}


def test_keys_belong_to_who_uses_them(store: OpenStore) -> None:
    record = a_record()
    append(store, record)
    mine = an_event(prediction_id=record.id, idempotency_key="k", principal="ann")
    yours = an_event(prediction_id=record.id, idempotency_key="k", principal="bob", value="Coat")
    assert [one.status for one in add(store, mine, yours)] == ["joined", "joined"]


def test_the_key_of_what_was_rejected_is_free(store: OpenStore) -> None:
    record = a_record()
    append(store, record)
    add(store, an_event(prediction_id=record.id, value="Hat", idempotency_key="k", digest="wrong"))
    [outcome] = add(store, an_event(prediction_id=record.id, value="Bag", idempotency_key="k", digest="right"))
    assert outcome.status == "joined"


def test_what_is_rejected_takes_its_key_from_nothing_beside_it(store: OpenStore) -> None:
    record = a_record()
    append(store, record)
    bad = [an_event(prediction_id=record.id, value="Hat", idempotency_key="k", digest="wrong") for _ in range(2)]
    assert [(one.status, one.event_id) for one in add(store, *bad)] == [("rejected", None)] * 2
    good = [an_event(prediction_id=record.id, idempotency_key="k", digest="right") for _ in range(2)]
    outcomes = add(store, bad[0], *good, bad[1])
    assert [(one.status, one.event_id) for one in outcomes] == [
        ("rejected", None),
        ("joined", good[0].id),
        ("duplicate", good[0].id),
        ("conflict", good[0].id),
    ]
    assert list(states(store)) == [good[0].id]


# What is too much


@pytest.mark.parametrize("is_known", [True, False])
def test_of_one_prediction_so_many_events_of_a_principal_are_kept(
    store: OpenStore, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    monkeypatch.setattr("service.store.sql_feedback.MOST_EVENTS", 3)
    record, other = a_record(), a_record()
    if is_known:
        append(store, record, other)
    add(store, an_event(prediction_id=record.id))
    outcomes = add(store, *(an_event(prediction_id=record.id) for _ in range(3)))
    kept = "joined" if is_known else "pending"
    assert [one.status for one in outcomes] == [kept, kept, "rejected"]
    why = "3 events of anonymous are kept of this prediction, and no more"
    assert outcomes[-1] == ("rejected", None, record.id, why, "prediction_id")
    assert add(store, an_event(prediction_id=record.id))[0].status == "rejected"
    assert add(store, an_event(prediction_id=other.id), an_event(prediction_id=record.id, principal="ann")) == [
        (kept, ANY, other.id, None, None),
        (kept, ANY, record.id, None, None),
    ]


def test_under_one_of_the_callers_ids_so_many_events_of_a_principal_are_kept(
    store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.sql_feedback.MOST_EVENTS", 2)
    names = {"model": "fashion", "external_id": "a"}
    add(store, an_event(**names))
    several = [an_event(**names), an_event(**names), an_event(model="fashion", external_id="b")]
    assert [one.status for one in add(store, *several)] == ["pending", "rejected", "pending"]
    assert add(store, an_event(**names, principal="ann"))[0].status == "pending"
    assert [one.status for one in add(store, an_event(**names), an_event(model="mood", external_id="a"))] == [
        "rejected",
        "pending",
    ]


# By the caller's ids


def test_feedback_finds_predictions_by_the_callers_id(store: OpenStore) -> None:
    mine, same, other = (
        a_record(external_id="order-1"),
        a_record(external_id="order-1"),
        a_record(external_id="order-1", model="mood"),
    )
    append(store, mine, same, other)
    event = an_event(model="fashion", external_id="order-1")
    assert add(store, event) == [Outcome("joined", event.id, same.id)]
    assert known(store) == {mine.id: "Bag", same.id: "Bag"}
    late = a_record(external_id="order-1")
    assert append(store, late) == 0
    assert known(store)[late.id] == "Bag"


def test_feedback_by_the_callers_id_waits_too(store: OpenStore) -> None:
    event = an_event(model="fashion", external_id="order-1")
    assert add(store, event) == [Outcome("pending", event.id, None)]
    first, second = a_record(external_id="order-1"), a_record(external_id="order-1")
    assert append(store, a_record(external_id="order-1", model="mood"), first, second) == 1
    assert known(store) == {first.id: "Bag", second.id: "Bag"}


def test_what_is_said_by_either_id_is_said_of_the_same(store: OpenStore) -> None:
    record = a_record(external_id="order-1")
    append(store, record)
    add(store, an_event(prediction_id=record.id, value="Coat", labelled_at=2))
    add(store, an_event(model="fashion", external_id="order-1", value="Boot", labelled_at=1))
    assert known(store) == {record.id: "Coat"}


# Shadows


@pytest.mark.parametrize("shadow_first", [False, True])
def test_a_label_counts_for_what_was_computed_beside_it(store: OpenStore, shadow_first: bool) -> None:
    answered = a_record(external_id="order-1")
    shadow = a_record(role="shadow", paired_with=answered.id, version=2, external_id="order-1")
    append(store, shadow if shadow_first else answered)
    add(store, an_event(prediction_id=answered.id))
    append(store, answered if shadow_first else shadow)
    assert known(store) == {answered.id: "Bag", shadow.id: "Bag"}
    add(store, an_event(prediction_id=shadow.id, value="Coat"))
    assert known(store) == {answered.id: "Coat", shadow.id: "Coat"}
    add(store, an_event(model="fashion", external_id="order-1", value="Boot"))
    assert known(store) == {answered.id: "Boot", shadow.id: "Boot"}


# Who follows


def test_every_change_is_told_by_a_number_that_grows(store: OpenStore) -> None:
    first, second = a_record(), a_record()
    append(store, first, second)
    add(store, an_event(prediction_id=first.id))
    add(store, an_event(prediction_id=second.id))
    before = changes(store)
    assert before[first.id] < before[second.id]
    add(store, an_event(prediction_id=first.id, value="Coat"))
    after = changes(store)
    assert after[second.id] == before[second.id] < after[first.id]


# Reading


def test_events_are_listed_newest_first_by_filters_and_page_by_page(store: OpenStore, feedback: SqlFeedback) -> None:
    record = a_record(external_id="a")
    append(store, record)
    ids = [str(uuid7(nanoseconds=(10 + second) * 10**9)) for second in range(4)]
    add(
        store,
        an_event(id=ids[0], prediction_id=record.id, source="experts"),
        an_event(id=ids[1], prediction_id=record.id, kind="rating", value=1),
        an_event(id=ids[2], model="fashion", external_id="a"),
        an_event(id=ids[3], prediction_id=str(uuid7())),
    )

    def found(**filters: Any) -> list[int]:
        return [ids.index(one.event.id) for one in feedback.list(FeedbackFilters(**filters), limit=10).events]

    assert found() == [3, 2, 1, 0]
    assert found(model="fashion") == [2, 1, 0]
    assert found(model="mood") == []
    assert found(prediction_id=record.id) == [1, 0]
    assert found(external_id="a") == [2]
    assert found(kind="rating") == [1]
    assert found(source="experts") == [0]
    assert found(since=11, until=13) == [2, 1]
    first = feedback.list(FeedbackFilters(), limit=3)
    assert first.cursor is not None
    second = feedback.list(FeedbackFilters(), limit=3, cursor=first.cursor)
    assert ([ids.index(one.event.id) for one in second.events], second.cursor) == ([0], None)


def test_a_reader_can_add_nothing(store: OpenStore, feedback: SqlFeedback) -> None:
    with pytest.raises(REFUSED):
        feedback.add([an_event(prediction_id=str(uuid7()))], CONTRACTS)


def test_what_is_old_is_deleted_in_portions_and_with_what_is_known_by_it(store: OpenStore) -> None:
    old, new = a_record(made=1.0), a_record(made=5.0)
    append(store, old, new)
    ids = [str(uuid7(nanoseconds=second * 10**9)) for second in (2, 3, 6)]
    add(
        store,
        an_event(id=ids[0], prediction_id=old.id),
        an_event(id=ids[1], prediction_id=str(uuid7())),
        an_event(id=ids[2], prediction_id=new.id),
    )
    assert [store.feedback.delete_older_than(4.0, limit=1) for _ in range(3)] == [1, 1, 0]
    assert states(store) == {ids[2]: "joined"}
    assert known(store) == {new.id: "Bag"}


# All of it


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_what_is_known_depends_on_what_was_said_alone(store: OpenStore, data: st.DataObject) -> None:
    """Whenever predictions become durable, in whatever order and how often feedback comes, and in which groups."""
    with transaction(store.engines[1]) as connection:
        for table in PREDICTIONS.sorted_tables:
            if table is not truth_changes:
                connection.execute(delete(table))
    plain, named = a_record(), a_record(external_id="a")
    shadow = a_record(role="shadow", paired_with=plain.id, version=2)
    addresses: list[dict[str, Any]] = [
        {"prediction_id": plain.id},
        {"prediction_id": shadow.id},
        {"prediction_id": named.id},
        {"model": "fashion", "external_id": "a"},
    ]
    ids = [str(uuid7()) for _ in range(5)]
    events = [
        an_event(
            id=identity,
            kind=data.draw(st.sampled_from(["label", "correction", "retraction"])),
            value=data.draw(st.sampled_from(["Bag", "Coat", "Boot"])),
            labelled_at=data.draw(st.integers(0, 3)),
            trust=data.draw(st.integers(1, 2)),
            supersedes=data.draw(st.none() | st.sampled_from(ids)),
            **data.draw(st.sampled_from(addresses)),
        )
        for identity in ids
    ]
    said = [*events, *data.draw(st.lists(st.sampled_from(events), max_size=3))]
    for one in data.draw(st.permutations([plain, named, shadow, *said])):
        if isinstance(one, Record):
            append(store, one)
        else:
            add(store, one)
    of_pair = [event for event in events if event.prediction_id in (plain.id, shadow.id)]
    of_named = [event for event in events if event.prediction_id == named.id or event.external_id == "a"]
    expected: dict[str, Any] = {}
    for record, its in ((plain, of_pair), (shadow, of_pair), (named, of_named)):
        if its:
            label = truth_of(its).label
            expected[record.id] = None if label is None else label.value
    assert known(store) == expected
    assert set(states(store).values()) <= {"joined"}
