"""Feedback in SQL, the same for SQLite and PostgreSQL.

Events are looked up, checked, written and resolved in groups, with a handful of statements for each group: single posts
that arrive together cost hardly more than one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, delete, insert, select, text, tuple_, update
from sqlalchemy.sql.functions import count

from service.store.base import Contracts, Record, lowest_id
from service.store.databases import portions, transaction
from service.store.feedback import (
    MOST_EVENTS,
    EventState,
    FeedbackEvent,
    FeedbackFilters,
    FeedbackPage,
    Outcome,
    StoredEvent,
    misfit,
)
from service.store.sql_truths import EVENT, Pair, Said, Subject, event_of, find, resolve, returned
from service.store.tables import feedback, truths, unresolved

_LOCK = 0x5E12_F00D

Spoken = tuple[str | Pair | None, str]
"""Of which prediction, by its id or by what a caller calls it, a principal said something."""


class SqlFeedback:
    """Over an engine that may only read, the verbs that change something fail."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_alone = engine.dialect.name == "sqlite"
        # Of SQLite this process is the only writer: what waits for predictions is known without a look.
        self._may_wait = True

    def add(self, events: Sequence[FeedbackEvent], contracts: Contracts) -> list[Outcome]:
        with transaction(self._engine) as connection:
            self._lock(connection)
            first = _by_key(connection, events)
            outcomes, fresh = _sorted_out(connection, events, first)
            named = _named(connection, fresh)
            missing = _missing_subjects(connection, (one for found in named.values() for one in found))
            said = Said(connection, {one.subject for found in named.values() for one in found})
            numbers = _numbers(connection, (event for event in fresh if not _found(named, event))) + said.numbers()
            joined: list[tuple[FeedbackEvent, list[Subject]]] = []
            waiting: list[tuple[FeedbackEvent, str | None]] = []
            for event in fresh:
                if (earlier := _earlier(first, event)) is not None:
                    outcomes[event.id] = _again(event, earlier)
                    continue
                found = _found(named, event)
                spoken_of = [(place, event.principal) for place in _places(found, event)]
                wrong = _misfit(event, found, contracts) or _too_much(event, numbers, spoken_of)
                if wrong is not None:
                    outcomes[event.id] = Outcome("rejected", None, event.prediction_id, *wrong)
                    continue  # its key stays free
                if (key := _key(event)) is not None:
                    first[key] = event
                numbers.update(spoken_of)
                if found and not missing.intersection(one.subject for one in found):
                    joined.append((event, found))
                    for subject in {one.subject for one in found}:
                        said.add(subject, event)
                    outcomes[event.id] = Outcome("joined", event.id, event.prediction_id or found[-1].id)
                else:
                    waiting.append((event, found[0].subject if found else event.prediction_id))
                    outcomes[event.id] = Outcome("pending", event.id, event.prediction_id)
            _insert(connection, joined, waiting)
            resolve(connection, {one.subject for _, found in joined for one in found}, said)
        self._may_wait = self._may_wait or bool(waiting)
        return [outcomes[event.id] for event in events]

    def concerns(self, records: Sequence[Record]) -> bool:
        """Whether anything may have been said of these: of most predictions it wasn't, and they are not looked up."""
        return self._may_wait or not self._is_alone or any(one.paired_with or one.external_id for one in records)

    def join(self, connection: Connection, records: Sequence[Record]) -> int:
        """Let what was said of these before count for them, who were just written; how many events waited."""
        there = [Subject(*(getattr(record, name) for name in Subject._fields)) for record in records]
        self._lock(connection)
        waited, subjects = _joined_now(connection, there)
        resolve(connection, subjects | _spoken_of(connection, there))
        self._may_wait = connection.execute(select(unresolved.c.event_id).limit(1)).first() is not None
        return waited

    def list(self, filters: FeedbackFilters, *, limit: int, cursor: str | None = None) -> FeedbackPage:
        conditions = _conditions(filters)
        if cursor is not None:
            conditions.append(feedback.c.id < cursor)
        query = (
            select(*EVENT, unresolved.c.orphaned)
            .outerjoin(unresolved, unresolved.c.event_id == feedback.c.id)
            .where(*conditions)
            .order_by(feedback.c.id.desc())
            .limit(limit + 1)
        )
        with transaction(self._engine) as connection:
            found = [StoredEvent(event_of(row._mapping), _state(row.orphaned)) for row in connection.execute(query)]
        page = found[:limit]
        return FeedbackPage(page, page[-1].event.id if len(found) > limit else None)

    def orphan_older_than(self, time: float, *, limit: int) -> int:
        waits = (unresolved.c.event_id < lowest_id(time), unresolved.c.orphaned.is_(False))
        portion = select(unresolved.c.event_id).where(*waits).order_by(unresolved.c.event_id).limit(limit)
        with transaction(self._engine) as connection:
            return connection.execute(
                update(unresolved).where(unresolved.c.event_id.in_(portion)).values(orphaned=True)
            ).rowcount

    def delete_older_than(self, time: float, *, limit: int) -> int:
        oldest = lowest_id(time)
        with transaction(self._engine) as connection:
            for table, key in ((truths, truths.c.prediction_id), (unresolved, unresolved.c.event_id)):
                portion = select(key).where(key < oldest).order_by(key).limit(limit)
                connection.execute(delete(table).where(key.in_(portion)))
            portion = select(feedback.c.id).where(feedback.c.id < oldest).order_by(feedback.c.id).limit(limit)
            return connection.execute(delete(feedback).where(feedback.c.id.in_(portion))).rowcount

    def _lock(self, connection: Connection) -> None:
        """Of several recorders one at a time: `truths.changed` grows in the order of commits."""
        if not self._is_alone:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


