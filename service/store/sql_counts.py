"""How many predictions were made, by minute and by tag: kept up to date with the log, so that nobody need count rows.

A slice is the predictions with one tag, `name:value`; the empty one is all of them.
"""

import logging
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from service.store.base import CountFilters, Record, milliseconds_of
from service.store.databases import transaction
from service.store.tables import prediction_counts

log = logging.getLogger(__name__)

_MINUTE_MILLISECONDS = 60_000
# Of one model. Tags may hold ids, which would make a slice of every prediction.
_MOST_SLICES = 256

_KEY = ("model", "slice", "minute", "version", "role")
_SQLITE_INSERT = sqlite.insert(prediction_counts)
_SQLITE = str(
    _SQLITE_INSERT.on_conflict_do_update(
        index_elements=_KEY, set_={"count": prediction_counts.c.count + _SQLITE_INSERT.excluded.count}
    ).compile(dialect=sqlite.dialect())
)
_POSTGRES_INSERT = postgresql.insert(prediction_counts)
_POSTGRES = _POSTGRES_INSERT.on_conflict_do_update(
    index_elements=_KEY, set_={"count": prediction_counts.c.count + _POSTGRES_INSERT.excluded.count}
)
_BOUND = [f"_{name}" for name in (*_KEY, "count")]
_TAKEN_BACK = (
    update(prediction_counts)
    .where(*(prediction_counts.c[name] == bindparam(f"_{name}") for name in _KEY))
    # A tag that was one too many when a prediction was made was not counted.
    .where(prediction_counts.c.count >= bindparam("_count"))
    .values(count=prediction_counts.c.count - bindparam("_count"))
)

# A tag that nothing has must not be told by what counted it.
_EMPTIED = delete(prediction_counts).where(
    *(prediction_counts.c[name] == bindparam(f"_{name}") for name in _KEY), prediction_counts.c.count == 0
)


class SqlCounts:
    """Over an engine that may only read, the verbs that change something fail."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._slices: dict[str, set[str]] | None = None

    def know(self) -> None:
        """Look once which slices there are, before a transaction."""
        if self._slices is None:
            columns = prediction_counts.c
            found: dict[str, set[str]] = defaultdict(set)
            with transaction(self._engine) as connection:
                for row in connection.execute(select(columns.model, columns.slice).distinct()):
                    found[row.model].add(row.slice)
            self._slices = found

    def write_by_driver(self, driver: sqlite3.Connection, records: Iterable[Record]) -> None:
        """Count records in a transaction of SQLite's driver."""
        driver.executemany(_SQLITE, self._rows(records))

    def take_back(self, connection: Connection, records: Iterable[Record]) -> None:
        """Count records no more, in a transaction, as far as they were."""
        rows = [dict(zip(_BOUND, row, strict=True)) for row in self._rows(records)]
        if rows:
            connection.execute(_TAKEN_BACK, rows)
            connection.execute(_EMPTIED, rows)

    def write(self, connection: Connection, records: Iterable[Record]) -> None:
        """Count records in a transaction."""
        rows = self._rows(records)
        if not rows:
            return
        if self._engine.dialect.name == "postgresql":
            connection.execute(_POSTGRES, [dict(zip((*_KEY, "count"), row, strict=True)) for row in rows])
        else:
            connection.exec_driver_sql(_SQLITE, rows)

    def count(self, filters: CountFilters) -> int:
        columns = prediction_counts.c
        conditions = [columns.model == filters.model, columns.slice == filters.slice]
        if filters.version is not None:
            conditions.append(columns.version == filters.version)
        if filters.role is not None:
            conditions.append(columns.role == filters.role)
        if filters.since is not None:
            conditions.append(columns.minute >= int(filters.since // 60))
        if filters.until is not None:
            conditions.append(columns.minute < -int(-filters.until // 60))
        with transaction(self._engine) as connection:
            total = connection.execute(select(func.coalesce(func.sum(columns.count), 0)).where(*conditions))
            return int(total.scalar_one())

    def served_since(self, model: str, time: float) -> list[int]:
        columns = prediction_counts.c
        later = (columns.model == model, columns.slice == "", columns.minute >= int(time // 60), columns.count > 0)
        with transaction(self._engine) as connection:
            return list(connection.scalars(select(columns.version).distinct().where(*later).order_by(columns.version)))

    def delete_older_than(self, connection: Connection, time: float) -> None:
        """In a transaction that is open."""
        connection.execute(delete(prediction_counts).where(prediction_counts.c.minute < int(time // 60)))

    def _rows(self, records: Iterable[Record]) -> list[tuple[Any, ...]]:
        """What goes into each column; in one order, so that several recorders don't wait for one another in circles."""
        counts: Counter[tuple[Any, ...]] = Counter()
        for record in records:
            minute = milliseconds_of(record.id) // _MINUTE_MILLISECONDS
            for name in self._slices_of(record):
                counts[record.model, name, minute, record.version, record.role] += 1
        return [(*key, count) for key, count in sorted(counts.items())]

    def _slices_of(self, record: Record) -> list[str]:
        if not record.tags:
            return [""]
        assert self._slices is not None
        known = self._slices.setdefault(record.model, set())
        kept = [""]
        for name, value in record.tags.items():
            tag = f"{name}:{value}"
            if tag not in known:
                if len(known) >= _MOST_SLICES:
                    continue
                known.add(tag)
                if len(known) == _MOST_SLICES:
                    log.warning("a model has too many tags: new ones are not counted", extra={"model": record.model})
            kept.append(tag)
        return kept


def fresh_by_driver(
    driver: sqlite3.Connection, statement: str, rows: Sequence[Any], records: Sequence[Record]
) -> Sequence[Record]:
    """Insert rows by SQLite's driver; those of the records that were not there before."""
    (last,) = driver.execute("SELECT coalesce(max(rowid), 0) FROM predictions").fetchone()
    before = driver.total_changes
    driver.executemany(statement, rows)
    if driver.total_changes - before == len(rows):
        return records
    new = {identity for (identity,) in driver.execute("SELECT id FROM predictions WHERE rowid > ?", (last,))}
    return once(records, new)


def once(records: Iterable[Record], new: set[str]) -> list[Record]:
    """Each of these ids once: a group may hold one twice."""
    return list({record.id: record for record in records if record.id in new}.values())
