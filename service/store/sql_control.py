"""Control state in SQL, the same for SQLite and PostgreSQL."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence, Set
from dataclasses import asdict
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    Select,
    Table,
    and_,
    delete,
    insert,
    inspect,
    select,
    update,
)

from service.domain import CHAMPION, Loading, Precision, Ref, Wish
from service.errors import AliasMoved, UnknownModel, UnknownVersion, VersionInUse, VersionUnloaded
from service.store.base import NO_CONTRACTS, Aliases, AliasMove, Contracts, Found, State, WishChange, champions
from service.store.databases import Location, Part, portions, snapshot, sqlite_value, transaction
from service.store.feedback import ModelContract
from service.store.tables import alias_history, aliases, contracts, revision, versions, wishes

T = TypeVar("T")

log = logging.getLogger(__name__)

SUPERVISOR = "supervisor"

_REVISION = str(select(revision.c.value))
_MOVES = select(alias_history).order_by(alias_history.c.id.desc())


class SqlControl:
    """Over an engine that may only read, the verbs that change something fail.

    `clock` in seconds since 1970.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    def revision(self) -> int:
        # Every process asks for it ten times a second, and is often woken for this alone.
        number: int
        if self._engine.dialect.name == "sqlite":
            number = sqlite_value(self._engine, _REVISION)
        else:
            with transaction(self._engine) as connection:
                number = connection.exec_driver_sql(_REVISION).scalar_one()
        return number

    def aliases(self) -> Aliases:
        return self.state().aliases

    def state(self) -> State:
        with snapshot(self._engine) as connection:
            number: int = connection.execute(select(revision.c.value)).scalar_one()
            gone = connection.execute(select(versions).where(versions.c.deleted.is_not(None))).all()
            wanted = connection.execute(select(wishes)).all()
            named = _aliases(connection)
        return State(
            number,
            named,
            {Ref(row.model, row.version): wish for row in wanted if (wish := _wish(row._mapping)) != Wish()},
            frozenset(Ref(row.model, row.version) for row in gone),
            frozenset(Ref(row.model, row.version) for row in gone if row.removed is None),
        )

    def history(self, model: str, *, limit: int = 100) -> list[AliasMove]:
        with transaction(self._engine) as connection:
            return _moves(connection, _MOVES.where(alias_history.c.model == model).limit(limit))

    def contracts(self) -> dict[str, ModelContract]:
        with transaction(self._engine) as connection:
            return _contracts(connection)

    def move_alias(
        self, model: str, alias: str, version: int, *, actor: str, reason: str, expected: int | None = None
    ) -> AliasMove:
        with transaction(self._engine) as connection:
            number = _lock(connection)
            ref = Ref(model, version)
            _check_there(connection, ref)
            current = _aliases(connection).get(model, {}).get(alias)
            if expected is not None and current != expected:
                raise AliasMoved(model, alias, expected=expected, found=current)
            if current == version:
                this = and_(alias_history.c.model == model, alias_history.c.alias == alias)
                [move] = _moves(connection, _MOVES.where(this).limit(1))
                return move
            if _wish_of(connection, ref).loading is Loading.UNLOADED:
                raise VersionUnloaded(ref)
            move = AliasMove(model, alias, version, current, actor, reason, self._now(), number + 1)
            _put(connection, move)
            _raise_to(connection, number + 1)
            return move

    def change_wish(self, ref: Ref, change: WishChange) -> Wish:
        with transaction(self._engine) as connection:
            number = _lock(connection)
            _check_there(connection, ref)
            before = _wish_of(connection, ref)
            wish = _changed(before, change)
            if wish.loading is Loading.UNLOADED:
                if not change.in_use_too:
                    _check_unused(connection, ref)
                if change.reload:
                    raise VersionUnloaded(ref)
            if wish != before:
                connection.execute(delete(wishes).where(_is(wishes, ref)))
                connection.execute(insert(wishes).values(model=ref.model, version=ref.version, **asdict(wish)))
                _raise_to(connection, number + 1)
            return wish

    def delete_version(self, ref: Ref) -> None:
        with transaction(self._engine) as connection:
            number = _lock(connection)
            _check_there(connection, ref)
            _check_unused(connection, ref)
            self._delete(connection, _is(versions, ref), _is(wishes, ref))
            _raise_to(connection, number + 1)

    def delete_model(self, model: str, numbers: Collection[int]) -> None:
        with transaction(self._engine) as connection:
            number = _lock(connection)
            _known_versions(connection, model)
            for version in numbers:
                ref = Ref(model, version)
                self._delete(connection, _is(versions, ref), _is(wishes, ref))
            connection.execute(delete(aliases).where(aliases.c.model == model))
            _raise_to(connection, number + 1)

    def note_removed(self, ref: Ref) -> None:
        is_waiting = and_(_is(versions, ref), versions.c.deleted.is_not(None), versions.c.removed.is_(None))
        with transaction(self._engine) as connection:
            number = _lock(connection)
            if connection.execute(update(versions).where(is_waiting).values(removed=self._milliseconds())).rowcount:
                _raise_to(connection, number + 1)

    def crown_new_models(self, found: Found, shared: Contracts = NO_CONTRACTS) -> Aliases:
        with transaction(self._engine) as connection:
            number = _lock(connection)
            _note_contracts(connection, shared)
            there = _without(found, _deleted(connection))
            changed = self._remember(connection, there)
            crowned = champions(_aliases(connection), {model: list(numbers) for model, numbers in there.items()})
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
            gone = _deleted(connection)
            moves = [
                AliasMove(model, alias, version, None, SUPERVISOR, why, self._now(), number + 1)
                for model in sorted(kept.keys() - _aliases(connection).keys())
                for alias, version in kept[model].items()
                if Ref(model, version) not in gone
            ]
            for move in moves:
                _put(connection, move)
            if moves:
                _raise_to(connection, number + 1)

    def _remember(self, connection: Connection, found: Found) -> bool:
        """Note versions that are new, and digests that are not what they were; whether there were any."""
        rows = connection.execute(select(versions.c.model, versions.c.version, versions.c.digest))
        seen = {(row.model, row.version): row.digest for row in rows}
        there = {(model, version): digest for model, numbers in found.items() for version, digest in numbers.items()}
        fresh = [
            {"model": model, "version": version, "digest": digest, "first_seen": self._milliseconds()}
            for (model, version), digest in there.items()
            if (model, version) not in seen
        ]
        if fresh:
            connection.execute(insert(versions), fresh)
        replaced = {key: digest for key, digest in there.items() if seen.get(key, digest) != digest}
        for (model, version), digest in replaced.items():
            log.warning("a version's weights are not those seen before", extra={"ref": f"{model}/{version}"})
            connection.execute(update(versions).where(_is(versions, Ref(model, version))).values(digest=digest))
        return bool(fresh or replaced)

    def _delete(self, connection: Connection, those: ColumnElement[bool], their_wishes: ColumnElement[bool]) -> None:
        is_there = and_(those, versions.c.deleted.is_(None))
        connection.execute(update(versions).where(is_there).values(deleted=self._milliseconds()))
        connection.execute(delete(wishes).where(their_wishes))

    def _now(self) -> float:
        """In seconds, to the millisecond, as times are stored."""
        return self._milliseconds() / 1000

    def _milliseconds(self) -> int:
        return round(self._clock() * 1000)


