"""Predictions deleted on demand, with all that is kept of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, delete, select, tuple_, update

from service.store.base import Gone, Record, Tag
from service.store.databases import portions, transaction
from service.store.sql_counts import SqlCounts
from service.store.sql_predictions import record_of
from service.store.sql_truths import Pair, next_change
from service.store.tables import feedback, inputs, predictions, truths, unresolved


class SqlErasure:
    """Over the recorder's engine, and what counts there. Each verb is a transaction, and raises StoreUnavailable."""

    def __init__(self, engine: Engine, counts: SqlCounts) -> None:
        self._engine = engine
        self._counts = counts

    def erase(self, ids: Sequence[str]) -> Gone:
        """Delete these predictions and those computed beside them, and what was said of them."""
        with self._erasing() as connection:
            return _erase(connection, self._counts, ids)

    def erase_tagged(self, tag: Tag, model: str | None, *, after: str = "", limit: int) -> tuple[Gone, str | None]:
        """Look through `limit` predictions whose ids follow `after`, and delete those with this tag.

        What was deleted, and where to go on; None where all were looked through.
        """
        columns = predictions.c
        query = select(columns.id, columns.model, columns.tags).where(columns.id > after).order_by(columns.id)
        with self._erasing() as connection:
            found = connection.execute(query.limit(limit)).all()
            name, value = tag
            named = [row.id for row in found if row.tags.get(name) == value and model in (None, row.model)]
            gone = _erase(connection, self._counts, named) if named else Gone(0, 0)
        return gone, found[-1].id if len(found) == limit else None

    @contextmanager
    def _erasing(self) -> Iterator[Connection]:
        """Zeros what it deletes, where SQLite would leave it in the file until its page is used again."""
        self._counts.know()
        with transaction(self._engine) as connection:
            if self._engine.dialect.name != "sqlite":
                yield connection
                return
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
            try:
                yield connection
            finally:
                connection.exec_driver_sql("PRAGMA secure_delete = OFF")


def _erase(connection: Connection, counts: SqlCounts, ids: Sequence[str]) -> Gone:
    columns = predictions.c
    # By their ids: one may be named itself, and be computed beside another that is.
    records: dict[str, Record] = {}
    for portion in portions(ids):
        named = columns.id.in_(portion) | columns.paired_with.in_(portion)
        for row in connection.execute(select(predictions).where(named)):
            records[row.id] = record_of(row._mapping)
    counts.take_back(connection, records.values())
    changed = next_change(connection)
    # Who follows what is known must hear that it is known no more; the row goes once it is as old as predictions get.
    forgotten = dict.fromkeys(("label", "label_event", "labelled_at", "received_at", "rating", "rating_event"))
    # What was said of a prediction that nobody knows goes too.
    num_events = 0
    for portion in portions(set(ids) | records.keys()):
        connection.execute(delete(predictions).where(columns.id.in_(portion)))
        is_theirs = truths.c.prediction_id.in_(portion)
        connection.execute(update(truths).where(is_theirs).values(**forgotten, num_events=0, changed=changed))
        for table in (inputs, unresolved):
            connection.execute(delete(table).where(table.c.prediction_id.in_(portion)))
        num_events += connection.execute(delete(feedback).where(feedback.c.prediction_id.in_(portion))).rowcount
    pairs = {(one.external_id, one.model) for one in records.values() if one.external_id is not None}
    return Gone(len(records), num_events + _erase_said(connection, pairs))


def _erase_said(connection: Connection, pairs: set[Pair]) -> int:
    """Delete what was said by callers' ids; it stays while another prediction has its id. How many events."""
    num_events = 0
    columns = predictions.c
    those = tuple_(columns.external_id, columns.model)
    for portion in portions(pairs):
        still = select(columns.external_id, columns.model).where(those.in_(portion)).distinct()
        gone = set(portion) - {(row.external_id, row.model) for row in connection.execute(still)}
        for table in (unresolved, feedback) if gone else ():
            is_named = tuple_(table.c.external_id, table.c.model).in_(gone) & table.c.prediction_id.is_(None)
            num_deleted = connection.execute(delete(table).where(is_named)).rowcount
            num_events += num_deleted if table is feedback else 0
    return num_events
