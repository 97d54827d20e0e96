"""Control state in SQL, the same for SQLite and PostgreSQL."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Select, and_, insert, inspect, select, true, update

from service.domain import CHAMPION
from service.errors import AliasMoved, UnknownModel, UnknownVersion
from service.store.base import Aliases, AliasMove, Found, State, champions
from service.store.databases import Location, Part, transaction
from service.store.tables import alias_history, aliases, revision, versions

log = logging.getLogger(__name__)

SUPERVISOR = "supervisor"

_MOVES = select(alias_history).order_by(alias_history.c.id.desc())


class SqlControl:
    """Over an engine that may only read, the verbs that change something fail.

    `clock` in seconds since 1970.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    def revision(self) -> int:
        with transaction(self._engine) as connection:
            number: int = connection.execute(select(revision.c.value)).scalar_one()
            return number

    def aliases(self) -> Aliases:
        return self.state().aliases

    def state(self) -> State:
        # One statement, because two could see two revisions.
        query = select(revision.c.value, aliases).select_from(revision.outerjoin(aliases, true()))
        with transaction(self._engine) as connection:
            rows = connection.execute(query).all()
        named = ((row.model, row.alias, row.version) for row in rows if row.model is not None)
        return State(rows[0].value, _table(named))

    def history(self, model: str, *, limit: int = 100) -> list[AliasMove]:
        with transaction(self._engine) as connection:
            return _moves(connection, _MOVES.where(alias_history.c.model == model).limit(limit))

    def move_alias(
        self, model: str, alias: str, version: int, *, actor: str, reason: str, expected: int | None = None
    ) -> AliasMove:
        with transaction(self._engine) as connection:
            number = _lock(connection)
            _check_seen(connection, model, version)
            current = _aliases(connection).get(model, {}).get(alias)
            if expected is not None and current != expected:
                raise AliasMoved(model, alias, expected=expected, found=current)
            if current == version:
                this = and_(alias_history.c.model == model, alias_history.c.alias == alias)
                [move] = _moves(connection, _MOVES.where(this).limit(1))
                return move
            move = AliasMove(model, alias, version, current, actor, reason, self._now(), number + 1)
            _put(connection, move)
            _raise_to(connection, number + 1)
            return move

    def crown_new_models(self, found: Found) -> Aliases:
        with transaction(self._engine) as connection:
            number = _lock(connection)
            changed = self._remember(connection, found)
            crowned = champions(_aliases(connection), {model: list(numbers) for model, numbers in found.items()})
            why = "the first version of a new model"
            for model, version in crowned.items():
                _put(connection, AliasMove(model, CHAMPION, version, None, SUPERVISOR, why, self._now(), number + 1))
            if changed or crowned:
                _raise_to(connection, number + 1)
            return _aliases(connection)

    def import_aliases(self, kept: Aliases) -> None:
        why = "imported from a file"
        with transaction(self._engine) as connection:
            number = _lock(connection)
            fresh = sorted(kept.keys() - _aliases(connection).keys())
            for model in fresh:
                for alias, version in kept[model].items():
                    _put(connection, AliasMove(model, alias, version, None, SUPERVISOR, why, self._now(), number + 1))
            if fresh:
                _raise_to(connection, number + 1)

    def _remember(self, connection: Connection, found: Found) -> bool:
        """Note versions that are new, and digests that are not what they were; whether there were any."""
        rows = connection.execute(select(versions.c.model, versions.c.version, versions.c.digest))
        seen = {(row.model, row.version): row.digest for row in rows}
        there = {(model, version): digest for model, numbers in found.items() for version, digest in numbers.items()}
        fresh = [
            {"model": model, "version": version, "digest": digest, "first_seen": round(self._now() * 1000)}
            for (model, version), digest in there.items()
            if (model, version) not in seen
        ]
        if fresh:
            connection.execute(insert(versions), fresh)
        replaced = {key: digest for key, digest in there.items() if seen.get(key, digest) != digest}
        for (model, version), digest in replaced.items():
            log.warning("a version's weights are not those seen before", extra={"ref": f"{model}/{version}"})
            this = and_(versions.c.model == model, versions.c.version == version)
            connection.execute(update(versions).where(this).values(digest=digest))
        return bool(fresh or replaced)

    def _now(self) -> float:
        """Whole milliseconds, as they are stored."""
        return round(self._clock() * 1000) / 1000


def read_aliases(location: Location) -> Aliases:
    """All aliases, where no service need run; none where none ever ran. Raises StoreUnavailable or Misconfigured."""
    if location.url is None and not location.file(Part.CONTROL).exists():
        return {}
    engine = location.reader(Part.CONTROL)
    try:
        with transaction(engine) as connection:
            return _aliases(connection) if inspect(connection).has_table(aliases.name) else {}
    finally:
        engine.dispose()


def _lock(connection: Connection) -> int:
    """The revision. From here to the transaction's end nobody else changes anything: they wait for this row."""
    query = update(revision).values(value=revision.c.value).returning(revision.c.value)
    number: int = connection.execute(query).scalar_one()
    return number


def _raise_to(connection: Connection, number: int) -> None:
    connection.execute(update(revision).values(value=number))


def _check_seen(connection: Connection, model: str, version: int) -> None:
    known = connection.scalars(select(versions.c.version).where(versions.c.model == model)).all()
    if not known:
        names = connection.scalars(select(versions.c.model).distinct().order_by(versions.c.model))
        raise UnknownModel(model, list(names))
    if version not in known:
        raise UnknownVersion(model, str(version), [str(one) for one in sorted(known)])


def _aliases(connection: Connection) -> Aliases:
    return _table(tuple(row) for row in connection.execute(select(aliases)))


def _table(rows: Iterable[tuple[str, str, int]]) -> Aliases:
    table: Aliases = {}
    for model, alias, version in rows:
        table.setdefault(model, {})[alias] = version
    return table


def _put(connection: Connection, move: AliasMove) -> None:
    """Let the alias name the version, and write its history."""
    if move.previous is None:
        connection.execute(insert(aliases).values(model=move.model, alias=move.alias, version=move.version))
    else:
        this = and_(aliases.c.model == move.model, aliases.c.alias == move.alias)
        connection.execute(update(aliases).where(this).values(version=move.version))
    connection.execute(insert(alias_history).values({**asdict(move), "time": round(move.time * 1000)}))


def _moves(connection: Connection, query: Select[Any]) -> list[AliasMove]:
    return [_move(row._mapping) for row in connection.execute(query)]


def _move(row: RowMapping) -> AliasMove:
    facts = {name: row[name] for name in AliasMove.__dataclass_fields__}
    return AliasMove(**{**facts, "time": facts["time"] / 1000})