def read_aliases(location: Location) -> Aliases:
    """All aliases, where no service need run; none where none ever ran. Raises StoreUnavailable or Misconfigured."""
    return _read(location, _aliases, aliases, {})


def read_versions(location: Location, model: str) -> dict[int, bool]:
    """Each version of a model that a service ever saw, and whether it was deleted; where no service need run.

    Raises StoreUnavailable or Misconfigured.
    """

    def read(connection: Connection) -> dict[int, bool]:
        # A store that only older releases have used has no such column.
        can_be_deleted = any(column["name"] == "deleted" for column in inspect(connection).get_columns(versions.name))
        deleted = {ref.version for ref in _deleted(connection) if ref.model == model} if can_be_deleted else set()
        seen = connection.scalars(select(versions.c.version).where(versions.c.model == model))
        return {number: number in deleted for number in seen}

    return _read(location, read, versions, {})


def _read(location: Location, read: Callable[[Connection], T], needed: Table, otherwise: T) -> T:
    """What `read` finds, or `otherwise` where there is no store, or not the table that it needs."""
    if location.url is None and not location.file(Part.CONTROL).exists():
        return otherwise
    engine = location.reader(Part.CONTROL)
    try:
        with transaction(engine) as connection:
            return read(connection) if inspect(connection).has_table(needed.name) else otherwise
    finally:
        engine.dispose()


