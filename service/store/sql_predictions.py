"""The prediction log in SQL, the same for SQLite and PostgreSQL."""

from collections.abc import Sequence
from typing import Any, Protocol

import orjson
from sqlalchemy import JSON, ColumnElement, Connection, Engine, RowMapping, bindparam, column, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from service.domain import Ref
from service.store.base import CountFilters, Filters, Input, KeptInput, Page, Record, lowest_id, milliseconds_of
from service.store.databases import driver_of, sqlite_transaction, transaction
from service.store.sql_counts import SqlCounts, fresh_by_driver, once
from service.store.sql_inputs import SQLITE_INSERT, SqlInputs, rows_of
from service.store.tables import predictions


class Joining(Protocol):
    """What was said of predictions before they were there."""

    def concerns(self, records: Sequence[Record]) -> bool:
        """Whether anything may have been."""
        ...

    def join(self, connection: Connection, records: Sequence[Record]) -> int:
        """Let it count for these, which the connection's transaction has just written; how many events waited."""
        ...


class SqlPredictions:
    """Over an engine that may only read, the verbs that change something fail."""

    def __init__(self, engine: Engine, joining: Joining | None = None) -> None:
        """`joining`: over the same engine; without it, what was said of predictions before they were there is lost."""
        self._engine = engine
        self._joining = joining
        self._inputs = SqlInputs(engine)
        self.counts = SqlCounts(engine)
        self._is_sqlite = engine.dialect.name == "sqlite"

    def append(self, records: Sequence[Record], inputs: Sequence[Input] = ()) -> int:
        waited = self._append(records, inputs) if records else 0
        self._inputs.count(inputs)
        return waited

    def _append(self, records: Sequence[Record], inputs: Sequence[Input]) -> int:
        self.counts.know()
        joining = self._joining if self._joining is not None and self._joining.concerns(records) else None
        if self._is_sqlite and joining is None:
            with sqlite_transaction(self._engine) as driver:
                fresh = fresh_by_driver(driver, _SQLITE, _rows(records), records)
                self.counts.write_by_driver(driver, fresh)
                if inputs:
                    driver.executemany(SQLITE_INSERT, rows_of(inputs))
            return 0
        with transaction(self._engine) as connection:
            if self._is_sqlite:
                driver = driver_of(connection)
                fresh = fresh_by_driver(driver, _SQLITE, _rows(records), records)
            else:
                rows = [{"time": milliseconds_of(record.id), **record._asdict()} for record in records]
                new = set(connection.scalars(_POSTGRES, {"rows": rows}))
                fresh = once(records, new)
            self.counts.write(connection, fresh)
            if inputs:
                self._inputs.write(connection, inputs)
            return 0 if joining is None else joining.join(connection, records)

    def get(self, prediction_id: str) -> Record | None:
        with transaction(self._engine) as connection:
            row = connection.execute(select(predictions).where(predictions.c.id == prediction_id)).one_or_none()
        return None if row is None else record_of(row._mapping)

    def input(self, prediction_id: str) -> Input | None:
        return self._inputs.get(prediction_id)

    def inputs(self, ids: Sequence[str]) -> Sequence[Input]:
        return self._inputs.of(ids)

    def latest_inputs(self, ref: Ref, since: float, *, limit: int) -> Sequence[KeptInput]:
        return self._inputs.latest(ref, since, limit=limit)

    def served_since(self, model: str, time: float) -> Sequence[int]:
        return self.counts.served_since(model, time)

    def list(self, filters: Filters, *, limit: int, cursor: str | None = None) -> Page:
        conditions = _conditions(filters)
        if cursor is not None:
            conditions.append(predictions.c.id < cursor)
        # One more than asked for, to know whether there are more.
        query = select(predictions).where(*conditions).order_by(predictions.c.id.desc()).limit(limit + 1)
        with transaction(self._engine) as connection:
            found = [record_of(row._mapping) for row in connection.execute(query)]
        page = found[:limit]
        return Page(page, page[-1].id if len(found) > limit else None)

    def delete_older_than(self, time: float, *, limit: int) -> int:
        oldest = select(predictions.c.id).where(predictions.c.id < lowest_id(time))
        portion = oldest.order_by(predictions.c.id).limit(limit)
        with transaction(self._engine) as connection:
            self.counts.delete_older_than(connection, time)
            return connection.execute(delete(predictions).where(predictions.c.id.in_(portion))).rowcount

    def count(self, filters: CountFilters) -> int:
        return self.counts.count(filters)

    def delete_inputs(self, older_than: float, max_bytes: int, *, limit: int) -> int:
        return self._inputs.delete(older_than, max_bytes, limit=limit)


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    columns = predictions.c
    conditions = []
    if filters.model is not None:
        conditions.append(columns.model == filters.model)
    if filters.version is not None:
        conditions.append(columns.version == filters.version)
    if filters.external_id is not None:
        conditions.append(columns.external_id == filters.external_id)
    if filters.since is not None:
        conditions.append(columns.id >= lowest_id(filters.since))
    if filters.until is not None:
        conditions.append(columns.id < lowest_id(filters.until))
    return conditions


# A group goes to the driver as a whole: SQLAlchemy would look at each parameter of each row, and psycopg would send
# each row by itself.

_COLUMNS = [column.name for column in predictions.c]
_SQLITE = str(
    sqlite.insert(predictions).on_conflict_do_nothing(index_elements=["id"]).compile(dialect=sqlite.dialect())
)
_ROWS = func.json_to_recordset(bindparam("rows", type_=JSON)).table_valued(
    *(column(one.name, one.type) for one in predictions.c)
)
_POSTGRES = (
    postgresql.insert(predictions)
    .from_select(_COLUMNS, select(_ROWS.render_derived(with_types=True)))
    .on_conflict_do_nothing(index_elements=["id"])
    .returning(predictions.c.id)
)


def _rows(records: Sequence[Record]) -> list[tuple[Any, ...]]:
    return [_row(record) for record in records]


def _row(record: Record) -> tuple[Any, ...]:
    """What goes into each column, in the order of the table's."""
    return (
        record.id,
        milliseconds_of(record.id),
        record.model,
        record.version,
        record.digest,
        record.role,
        record.paired_with,
        record.propensity,
        record.external_id,
        record.key,
        orjson.dumps(record.tags).decode(),
        orjson.dumps(record.outputs).decode(),
        record.latency,
        record.principal,
        record.request_id,
        record.scores,
    )


def record_of(row: RowMapping) -> Record:
    return Record(**{name: row[name] for name in Record._fields})
