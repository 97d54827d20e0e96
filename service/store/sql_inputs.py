"""Inputs of predictions in SQL, within bounds."""

import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from service.domain import Ref
from service.store.base import Input, KeptInput, lowest_id
from service.store.databases import portions, transaction
from service.store.tables import inputs, predictions

_DIGEST_BYTES = 16

SQLITE_INSERT = str(sqlite.insert(inputs).on_conflict_do_nothing().compile(dialect=sqlite.dialect()))
_POSTGRES_INSERT = postgresql.insert(inputs).on_conflict_do_nothing()
_COLUMNS = [column.name for column in inputs.c]


class SqlInputs:
    """Over an engine that may only read, the verbs that change something fail."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._num_bytes: int | None = None

    def write(self, connection: Connection, kept: Sequence[Input]) -> None:
        """Write inputs in a transaction that is open."""
        if self._engine.dialect.name == "postgresql":
            connection.execute(_POSTGRES_INSERT, [dict(zip(_COLUMNS, row, strict=True)) for row in rows_of(kept)])
        else:
            connection.exec_driver_sql(SQLITE_INSERT, rows_of(kept))

    def count(self, kept: Sequence[Input]) -> None:
        """Know of inputs that were written."""
        if self._num_bytes is not None:
            self._num_bytes += sum(len(one.data) for one in kept)

    def get(self, prediction_id: str) -> Input | None:
        names = [inputs.c[name] for name in Input._fields]
        with transaction(self._engine) as connection:
            row = connection.execute(select(*names).where(inputs.c.prediction_id == prediction_id)).one_or_none()
        return None if row is None else Input(**{**row._mapping, "data": bytes(row.data)})

    def of(self, ids: Sequence[str]) -> list[Input]:
        query = select(*(inputs.c[name] for name in Input._fields))
        with transaction(self._engine) as connection:
            return [
                Input(**{**row._mapping, "data": bytes(row.data)})
                for portion in portions(ids)
                for row in connection.execute(query.where(inputs.c.prediction_id.in_(portion)))
            ]

    def latest(self, ref: Ref, since: float, *, limit: int) -> list[KeptInput]:
        columns = inputs.c
        newest = (
            select(columns.prediction_id, columns.size)
            .join(predictions, predictions.c.id == columns.prediction_id)
            .where(
                columns.model == ref.model,
                columns.prediction_id >= lowest_id(since),
                columns.chosen == "uniform",
                predictions.c.version == ref.version,
            )
            .order_by(columns.prediction_id.desc())
            .limit(limit)
        )
        with transaction(self._engine) as connection:
            return [KeptInput(*row) for row in connection.execute(newest)]

    def delete(self, older_than: float, max_bytes: int, *, limit: int) -> int:
        """As `Predictions.delete_inputs`."""
        columns = inputs.c
        oldest = select(columns.prediction_id, columns.size).order_by(columns.prediction_id).limit(limit)
        with transaction(self._engine) as connection:
            if self._num_bytes is None or self._engine.dialect.name == "postgresql":  # other recorders write there too
                self._num_bytes = connection.execute(select(func.coalesce(func.sum(columns.size), 0))).scalar_one()
            surplus = self._num_bytes - max_bytes
            if surplus <= 0:
                oldest = oldest.where(columns.prediction_id < lowest_id(older_than))
            gone, num_bytes = [], 0
            for prediction_id, size in connection.execute(oldest):
                if num_bytes >= surplus and prediction_id >= lowest_id(older_than):
                    break
                gone.append(prediction_id)
                num_bytes += size
            for portion in portions(gone):
                connection.execute(delete(inputs).where(columns.prediction_id.in_(portion)))
        self._num_bytes -= num_bytes
        return len(gone)


def rows_of(kept: Sequence[Input]) -> list[tuple[Any, ...]]:
    """What goes into each column, in the order of the table's."""
    return [
        (
            one.prediction_id,
            one.model,
            one.form,
            one.chosen,
            one.probability,
            hashlib.blake2b(one.data, digest_size=_DIGEST_BYTES).hexdigest(),
            len(one.data),
            one.data,
        )
        for one in kept
    ]