def _lock(connection: Connection) -> int:
    """The revision. From here to the transaction's end nobody else changes anything: they wait for this row."""
    query = update(revision).values(value=revision.c.value).returning(revision.c.value)
    number: int = connection.execute(query).scalar_one()
    return number


def _raise_to(connection: Connection, number: int) -> None:
    connection.execute(update(revision).values(value=number))


def _known_versions(connection: Connection, model: str) -> Sequence[int]:
    """The versions of a model that are not deleted. Raises UnknownModel."""
    is_there = versions.c.deleted.is_(None)
    known = connection.scalars(select(versions.c.version).where(versions.c.model == model, is_there)).all()
    if not known:
        names = connection.scalars(select(versions.c.model).where(is_there).distinct().order_by(versions.c.model))
        raise UnknownModel(model, list(names))
    return known


def _check_there(connection: Connection, ref: Ref) -> None:
    """Raises UnknownModel or UnknownVersion."""
    known = _known_versions(connection, ref.model)
    if ref.version not in known:
        raise UnknownVersion(ref.model, str(ref.version), [str(one) for one in sorted(known)])


def _check_unused(connection: Connection, ref: Ref) -> None:
    """Raises VersionInUse."""
    names = connection.scalars(select(aliases.c.alias).where(_is(aliases, ref)).order_by(aliases.c.alias)).all()
    if names:
        raise VersionInUse(ref, list(names))


def _is(table: Table, ref: Ref) -> ColumnElement[bool]:
    """The rows of a table that tell of this version."""
    return and_(table.c.model == ref.model, table.c.version == ref.version)


def _deleted(connection: Connection) -> set[Ref]:
    query = select(versions.c.model, versions.c.version).where(versions.c.deleted.is_not(None))
    return {Ref(row.model, row.version) for row in connection.execute(query)}


def _without(found: Found, deleted: Set[Ref]) -> Found:
    """What is left of versions by model."""
    return {
        model: {version: digest for version, digest in numbers.items() if Ref(model, version) not in deleted}
        for model, numbers in found.items()
    }


def _contracts(connection: Connection) -> dict[str, ModelContract]:
    rows = connection.execute(select(contracts))
    return {row.model: ModelContract(row.task, tuple(row.labels)) for row in rows}


def _note_contracts(connection: Connection, shared: Contracts) -> None:
    known = _contracts(connection)
    changed = {model: contract for model, contract in shared.items() if known.get(model) != contract}
    if changed:
        for portion in portions(changed):
            connection.execute(delete(contracts).where(contracts.c.model.in_(portion)))
        rows = [{"model": model, **contract._asdict()} for model, contract in changed.items()]
        connection.execute(insert(contracts), rows)


def _wish_of(connection: Connection, ref: Ref) -> Wish:
    row = connection.execute(select(wishes).where(_is(wishes, ref))).one_or_none()
    return Wish() if row is None else _wish(row._mapping)


def _wish(row: RowMapping) -> Wish:
    return Wish(Loading(row["loading"]), row["replicas"], Precision(row["precision"]), row["generation"])


def _changed(wish: Wish, change: WishChange) -> Wish:
    precision = change.precision or wish.precision
    as_it_was = Loading.AUTO if change.load and wish.loading is Loading.UNLOADED else wish.loading
    return Wish(
        change.loading or as_it_was,
        change.replicas or wish.replicas,
        precision,
        wish.generation + (change.reload or precision is not wish.precision),
    )


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