# ---- what came is sorted out -----------------------------------------------------------------------------------------


def _sorted_out(
    connection: Connection, events: Sequence[FeedbackEvent], first: Mapping[Pair, FeedbackEvent]
) -> tuple[dict[str, Outcome], list[FeedbackEvent]]:
    """Outcomes of events that are kept already, by their id or by their key; and the others."""
    known = _states(connection, [event.id for event in events])
    outcomes: dict[str, Outcome] = {}
    fresh: list[FeedbackEvent] = []
    for event in events:
        if event.id in known:  # sent again, because the answer was lost with the recorder
            outcomes[event.id] = Outcome(known[event.id], event.id, event.prediction_id)
        elif (earlier := _earlier(first, event)) is not None:
            outcomes[event.id] = _again(event, earlier)
        else:
            fresh.append(event)
    return outcomes, fresh


def _key(event: FeedbackEvent) -> Pair | None:
    """A principal's keys are its own."""
    return None if event.idempotency_key is None else (event.idempotency_key, event.principal)


def _earlier(first: Mapping[Pair, FeedbackEvent], event: FeedbackEvent) -> FeedbackEvent | None:
    """The other event that came first under this one's key."""
    key = _key(event)
    found = None if key is None else first.get(key)
    return None if found is None or found.id == event.id else found


def _again(event: FeedbackEvent, first: FeedbackEvent) -> Outcome:
    if first.digest == event.digest:
        return Outcome("duplicate", first.id, first.prediction_id)
    why = f"the key {event.idempotency_key!r} was used for something else, which became {first.id}"
    return Outcome("conflict", first.id, first.prediction_id, why)


def _states(connection: Connection, ids: Sequence[str]) -> dict[str, Any]:
    query = select(feedback.c.id, unresolved.c.event_id).outerjoin(unresolved, unresolved.c.event_id == feedback.c.id)
    return {
        row.id: "joined" if row.event_id is None else "pending"
        for portion in portions(ids)
        for row in connection.execute(query.where(feedback.c.id.in_(portion)))
    }


