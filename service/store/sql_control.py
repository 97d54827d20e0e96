"""Control state in SQL, the same for SQLite and PostgreSQL."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import asdict
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Table, and_, delete, insert, inspect, select, update

from service.domain import CHAMPION, Loading, Ref, Rollout, Stage, Wish
from service.errors import AliasMoved, VersionInUse, VersionUnloaded
from service.store import sql_rollouts
from service.store.base import NO_CONTRACTS, Aliases, AliasMove, Contracts, Found, State, WishChange, champions
from service.store.databases import Location, Part, portions, snapshot, sqlite_value, transaction
from service.store.feedback import ModelContract
from service.store.rollouts import NO_POLICY, Decision, RolloutChange
from service.store.sql_rollouts import check_movable, rollouts_in
from service.store.sql_state import (
    MOVES,
    aliases_in,
    check_there,
    is_of,
    known_versions,
    lock,
    moves_in,
    put_move,
    raise_to,
    wish_in,
    wish_of,
)
from service.store.tables import alias_history, aliases, contracts, revision, versions, wishes

T = TypeVar("T")

log = logging.getLogger(__name__)

SUPERVISOR = "supervisor"

_REVISION = str(select(revision.c.value))


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
            named, on_trial = aliases_in(connection), rollouts_in(connection)
        return State(
            number,
            named,
            {Ref(row.model, row.version): wish for row in wanted if (wish := wish_in(row._mapping)) != Wish()},
            frozenset(Ref(row.model, row.version) for row in gone),
            frozenset(Ref(row.model, row.version) for row in gone if row.removed is None),
            on_trial,
        )

    def history(self, model: str, *, limit: int = 100) -> list[AliasMove]:
        with transaction(self._engine) as connection:
            return moves_in(connection, MOVES.where(alias_history.c.model == model).limit(limit))

    def contracts(self) -> dict[str, ModelContract]:
        with transaction(self._engine) as connection:
            return _contracts(connection)

    def move_alias(
        self, model: str, alias: str, version: int, *, actor: str, reason: str, expected: int | None = None
    ) -> AliasMove:
        with transaction(self._engine) as connection:
            number = lock(connection)
            ref = Ref(model, version)
            check_there(connection, ref)
            current = aliases_in(connection).get(model, {}).get(alias)
            if expected is not None and current != expected:
                raise AliasMoved(model, alias, expected=expected, found=current)
            if current == version:
                this = and_(alias_history.c.model == model, alias_history.c.alias == alias)
                [move] = moves_in(connection, MOVES.where(this).limit(1))
                return move
            check_movable(connection, model, alias)
            if wish_of(connection, ref).loading is Loading.UNLOADED:
                raise VersionUnloaded(ref)
            move = AliasMove(model, alias, version, current, actor, reason, self._now(), number + 1)
            put_move(connection, move)
            raise_to(connection, number + 1)
            return move

    def change_wish(self, ref: Ref, change: WishChange) -> Wish:
        with transaction(self._engine) as connection:
            number = lock(connection)
            check_there(connection, ref)
            before = wish_of(connection, ref)
            wish = _changed(before, change)
            if wish.loading is Loading.UNLOADED:
                if not change.in_use_too:
                    _check_unused(connection, ref)
                if change.reload:
                    raise VersionUnloaded(ref)
            if wish != before:
                connection.execute(delete(wishes).where(is_of(wishes, ref)))
                connection.execute(insert(wishes).values(model=ref.model, version=ref.version, **asdict(wish)))
                raise_to(connection, number + 1)
            return wish

    def delete_version(self, ref: Ref) -> None:
        with transaction(self._engine) as connection:
            number = lock(connection)
            check_there(connection, ref)
            _check_unused(connection, ref)
            self._delete(connection, is_of(versions, ref), is_of(wishes, ref))
            raise_to(connection, number + 1)

    def delete_model(self, model: str, numbers: Collection[int]) -> None:
        with transaction(self._engine) as connection:
            number = lock(connection)
            known_versions(connection, model)
            for version in numbers:
                ref = Ref(model, version)
                self._delete(connection, is_of(versions, ref), is_of(wishes, ref))
            connection.execute(delete(aliases).where(aliases.c.model == model))
            sql_rollouts.forget(connection, model)
            raise_to(connection, number + 1)

    def note_removed(self, ref: Ref) -> None:
        is_waiting = and_(is_of(versions, ref), versions.c.deleted.is_not(None), versions.c.removed.is_(None))
        with transaction(self._engine) as connection:
            number = lock(connection)
            if connection.execute(update(versions).where(is_waiting).values(removed=self._milliseconds())).rowcount:
                raise_to(connection, number + 1)

    def crown_new_models(self, found: Found, shared: Contracts = NO_CONTRACTS) -> Aliases:
        with transaction(self._engine) as connection:
            number = lock(connection)
            _note_contracts(connection, shared)
            there = _without(found, _deleted(connection))
            changed = self._remember(connection, there)
            crowned = champions(aliases_in(connection), {model: list(numbers) for model, numbers in there.items()})
            why = "the first version of a new model"
            for model, version in crowned.items():
                put_move(
                    connection, AliasMove(model, CHAMPION, version, None, SUPERVISOR, why, self._now(), number + 1)
                )
            if changed or crowned:
                raise_to(connection, number + 1)
            return aliases_in(connection)

    def import_aliases(self, kept: Aliases) -> None:
        why = "imported from a file"
        with transaction(self._engine) as connection:
            number = lock(connection)
            gone = _deleted(connection)
            moves = [
                AliasMove(model, alias, version, None, SUPERVISOR, why, self._now(), number + 1)
                for model in sorted(kept.keys() - aliases_in(connection).keys())
                for alias, version in kept[model].items()
                if Ref(model, version) not in gone
            ]
            for move in moves:
                put_move(connection, move)
            if moves:
                raise_to(connection, number + 1)

    def decisions(self, model: str, *, limit: int = 100) -> list[Decision]:
        with transaction(self._engine) as connection:
            return sql_rollouts.decisions_of(connection, model, limit)

    def previous_champion(self, model: str) -> int | None:
        with transaction(self._engine) as connection:
            return sql_rollouts.previous_champion(connection, model)

    def begin_rollout(
        self,
        model: str,
        version: int,
        *,
        stage: Stage,
        share: float,
        paused: bool = False,
        policy: Mapping[str, Any] = NO_POLICY,
        actor: str,
        reason: str,
    ) -> Rollout:
        terms, now = RolloutChange(stage, share, paused, policy), self._milliseconds()
        with transaction(self._engine) as connection:
            return sql_rollouts.begin(connection, Ref(model, version), terms, now, actor=actor, reason=reason)

    def change_rollout(
        self,
        model: str,
        change: RolloutChange,
        *,
        expected_version: int | None = None,
        expected_stage: Stage | None = None,
        actor: str,
        reason: str,
    ) -> Rollout:
        with transaction(self._engine) as connection:
            return sql_rollouts.alter(
                connection,
                model,
                change,
                self._milliseconds(),
                expected_version=expected_version,
                expected_stage=expected_stage,
                actor=actor,
                reason=reason,
            )

    def promote(self, model: str, version: int, *, actor: str, reason: str, expected: int | None = None) -> Decision:
        ref, now = Ref(model, version), self._milliseconds()
        with transaction(self._engine) as connection:
            return sql_rollouts.promote(connection, ref, now, actor=actor, reason=reason, expected=expected)

    def roll_back(self, model: str, *, actor: str, reason: str, expected: int | None = None) -> Decision:
        now = self._milliseconds()
        with transaction(self._engine) as connection:
            return sql_rollouts.roll_back(connection, model, now, actor=actor, reason=reason, expected=expected)

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
            connection.execute(update(versions).where(is_of(versions, Ref(model, version))).values(digest=digest))
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
    return _read(location, aliases_in, aliases, {})


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


def _check_unused(connection: Connection, ref: Ref) -> None:
    """Raises VersionInUse."""
    names = connection.scalars(select(aliases.c.alias).where(is_of(aliases, ref)).order_by(aliases.c.alias)).all()
    if names:
        raise VersionInUse(ref, list(names))


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


def _changed(wish: Wish, change: WishChange) -> Wish:
    precision = change.precision or wish.precision
    as_it_was = Loading.AUTO if change.load and wish.loading is Loading.UNLOADED else wish.loading
    return Wish(
        change.loading or as_it_was,
        change.replicas or wish.replicas,
        precision,
        wish.generation + (change.reload or precision is not wish.precision),
    )
