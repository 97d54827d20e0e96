"""What is known of predictions in SQL: made from their events, and followed by who measures it."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, delete, insert, select, tuple_, update

from service.store.base import Known, Position
from service.store.databases import portions, transaction
from service.store.feedback import FeedbackEvent, truth_of
from service.store.tables import feedback, predictions, truth_changes, truths

EVENT = [feedback.c[name] for name in FeedbackEvent._fields]
_KNOWN = [
    *(
        truths.c[name]
        for name in ("prediction_id", "model", "version", "role", "label", "received_at", "rating", "changed")
    ),
    *(predictions.c[name] for name in ("outputs", "scores", "tags")),
]
# Of a prediction, what feedback needs to know.
_SUBJECT = [predictions.c[name] for name in ("id", "model", "version", "role", "paired_with", "external_id")]

Pair = tuple[str, str]
"""A caller's id, and the model that it was given to."""


class Subject(NamedTuple):
    id: str
    model: str
    version: int
    role: str
    paired_with: str | None
    external_id: str | None

    @property
    def subject(self) -> str:
        """The prediction that was returned: what is said of it counts for those computed beside it, and the reverse."""
        return self.paired_with or self.id

    @property
    def pair(self) -> Pair | None:
        return None if self.external_id is None else (self.external_id, self.model)


class SqlTruths:
    """Over an engine that may only read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def changes(self, after: Position, *, limit: int) -> Sequence[Known]:
        columns = truths.c
        query = (
            select(*_KNOWN)
            .outerjoin(predictions, predictions.c.id == columns.prediction_id)
            .where(tuple_(columns.changed, columns.prediction_id) > tuple_(*after))
            .order_by(columns.changed, columns.prediction_id)
            .limit(limit)
        )
        with transaction(self._engine) as connection:
            return [Known(*row) for row in connection.execute(query)]


class Said:
    """All that was said of some predictions and of those computed beside them, which it counts for alike."""

    def __init__(self, connection: Connection, subjects: Collection[str]) -> None:
        self._groups: dict[str, list[Subject]] = defaultdict(list)
        for one in find(connection, ids=subjects, beside=subjects) if subjects else []:
            self._groups[one.subject].append(one)
        self._events = _events_of(connection, self._groups)

    def numbers(self) -> Counter[tuple[str, str]]:
        """How many events there are by subject and principal."""
        return Counter((subject, event.principal) for subject, events in self._events.items() for event in events)

    def add(self, subject: str, event: FeedbackEvent) -> None:
        """One more, which was not there when this was read."""
        self._events[subject].append(event)

    def rows(self, subjects: Collection[str]) -> list[dict[str, Any]]:
        """What follows for these subjects, and for what was computed beside them."""
        return [
            {"prediction_id": one.id, "model": one.model, "version": one.version, "role": one.role, **known}
            for subject in subjects
            for known in [_known(self._events[subject])]
            for one in self._groups[subject]
        ]


def resolve(connection: Connection, subjects: Collection[str], said: Said | None = None) -> None:
    """Make what is known of these predictions anew, and of those computed beside them; by what was `said`, where that
    was read already."""
    rows = (said or Said(connection, subjects)).rows(subjects)
    if rows:
        changed = next_change(connection)
        for portion in portions(row["prediction_id"] for row in rows):
            connection.execute(delete(truths).where(truths.c.prediction_id.in_(portion)))
        connection.execute(insert(truths), [{**row, "changed": changed} for row in rows])


def _known(events: Sequence[FeedbackEvent]) -> dict[str, Any]:
    truth = truth_of(events)
    return {
        "label": truth.label.value if truth.label else None,
        "label_event": truth.label.id if truth.label else None,
        "labelled_at": truth.label.labelled_at if truth.label else None,
        "received_at": truth.first_labelled if truth.label else None,
        "rating": truth.rating.value if truth.rating else None,
        "rating_event": truth.rating.id if truth.rating else None,
        "num_events": len(events),
    }


def next_change(connection: Connection) -> int:
    """The number of a transaction that changes what is known."""
    raised = update(truth_changes).values(number=truth_changes.c.number + 1).returning(truth_changes.c.number)
    number: int = connection.execute(raised).scalar_one()
    return number


def _events_of(connection: Connection, groups: dict[str, list[Subject]]) -> dict[str, list[FeedbackEvent]]:
    """Every event of each subject, whichever of its predictions it names and however."""
    by_id = {one.id: subject for subject, group in groups.items() for one in group}
    by_pair = returned(one for group in groups.values() for one in group)
    events: dict[str, list[FeedbackEvent]] = defaultdict(list)
    for ids in portions(by_id):
        for row in connection.execute(select(*EVENT).where(feedback.c.prediction_id.in_(ids))):
            events[by_id[row.prediction_id]].append(event_of(row._mapping))
    for pairs in portions(by_pair):
        is_named = tuple_(feedback.c.external_id, feedback.c.model).in_(pairs) & feedback.c.prediction_id.is_(None)
        for row in connection.execute(select(*EVENT).where(is_named)):
            for one in by_pair[row.external_id, row.model]:
                events[one.subject].append(event_of(row._mapping))
    return events


def find(
    connection: Connection, *, ids: Collection[str] = (), pairs: Collection[Pair] = (), beside: Collection[str] = ()
) -> list[Subject]:
    """Predictions with one of these ids, those returned under one of these pairs, and those computed beside others."""
    columns = predictions.c
    conditions: list[ColumnElement[bool]] = [
        *(columns.id.in_(portion) for portion in portions(ids)),
        *(
            tuple_(columns.external_id, columns.model).in_(portion) & columns.paired_with.is_(None)
            for portion in portions(pairs)
        ),
        *(columns.paired_with.in_(portion) for portion in portions(beside)),
    ]
    found = {}
    for condition in conditions:
        for row in connection.execute(select(*_SUBJECT).where(condition).order_by(columns.id)):
            found[row.id] = Subject(*row)
    return list(found.values())


def returned(there: Iterable[Subject]) -> dict[Pair, list[Subject]]:
    """Predictions that were returned, by the caller's id; it may have given one to several."""
    by_pair: dict[Pair, list[Subject]] = defaultdict(list)
    for one in there:
        if one.pair is not None and one.paired_with is None:
            by_pair[one.pair].append(one)
    return by_pair


def event_of(row: RowMapping) -> FeedbackEvent:
    return FeedbackEvent(**{name: row[name] for name in FeedbackEvent._fields})