def _by_key(connection: Connection, events: Sequence[FeedbackEvent]) -> dict[Pair, FeedbackEvent]:
    """The event that is kept under each key that these have."""
    keys = {key for event in events if (key := _key(event)) is not None}
    of_key = tuple_(feedback.c.idempotency_key, feedback.c.principal)
    return {
        (row.idempotency_key, row.principal): event_of(row._mapping)
        for portion in portions(keys)
        for row in connection.execute(select(*EVENT).where(of_key.in_(portion)))
    }


# ---- events and predictions find each other --------------------------------------------------------------------------


def _named(connection: Connection, events: Iterable[FeedbackEvent]) -> dict[Any, list[Subject]]:
    """The predictions that events name: by their id, and those that were returned by the caller's id and model."""
    ids = {event.prediction_id for event in events if event.prediction_id is not None}
    pairs = {pair for event in events if (pair := _pair(event)) is not None}
    named: dict[Any, list[Subject]] = defaultdict(list)
    for one in find(connection, ids=ids, pairs=pairs):
        named[one.id].append(one)
        if one.pair in pairs:
            named[one.pair].append(one)
    return named


def _pair(event: FeedbackEvent) -> Pair | None:
    """By what it names predictions, where it names none by its id."""
    if event.prediction_id is not None or event.external_id is None or event.model is None:
        return None
    return event.external_id, event.model


def _found(named: dict[Any, list[Subject]], event: FeedbackEvent) -> list[Subject]:
    return named.get(_name(event), [])


def _misfit(event: FeedbackEvent, found: Sequence[Subject], contracts: Contracts) -> tuple[str, str] | None:
    """Why its label is none of the model's, and in which member it was given."""
    models = {one.model for one in found} or ({event.model} if event.model is not None else set())
    checked = (misfit(event.kind, event.value, contracts[model]) for model in models if model in contracts)
    field = "label" if isinstance(event.value, str | list) else "value"
    return next(((wrong, field) for wrong in checked if wrong is not None), None)


def _numbers(connection: Connection, events: Iterable[FeedbackEvent]) -> Counter[Spoken]:
    """How many events there are of each principal under each name that these give a prediction which is not there."""
    columns = feedback.c
    names = {_name(event) for event in events}
    ids = [name for name in names if isinstance(name, str)]
    pairs = [name for name in names if isinstance(name, tuple)]
    numbers: Counter[Spoken] = Counter()
    for portion in portions(ids):
        query = select(columns.prediction_id, columns.principal, count()).where(columns.prediction_id.in_(portion))
        for name, principal, number in connection.execute(query.group_by(columns.prediction_id, columns.principal)):
            numbers[name, principal] = number
    pair = (columns.external_id, columns.model)
    for named in portions(pairs):
        is_named = tuple_(*pair).in_(named) & columns.prediction_id.is_(None)
        query = select(*pair, columns.principal, count()).where(is_named).group_by(*pair, columns.principal)
        for external_id, model, principal, number in connection.execute(query):
            numbers[(external_id, model), principal] = number
    return numbers


def _places(found: Sequence[Subject], event: FeedbackEvent) -> set[str | Pair | None]:
    """What an event speaks of: subjects that are there, else the name that it gives one."""
    return {one.subject for one in found} or {_name(event)}


def _too_much(event: FeedbackEvent, numbers: Counter[Spoken], spoken_of: Iterable[Spoken]) -> tuple[str, str] | None:
    if all(numbers[one] < MOST_EVENTS for one in spoken_of):
        return None
    field = "external_id" if event.prediction_id is None else "prediction_id"
    return f"{MOST_EVENTS} events of {event.principal} are kept of this prediction, and no more", field


def _name(event: FeedbackEvent) -> str | Pair | None:
    """By what it names predictions."""
    return event.prediction_id or _pair(event)


def _missing_subjects(connection: Connection, there: Iterable[Subject]) -> set[str]:
    """The predictions that others were computed beside, and that are not there yet: feedback waits for them."""
    wanted = {one.paired_with for one in there if one.paired_with is not None}
    return wanted - {one.id for one in find(connection, ids=wanted)}


