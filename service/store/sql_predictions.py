"""The prediction log in SQL, the same for SQLite and PostgreSQL."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Engine, RowMapping, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from service.store.base import Filters, Page, Record, lowest_id, milliseconds_of
from service.store.databases import transaction
from service.store.tables import predictions

_COLUMNS = tuple(Record.__dataclass_fields__)


class SqlPredictions:
    """Over an engine that may only read, the verbs that change something fail."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Both dialects know the clause, and each has an insert of its own for it.
        insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
        self._insert = insert(predictions).on_conflict_do_nothing(index_elements=["id"])

    def append(self, records: Sequence[Record]) -> None:
        rows = [_row(record) for record in records]
        if rows:
            with transaction(self._engine) as connection:
                connection.execute(self._insert, rows)

    def get(self, prediction_id: str) -> Record | None:
        with transaction(self._engine) as connection:
            row = connection.execute(select(predictions).where(predictions.c.id == prediction_id)).one_or_none()
        return None if row is None else _record(row._mapping)

    def list(self, filters: Filters, *, limit: int, cursor: str | None = None) -> Page:
        conditions = _conditions(filters)
        if cursor is not None:
            conditions.append(predictions.c.id < cursor)
        # One more than asked for, to know whether there are more.
        query = select(predictions).where(*conditions).order_by(predictions.c.id.desc()).limit(limit + 1)
        with transaction(self._engine) as connection:
            found = [_record(row._mapping) for row in connection.execute(query)]
        page = found[:limit]
        return Page(page, page[-1].id if len(found) > limit else None)

    def delete_older_than(self, time: float, *, limit: int) -> int:
        oldest = select(predictions.c.id).where(predictions.c.id < lowest_id(time))
        portion = oldest.order_by(predictions.c.id).limit(limit)
        with transaction(self._engine) as connection:
            return connection.execute(delete(predictions).where(predictions.c.id.in_(portion))).rowcount


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    column = predictions.c
    conditions = []
    if filters.model is not None:
        conditions.append(column.model == filters.model)
    if filters.version is not None:
        conditions.append(column.version == filters.version)
    if filters.external_id is not None:
        conditions.append(column.external_id == filters.external_id)
    if filters.since is not None:
        conditions.append(column.id >= lowest_id(filters.since))
    if filters.until is not None:
        conditions.append(column.id < lowest_id(filters.until))
    return conditions


def _row(record: Record) -> dict[str, Any]:
    return {"time": milliseconds_of(record.id), **{name: getattr(record, name) for name in _COLUMNS}}


def _record(row: RowMapping) -> Record:
    return Record(**{name: row[name] for name in _COLUMNS})
