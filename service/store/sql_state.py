"""The rows of control state that its verbs share: the revision, versions, wishes, aliases and their moves.

Everything here works within its caller's transaction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Table, and_, insert, select, update

from service.domain import Loading, Precision, Ref, Wish
from service.errors import UnknownModel, UnknownVersion
from service.store.base import Aliases, AliasMove
from service.store.tables import alias_history, aliases, revision, versions, wishes

MOVES = select(alias_history).order_by(alias_history.c.id.desc())
"""All moves of aliases, the newest first."""


def lock(connection: Connection) -> int:
    """The revision. From here to the transaction's end nobody else changes anything: they wait for this row."""
    query = update(revision).values(value=revision.c.value).returning(revision.c.value)
    number: int = connection.execute(query).scalar_one()
    return number


def raise_to(connection: Connection, number: int) -> None:
    connection.execute(update(revision).values(value=number))


def known_versions(connection: Connection, model: str) -> Sequence[int]:
    """The versions of a model that are not deleted. Raises UnknownModel."""
    is_there = versions.c.deleted.is_(None)
    known = connection.scalars(select(versions.c.version).where(versions.c.model == model, is_there)).all()
    if not known:
        names = connection.scalars(select(versions.c.model).where(is_there).distinct().order_by(versions.c.model))
        raise UnknownModel(model, list(names))
    return known


def check_there(connection: Connection, ref: Ref) -> None:
    """Raises UnknownModel or UnknownVersion."""
    known = known_versions(connection, ref.model)
    if ref.version not in known:
        raise UnknownVersion(ref.model, str(ref.version), [str(one) for one in sorted(known)])


def is_of(table: Table, ref: Ref) -> ColumnElement[bool]:
    """The rows of a table that tell of this version."""
    return and_(table.c.model == ref.model, table.c.version == ref.version)


def wish_of(connection: Connection, ref: Ref) -> Wish:
    row = connection.execute(select(wishes).where(is_of(wishes, ref))).one_or_none()
    return Wish() if row is None else wish_in(row._mapping)


def wish_in(row: RowMapping) -> Wish:
    return Wish(Loading(row["loading"]), row["replicas"], Precision(row["precision"]), row["generation"])


def aliases_in(connection: Connection) -> Aliases:
    return _table(tuple(row) for row in connection.execute(select(aliases)))


def _table(rows: Iterable[tuple[str, str, int]]) -> Aliases:
    table: Aliases = {}
    for model, alias, version in rows:
        table.setdefault(model, {})[alias] = version
    return table


def put_move(connection: Connection, move: AliasMove) -> None:
    """Let the alias name the version, and write its history."""
    if move.previous is None:
        connection.execute(insert(aliases).values(model=move.model, alias=move.alias, version=move.version))
    else:
        this = and_(aliases.c.model == move.model, aliases.c.alias == move.alias)
        connection.execute(update(aliases).where(this).values(version=move.version))
    connection.execute(insert(alias_history).values({**asdict(move), "time": round(move.time * 1000)}))


def moves_in(connection: Connection, query: Select[Any]) -> list[AliasMove]:
    return [_move(row._mapping) for row in connection.execute(query)]


def _move(row: RowMapping) -> AliasMove:
    facts = {name: row[name] for name in AliasMove.__dataclass_fields__}
    return AliasMove(**{**facts, "time": facts["time"] / 1000})