def _joined_now(connection: Connection, there: Sequence[Subject]) -> tuple[int, set[str]]:
    """Let events that waited for these predictions wait no more: how many, and the subjects they speak of."""
    by_id = {one.id: one for one in there}
    by_pair = returned(there)
    missing = _missing_subjects(connection, there)
    columns = unresolved.c
    query = select(columns.event_id, columns.prediction_id, columns.external_id, columns.model)
    conditions: list[ColumnElement[bool]] = [
        *(columns.prediction_id.in_(portion) for portion in portions(by_id)),
        *(
            tuple_(columns.external_id, columns.model).in_(portion) & columns.prediction_id.is_(None)
            for portion in portions(by_pair)
        ),
    ]
    waited: dict[str, list[str]] = defaultdict(list)
    still: dict[str, list[str]] = defaultdict(list)
    subjects: set[str] = set()
    for condition in conditions:
        for row in connection.execute(query.where(condition)):
            found = [by_id[row.prediction_id]] if row.prediction_id else by_pair[row.external_id, row.model]
            if found[0].subject in missing:
                still[found[0].subject].append(row.event_id)
                continue
            waited[found[0].model].append(row.event_id)
            subjects |= {one.subject for one in found}
    for subject, ids in still.items():
        for portion in portions(ids):
            waits = update(unresolved).where(columns.event_id.in_(portion))
            connection.execute(waits.values(prediction_id=subject))
    for model, ids in waited.items():
        for portion in portions(ids):
            connection.execute(delete(unresolved).where(columns.event_id.in_(portion)))
            connection.execute(update(feedback).where(feedback.c.id.in_(portion)).values(model=model))
    return sum(map(len, waited.values())), subjects


def _spoken_of(connection: Connection, there: Sequence[Subject]) -> set[str]:
    """The subjects among these of which something was said before they were there: by the caller's id, or of a pair."""
    pairs = returned(there)
    shadows = {one.paired_with for one in there if one.paired_with is not None}
    found: set[str] = set()
    pair = tuple_(feedback.c.external_id, feedback.c.model)
    said = select(feedback.c.external_id, feedback.c.model).where(feedback.c.prediction_id.is_(None)).distinct()
    for portion in portions(pairs):
        for row in connection.execute(said.where(pair.in_(portion))):
            found |= {one.subject for one in pairs[row.external_id, row.model]}
    for ids in portions(shadows):
        found.update(connection.scalars(select(truths.c.prediction_id).where(truths.c.prediction_id.in_(ids))))
    return found


def _insert(
    connection: Connection,
    joined: Sequence[tuple[FeedbackEvent, Sequence[Subject]]],
    waiting: Sequence[tuple[FeedbackEvent, str | None]],
) -> None:
    rows = [event._replace(model=found[-1].model)._asdict() for event, found in joined]
    rows += [event._asdict() for event, _ in waiting]
    if rows:
        connection.execute(insert(feedback), rows)
    if waiting:
        awaited = [
            {
                "event_id": event.id,
                "prediction_id": prediction_id,
                "model": event.model,
                "external_id": event.external_id,
                "orphaned": False,
            }
            for event, prediction_id in waiting
        ]
        connection.execute(insert(unresolved), awaited)


# ---- reading ---------------------------------------------------------------------------------------------------------


def _conditions(filters: FeedbackFilters) -> list[ColumnElement[bool]]:
    columns = feedback.c
    conditions: list[ColumnElement[bool]] = [
        columns[name] == value
        for name in ("model", "prediction_id", "external_id", "kind", "source")
        if (value := getattr(filters, name)) is not None
    ]
    if filters.since is not None:
        conditions.append(columns.id >= lowest_id(filters.since))
    if filters.until is not None:
        conditions.append(columns.id < lowest_id(filters.until))
    return conditions


def _state(orphaned: bool | None) -> EventState:
    return "joined" if orphaned is None else "orphaned" if orphaned else "pending"
