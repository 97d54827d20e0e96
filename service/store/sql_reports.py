"""Reports of offline evaluations in SQL."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, delete, insert, select

from service.store.base import StoredReport
from service.store.databases import portions, transaction
from service.store.tables import evaluations

# Of a model; the oldest make room.
_MOST_REPORTS = 1_000
_COLUMNS = [evaluations.c[name] for name in StoredReport._fields]


class SqlReports:
    """Over an engine that may only read, the verb that changes something fails."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, report_id: str) -> StoredReport | None:
        with transaction(self._engine) as connection:
            row = connection.execute(select(*_COLUMNS).where(evaluations.c.id == report_id)).one_or_none()
        return None if row is None else StoredReport(*row)

    def list(
        self, model: str, version: int | None, *, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[StoredReport], str | None]:
        columns = evaluations.c
        conditions: list[Any] = [columns.model == model]
        if version is not None:
            conditions.append((columns.version == version) | (columns.against == version))
        if cursor is not None:
            conditions.append(columns.id < cursor)
        # One more than asked for, to know whether there are more.
        query = select(*_COLUMNS).where(*conditions).order_by(columns.id.desc()).limit(limit + 1)
        with transaction(self._engine) as connection:
            found = [StoredReport(*row) for row in connection.execute(query)]
        page = found[:limit]
        return page, page[-1].id if len(found) > limit else None

    def keep(self, report: StoredReport) -> None:
        columns = evaluations.c
        latest = select(columns.id).where(columns.model == report.model).order_by(columns.id.desc())
        with transaction(self._engine) as connection:
            if connection.execute(select(columns.id).where(columns.id == report.id)).one_or_none() is None:
                connection.execute(insert(evaluations).values(report._asdict()))
            for portion in portions(connection.scalars(latest.offset(_MOST_REPORTS)).all()):
                connection.execute(delete(evaluations).where(columns.id.in_(portion)))
